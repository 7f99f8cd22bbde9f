# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Right before the write the plan still has to be the one that was made, word for word."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.action.guard import decide
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.guards import Policy
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plan import STEPS
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import plan_document

from tests.recorded import judged, plan_on

FAULT, NAME = "selector_matches_nothing", "repair_service"
PLAN = plan_on(FAULT)
NOW = judged(FAULT).now
POLICY = Policy(tuple(STEPS), PLAN.digest, NOW, {PLAN.digest: NOW.isoformat()})


def decided(step: Any = "the same", **plan: Any) -> list[tuple[str, str]]:
    """Return what is objected to now, behind the recorded plan."""
    now: Any = SimpleNamespace(plan=replace(PLAN, **plan), policy=POLICY)
    found = next(item for item in PLAN.steps if item.step == NAME) if step == "the same" else step
    return [(item.guard, item.reason) for item in decide(found, now, {"plan": plan_document(PLAN, POLICY)}, NAME)]


def test_the_plan_as_it_was_made_may_be_written() -> None:
    assert decided() == []


def test_another_cluster_than_the_plans_is_not_written_to() -> None:
    ((guard, reason),) = decided(place={**PLAN.place, "cluster": "another"})
    assert guard == "same_place"
    assert "another" in reason


def test_a_fault_that_has_healed_is_not_repaired() -> None:
    assert decided(None) == [("proof", f"the cause of {NAME} is gone; nothing to repair")]


def test_a_change_that_is_another_one_by_now_is_not_made() -> None:
    step = next(item for item in PLAN.steps if item.step == NAME)
    patch = [{**item, "value": "x"} for item in step.change["patch"]]
    ((guard, reason),) = decided(replace(step, change={**step.change, "patch": patch}))
    assert guard == "proof"
    assert "not what was planned any more" in reason
