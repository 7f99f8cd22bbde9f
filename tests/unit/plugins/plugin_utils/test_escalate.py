# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a bundle to the disk and back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.archive import BundleError
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils import escalate

SECRET = "battery-staple-7"


def test_a_secret_in_a_part_is_refused_by_part_and_kind() -> None:
    with pytest.raises(BundleError) as caught:
        escalate.refuse_secrets({"a.txt": b"fine", "logs/b.log": f"got {SECRET}".encode()}, [SECRET])
    assert "no bundle was written" in str(caught.value)
    assert "logs/b.log (a known secret value, as it is)" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_secret_in_a_name_is_refused_without_the_name() -> None:
    with pytest.raises(BundleError) as caught:
        escalate.refuse_secrets({f"logs/{SECRET}.log": b""}, [SECRET])
    assert "part 1 (a known secret value, as it is)" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_parts_without_a_secret_pass() -> None:
    parts = {"a.txt": b"nothing to hide", "b.bin": b"\xff\xfe"}
    escalate.refuse_secrets(parts, [SECRET])
    with pytest.raises(BundleError, match=r"a\.txt"):
        escalate.refuse_secrets(parts, [SECRET, "nothing to hide"])


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(BundleError, match="is no file"):
            escalate.read_packed(str(path))
    with pytest.raises(BundleError, match="cannot be read: No such file or directory"):
        escalate.read_packed(str(tmp_path / "missing"))
    with pytest.raises(BundleError, match="cannot be read: that is no path"):
        escalate.read_packed("a\0b")


def test_never_more_is_read_than_a_bundle_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(escalate, "PACKED_BYTES", 10)
    (tmp_path / "large").write_bytes(b"x" * 100)
    assert len(escalate.read_packed(str(tmp_path / "large"))) == 11


def test_earlier_reports_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "20261127T110000Z.json").write_text(json.dumps({"started": "a"}), encoding="utf-8")
    (tmp_path / "20261127T110001Z.json").write_text("{", encoding="utf-8")
    (tmp_path / "20261127T110002Z.json").write_text("[]", encoding="utf-8")
    (tmp_path / "20261127T110003Z.evidence.json").write_text("[]", encoding="utf-8")
    (tmp_path / "latest.json").write_text(json.dumps({"started": "b"}), encoding="utf-8")
    assert escalate.earlier_reports(tmp_path) == [{"started": "a"}]


def test_the_version_is_the_collections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(escalate, "COLLECTION", tmp_path)
    (tmp_path / "galaxy.yml").write_text(yaml.safe_dump({"version": "1.2.3"}), encoding="utf-8")
    assert escalate.collection_version() == "1.2.3"
    installed = {"collection_info": {"version": "4.5.6"}}
    (tmp_path / "MANIFEST.json").write_text(json.dumps(installed), encoding="utf-8")
    assert escalate.collection_version() == "4.5.6"
    assert escalate.own_versions()["mlops.mlflow_runbook"] == "4.5.6"
