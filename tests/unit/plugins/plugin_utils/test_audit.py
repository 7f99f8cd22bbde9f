# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of an audit, and when a gap is a failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.audit import document
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.items import Grade, Item, Patch
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.audit import (
    failure_of,
    page,
    publish,
    summary_of,
)

WEAK = Item("pods.readiness", Grade.WEAK, "asks <b>/health</b>", patches=(Patch("kubectl", "kubectl & co"),))
BLIND = Item("storage.versioning", Grade.UNKNOWN, "not allowed", needs="s3:GetBucketVersioning")
GOOD = Item("pods.startup", Grade.OK, "300 s")


def report(*items: Item, problem: str = "") -> dict[str, Any]:
    server = {"namespace": "ml", "name": "" if problem else "mlflow", "cluster": "c"}
    return document(
        server=server, started="2026-01-01T12:00:00Z", seconds={}, calls={}, items=items, said=(), problem=problem
    )


@pytest.mark.parametrize(
    ("fail_on", "items", "words"),
    [
        ("none", (WEAK, BLIND), ""),
        ("cause", (BLIND, GOOD), ""),
        ("cause", (WEAK, BLIND), "gaps found: pods.readiness"),
        ("unknown", (BLIND, GOOD), "could not be looked at: storage.versioning"),
        ("unknown", (GOOD,), ""),
    ],
)
def test_a_gap_is_a_failure_only_when_it_is_wanted(fail_on: str, items: tuple[Item, ...], words: str) -> None:
    assert failure_of(report(*items), Settings(namespace="ml", fail_on=fail_on)) == words


def test_no_server_is_a_failure() -> None:
    assert failure_of(report(problem="namespace ml does not exist"), Settings(namespace="ml")) == (
        "namespace ml does not exist"
    )


def test_summary() -> None:
    assert summary_of(report(WEAK, BLIND, GOOD)) == {
        "status": "weak",
        "missing": [],
        "weak": ["pods.readiness"],
        "unknown": ["storage.versioning"],
    }


def test_all_files_stand_beside_each_other_for_the_owner_only(tmp_path: Path) -> None:
    path = Path(publish(report(WEAK), "[]", Settings(namespace="ml", report_dir=str(tmp_path))))
    assert path.parent == tmp_path / "c_ml_mlflow"
    assert json.loads(path.read_text(encoding="utf-8"))["status"] == "weak"
    names = sorted(item.name for item in path.parent.iterdir())
    stem = "prevention-20260101T120000Z"
    assert names == sorted(
        [f"{stem}.{suffix}" for suffix in ("json", "txt", "html", "evidence.json")]
        + [f"prevention-latest.{suffix}" for suffix in ("json", "txt", "html")]
    )
    assert {item.stat().st_mode & 0o777 for item in path.parent.iterdir()} == {0o600}


def test_the_page_escapes_and_says_what_the_text_says() -> None:
    shown = page(report(WEAK, BLIND))
    assert "asks &lt;b&gt;/health&lt;/b&gt;" in shown
    assert "kubectl &amp; co" in shown
    assert "s3:GetBucketVersioning" in shown
    assert "1 weak · 1 unknown" in shown
