# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room in a folder, and what may be cleared, on real files."""

from __future__ import annotations

import time
from pathlib import Path

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.probes import disk, repairs

MOUNTS = "overlay / overlay rw 0 0\ntmpfs /tmp tmpfs rw 0 0\ntmpfs /tmp/a\\040b tmpfs rw 0 0\n"


def test_the_mount_that_holds_a_path() -> None:
    assert disk.mount_of("/tmp/x", MOUNTS) == {"mount": "/tmp", "type": "tmpfs"}
    assert disk.mount_of("/tmp/a b/x", MOUNTS)["mount"] == "/tmp/a b"
    assert disk.mount_of("/tmpx", MOUNTS)["mount"] == "/"


def test_the_servers_own_folder_for_temporary_files(tmp_path: Path) -> None:
    assert disk.temporary_folder({"TMPDIR": str(tmp_path)}) == str(tmp_path)
    assert disk.temporary_folder({"TMPDIR": str(tmp_path / "none"), "TMP": str(tmp_path)}) == str(tmp_path)


def test_what_is_measured(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "old.bin").write_bytes(bytes(8192))
    wanted = {"directory": str(tmp_path / "cache"), "older_than_seconds": -5}
    seen = disk.measure(wanted, {"TMPDIR": str(tmp_path)})
    assert seen["temporary"]["folder"] == str(tmp_path)
    assert 0 < seen["temporary"]["free_bytes"] <= seen["temporary"]["total_bytes"]
    assert seen["cache"]["mount"] == seen["temporary"]["mount"]
    assert (seen["cache"]["old_files"], seen["cache"]["old_bytes"]) == (1, 8192)
    assert disk.measure({**wanted, "directory": str(tmp_path / "none")}, {})["cache"] is None


def test_only_old_closed_files_are_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("closed", "open"):
        (folder / name).write_text("x")
    (tmp_path / "outside").write_text("x")
    (folder / "link").symlink_to(tmp_path / "outside")
    with (folder / "open").open():
        assert [name for _dummy, name, _status in disk.clearable(str(folder), time.time() + 5)] == ["closed"]
        assert not list(disk.clearable(str(folder), time.time() - 60))
        answer = repairs.clear_cache({"directory": str(folder), "older_than_seconds": -5})
    assert (answer["changed"], answer["removed"]) == (True, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["link", "open"]
    assert (tmp_path / "outside").exists()
