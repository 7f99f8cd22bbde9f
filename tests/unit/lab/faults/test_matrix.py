# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The matrix without a lab: which worker gets which fault, and when a row is as expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import operator, settings
from tests.lab.faults import matrix, model
from tests.lab.settings import LabError


def fault(layout: str) -> model.Fault:
    content = {
        "title": layout,
        "imitates": None,
        "server": {"layout": layout},
        "symptom": [{"client": {"ok": True}}],
        "expect": {"status": "healthy", "causes": []},
    }
    return model.Fault.model_validate(content)


def test_a_worker_gets_a_fault_that_its_server_suits() -> None:
    queue = matrix.Queue({"a": fault("mlflow"), "b": fault("asgard"), "c": fault("mlflow")})
    taken = []
    present = None
    while one := queue.take(present):
        taken.append(one[0])
        present = one[1].server
    assert taken == ["a", "c", "b"]


def test_a_cleared_queue_is_empty() -> None:
    queue = matrix.Queue({"a": fault("mlflow")})
    queue.clear()
    assert queue.take(None) is None


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"bites": False}, False),
        ({"exact": False}, False),
        ({"false_causes": ["x y"]}, False),
        ({"forbidden_writes": ["patch deployments a/b"]}, False),
        ({"problems": ["status is down, not healthy"]}, False),
    ],
)
def test_a_row_passes_only_when_everything_is_as_expected(changes: dict[str, object], passed: bool) -> None:
    values = {"bites": True, "exact": True} | changes
    assert matrix.Row("a", "running", None, **values).passed is passed  # type: ignore[arg-type]


def test_two_runs_with_the_same_servers_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "state_dir", lambda: tmp_path)
    refused = pytest.raises(LabError, match="another run of faults uses the servers one-1")
    with matrix.alone("one"), matrix.alone("two"), refused, matrix.alone("one"):
        pass


def test_all_operators_diagnose_one_injection_each_into_a_folder_of_its_own() -> None:
    chosen = operator.chosen("all")
    options = matrix.Options(Path("faults"), Path("build/faults"), operators=chosen)
    assert [who.name for who in chosen] == ["full", "no-secrets", "no-exec", "no-aws", "forbidden"]
    assert options.folder_of("full") == Path("build/faults")
    assert options.folder_of("no-exec") == Path("build/faults-no-exec")


def test_an_unknown_operator_is_refused_by_name() -> None:
    with pytest.raises(LabError, match="no operator 'nobody'"):
        operator.chosen("full,nobody")
