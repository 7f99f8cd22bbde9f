# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report compared with an expectation."""

from __future__ import annotations

from typing import Any

from tests.lab.faults import model, verdicts

CLOSED = {"id": "database.security_group_closed", "object": "sg-1"}
STOPPED = {"id": "database.instance_stopped", "object": "mlflow"}
EXPECTED = model.Expectation.model_validate(
    {
        "status": "down",
        "causes": [CLOSED],
        "must_not": ["database.password_wrong"],
        "allowed_steps": ["restore_security_group_rule"],
        "forbidden_steps": ["restart"],
    }
)
STEPS = [{"step": "restore_security_group_rule", "eligible": True}, {"step": "restart", "eligible": False}]


def report(*causes: dict[str, str], status: str = "down", **changes: Any) -> dict[str, Any]:
    verdict = {"status": status, "causes": list(causes)}
    return {"verdict": verdict, "findings": [], "plan": {"steps": STEPS}} | changes


def test_the_same_set_is_exact() -> None:
    comparison = verdicts.compare(report(CLOSED), EXPECTED)
    assert comparison == verdicts.Comparison(["database.security_group_closed sg-1"], [], True, [])


def test_another_cause_is_false_and_not_exact() -> None:
    comparison = verdicts.compare(report(CLOSED, STOPPED), EXPECTED)
    assert comparison.false_causes == ["database.instance_stopped mlflow"]
    assert not comparison.exact


def test_the_right_cause_of_another_object_is_false() -> None:
    comparison = verdicts.compare(report({**CLOSED, "object": "sg-2"}), EXPECTED)
    assert comparison.false_causes == ["database.security_group_closed sg-2"]


def test_status_forbidden_findings_and_steps_are_problems() -> None:
    offered = [{"step": "restart", "eligible": True}]
    findings = [{"id": "database.password_wrong"}]
    comparison = verdicts.compare(
        report(CLOSED, status="degraded", findings=findings, plan={"steps": offered}), EXPECTED
    )
    assert comparison.exact
    assert comparison.problems == [
        "status is degraded, not down",
        "database.password_wrong was named",
        "step restart is eligible",
        "step restore_security_group_rule is not planned",
    ]


def test_a_restricted_operator_may_know_less() -> None:
    comparison = verdicts.compare_restricted(report(status="unknown", plan={"steps": []}), EXPECTED)
    assert comparison == verdicts.Comparison([], [], False, [])


def test_a_restricted_operator_may_not_call_a_broken_server_healthy_nor_offer_a_forbidden_step() -> None:
    offered = [{"step": "restart", "eligible": True}]
    comparison = verdicts.compare_restricted(report(status="healthy", plan={"steps": offered}), EXPECTED)
    assert comparison.problems == ["status is healthy, not down", "step restart is eligible"]


def test_a_restricted_operators_wrong_cause_is_false() -> None:
    assert verdicts.compare_restricted(report(STOPPED), EXPECTED).false_causes == ["database.instance_stopped mlflow"]
