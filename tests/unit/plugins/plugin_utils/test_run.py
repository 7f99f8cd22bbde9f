# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a run and of a server's history."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import (
    EVIDENCE,
    REPORT,
    History,
    Run,
    RunError,
    read_json,
    server_folder,
    write_whole,
)


def test_a_file_is_for_its_owner_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_whole(path, "one")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("one", 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "two\ud800")
    assert (path.read_text(), [item.name for item in path.parent.iterdir()]) == ("one", ["file"])


def test_a_report_is_read_back_only_as_it_was_written(tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    digest = run.save({"a": 1}, "[]")
    assert (run.report(digest), run.evidence()) == ({"a": 1}, "[]")
    (tmp_path / REPORT).write_text('{"a": 2}')
    with pytest.raises(RunError, match="is not the one that the diagnosis wrote"):
        run.report(digest)
    (tmp_path / REPORT).unlink()
    with pytest.raises(RunError, match="cannot be read"):
        run.report(digest)


def test_a_new_run_has_a_folder_of_its_own_until_it_is_removed() -> None:
    one, other = Run(), Run()
    try:
        one.save({}, "[]")
        assert one.folder != other.folder
        assert (one.folder.stat().st_mode & 0o777, (one.folder / EVIDENCE).exists()) == (0o700, True)
    finally:
        one.remove()
        other.remove()
    assert not one.folder.exists()
    one.remove()


def test_notes_keep_their_order(tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    assert run.notes("actions") == []
    run.note("actions", {"step": "a"})
    run.note("actions", {"step": "b"}, {"step": "c"})
    assert [item["step"] for item in run.notes("actions")] == ["a", "b", "c"]
    assert run.notes("refused") == []


def test_a_broken_file_is_told_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    assert read_json(path, "default") == "default"
    path.write_text("{")
    with pytest.raises(RunError, match=r"plans\.json is not JSON"):
        History(tmp_path).plans()


def test_a_plan_is_remembered_as_shown_and_as_used(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert (history.plans(), history.repaired(), history.baseline()) == ({}, "", {})
    history.issue("d1", "2026-01-01T10:00:00Z")
    assert history.repaired() == ""
    history.use("d1", "2026-01-01T10:05:00Z")
    history.issue("d2", "2026-01-01T11:00:00Z")
    history.use("d0", "2026-01-01T09:00:00Z")
    assert history.plans()["d1"] == {"issued": "2026-01-01T10:00:00Z", "used": "2026-01-01T10:05:00Z"}
    assert history.repaired() == "2026-01-01T10:05:00Z"
    history.save_baseline({"rules": []})
    assert History(tmp_path).baseline() == {"rules": []}


@pytest.mark.parametrize(
    ("server", "name"),
    [
        ({"cluster": "arn:aws:eks/x", "namespace": "ml", "name": "mlflow"}, "arn-aws-eks-x_ml_mlflow"),
        ({"cluster": "", "namespace": "ml", "name": ""}, "cluster_ml_unknown"),
        ({"cluster": "../..", "namespace": "ml", "name": "a/b"}, "..-.._ml_a-b"),
    ],
)
def test_a_server_has_one_folder_below_the_reports(tmp_path: Path, server: dict[str, str], name: str) -> None:
    assert server_folder(str(tmp_path), server) == tmp_path / name
