# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each guard refuses by itself, and only what all let pass is eligible."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.guards import GUARDS, Policy, refusals
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plan import Plan
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.step import Step, StepClass

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
DIGEST = "0a" * 32
OTHER = "0b" * 32
STEP = Step(
    step="restore_security_group_rule",
    section="database",
    cause="database.security_group_closed",
    object="sg-1",
    step_class=StepClass.DECLARED_STATE,
    change={"rules": [1]},
    undo={"rules": [1]},
    proven=True,
)
PLAN = Plan(DIGEST, (STEP,), {"cluster": "uid", "account": "123456789012"})
POLICY = Policy((STEP.step,), DIGEST, NOW, {DIGEST: "2026-01-01T11:45:00Z"})


def shown(before: timedelta) -> dict[str, str]:
    return {DIGEST: (NOW - before).isoformat()}


def test_everything_in_order_passes() -> None:
    assert refusals(STEP, PLAN, POLICY) == []


@pytest.mark.parametrize(
    ("guard", "reason", "step", "plan", "policy"),
    [
        ("possible", "no healthy run", {"blocked": "no healthy run"}, {}, {}),
        ("possible", "only proposed", {"step_class": StepClass.PROPOSED}, {}, {}),
        ("same_place", "cluster", {}, {"place": {"cluster": "", "account": "1"}}, {}),
        ("same_place", "account", {}, {"place": {"cluster": "uid", "account": ""}}, {}),
        ("proof", "not proven", {"proven": False}, {}, {}),
        ("allowed", "mlflow_allowed_steps", {}, {}, {"allowed_steps": ()}),
        ("allowed", "mlflow_allowed_steps", {}, {}, {"allowed_steps": ("restore_security_group_rules", "restore")}),
        ("approval", "is not set", {}, {}, {"approved_plan": ""}),
        ("approval", OTHER, {}, {}, {"approved_plan": OTHER}),
        ("approval", OTHER, {}, {"digest": OTHER}, {}),
        ("approval", "already acted upon", {}, {}, {"used": frozenset({DIGEST})}),
        ("approval", "no diagnosis has shown", {}, {}, {"issued": {}}),
        ("approval", "no diagnosis has shown", {}, {}, {"issued": {OTHER: "2026-01-01T11:59:00Z"}}),
        ("approval", "longer than 30 minutes", {}, {}, {"issued": shown(timedelta(minutes=30, seconds=1))}),
    ],
)
def test_each_guard_refuses_alone(
    guard: str, reason: str, step: dict[str, Any], plan: dict[str, Any], policy: dict[str, Any]
) -> None:
    judged = dataclasses.replace(STEP, **step)
    refused = refusals(judged, dataclasses.replace(PLAN, **plan), dataclasses.replace(POLICY, **policy))
    assert [item.guard for item in refused] == [guard]
    assert reason in refused[0].reason
    assert refused[0].as_json() == {"guard": guard, "reason": refused[0].reason}


def test_half_an_hour_is_not_longer_than_half_an_hour() -> None:
    assert refusals(STEP, PLAN, dataclasses.replace(POLICY, issued=shown(timedelta(minutes=30)))) == []


def test_an_operating_step_needs_no_approval_but_everything_else() -> None:
    step = dataclasses.replace(STEP, step_class=StepClass.OPERATING)
    bare = Policy((step.step,), "", NOW)
    assert refusals(step, PLAN, bare) == []
    assert [item.guard for item in refusals(step, PLAN, Policy((), "", NOW))] == ["allowed"]
    assert [item.guard for item in refusals(dataclasses.replace(step, proven=False), PLAN, bare)] == ["proof"]


def test_all_objections_are_told() -> None:
    step = dataclasses.replace(STEP, blocked="no record", proven=False)
    nowhere = dataclasses.replace(PLAN, place={"cluster": "", "account": ""})
    told = [item.guard for item in refusals(step, nowhere, Policy((), "", NOW))]
    assert told == ["possible", "same_place", "proof", "allowed", "approval"]
    assert set(told) < set(GUARDS)
