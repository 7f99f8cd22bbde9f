# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fault files: what is accepted, and how an error reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.faults import model, reading
from tests.lab.settings import REPOSITORY, LabError

FOLDER = REPOSITORY / "tests" / "faults"
CORRECT: dict[str, Any] = {
    "title": "A fault",
    "imitates": "S-01",
    "symptom": [{"client": {"ok": False}}],
    "expect": {"status": "down", "causes": [{"id": "service.selector_matches_nothing", "object": "service/x"}]},
}


def read(folder: Path, **changes: Any) -> model.Fault:
    path = folder / "a_fault.yml"
    path.write_text(yaml.safe_dump({**CORRECT, **changes}), encoding="utf-8")
    return reading.read(path)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yml")), ids=lambda path: path.stem)
def test_every_fault_file_of_the_repository_is_correct(path: Path) -> None:
    assert reading.read(path).title


def test_defaults(tmp_path: Path) -> None:
    fault = read(tmp_path)
    assert fault.server.layout == "mlflow"
    assert list(fault.phases) == ["running"]
    assert fault.phase("running").expect == fault.expect


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imitates": "S1"}, "imitates: String should match pattern"),
        ({"injcet": []}, "injcet: unknown key, not []"),
        ({"inject": [{"sql": {"statement": 5}}]}, "inject[0].sql.statement: Input should be a valid string, not 5"),
        ({"inject": [{"wait": {}, "sql": {"statement": "x"}}]}, "inject[0].wait: either seconds or until is needed"),
        ({"inject": [{"register": "x"}]}, "inject[0]: exactly one of apply, patch,"),
        ({"inject": [{"aws": {"service": "ec3", "operation": "x"}}]}, "'ec3' is not a service of boto3"),
        ({"inject": [{"aws": {"service": "ec2", "operation": "x"}}]}, "'x' is not an operation of boto3's ec2 client"),
        (
            {"inject": [{"aws": {"service": "rds", "operation": "stop_db_instance", "parameters": {"Name": "x"}}}]},
            "stop_db_instance has no parameter Name; it has: DBInstanceIdentifier",
        ),
        ({"symptom": [{"client": {"ok": False, "error": "("}}]}, "symptom[0].client.error: not a regular expression"),
        ({"symptom": []}, "symptom: List should have at least 1 item"),
        ({"inject": [{"sql": {"statement": "{{ server.nmae }}"}}]}, "inject[0].sql.statement: '{{ server.nmae }}'"),
        ({"phases": {"runnig": {}}}, "phases.runnig"),
        ({"expect": {"status": "broken", "causes": []}}, "expect.status: Input should be 'healthy', 'degraded'"),
        ({"expect": {"status": "down", "causes": [], "outcome": "fixed"}}, "outcome needs allowed_steps"),
    ],
)
def test_errors_name_file_key_value_and_expectation(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError) as raised:
        read(tmp_path, **changes)
    assert "a_fault.yml: " in str(raised.value)
    assert message in str(raised.value)


def test_registered_results_may_be_used_in_templates(tmp_path: Path) -> None:
    call = {"service": "ec2", "operation": "describe_vpcs"}
    use = {"statement": "SELECT '{{ vpcs.Vpcs[0].VpcId }}'"}
    assert read(tmp_path, inject=[{"aws": call, "register": "vpcs"}, {"sql": use}])


def test_an_unknown_fault_is_named_with_those_that_exist(tmp_path: Path) -> None:
    read(tmp_path)
    with pytest.raises(LabError, match=r"has no fault another; it has: a_fault"):
        reading.read_all(tmp_path, ["another"])
