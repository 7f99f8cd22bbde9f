# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every guard stands alone between one recorded plan and its write: with the guard taken out it would be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core import guards
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.attempts import BEGUN, JUDGED, Attempt
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.guards import GUARDS, Policy, refusals
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.outcome import UNCHANGED
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plan import STEPS, Plan
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import plan_document
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.step import Situation, Step

from tests.recorded import judged, plan_on


@dataclass(frozen=True)
class Case:
    """A step that may be carried out now, but for one thing."""

    step: Step
    plan: Plan
    policy: Policy


def recorded(name: str, step: str) -> Case:
    """Return a step of a recorded fault with everything allowed and approved."""
    plan, now = plan_on(name), judged(name).now
    planned = next(item for item in plan.steps if item.step == step)
    return Case(planned, plan, Policy(tuple(STEPS), plan.digest, now, {plan.digest: now.isoformat()}))


def service(**metadata: Any) -> Case:
    """Return the repair of a Service that carries these, too."""
    case = recorded("selector_matches_nothing", "repair_service")
    situation = case.plan.situation
    assert situation is not None
    evidence = EvidenceSet.from_json(situation.context.evidence.to_json())
    for found in evidence.objects("kubernetes.services", situation.target.namespace):
        if found["metadata"]["name"] == case.step.change["name"]:
            found["metadata"] |= metadata
    context = Context(situation.target, evidence, situation.context.now)
    changed = Situation(context, situation.baseline, situation.settings)
    return replace(case, plan=replace(case.plan, situation=changed))


def of_step(case: Case, **fields: Any) -> Case:
    return replace(case, step=replace(case.step, **fields))


def of_policy(**fields: Any) -> Case:
    case = service()
    return replace(case, policy=replace(case.policy, **fields))


def tried(minutes: int, **fields: Any) -> Case:
    """Return the repair of a Service behind an earlier attempt."""
    case = service()
    at = (case.policy.now - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    step = case.step
    before = Attempt("1", step.step, step.cause, "", step.object, "an older plan", at, "host:1:1:a")
    return of_policy(history=(replace(before, **fields),))


def beside_a_stopped_database() -> Case:
    case = service()
    return replace(case, plan=replace(case.plan, causes=(*case.plan.causes, *plan_on("database_stopped").causes)))


def edited_a_minute_ago() -> Case:
    at = (judged("selector_matches_nothing").now - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return service(lastChanged=[{"manager": "kubectl-edit", "time": at}])


def elsewhere() -> Case:
    case = service()
    return replace(case, plan=replace(case.plan, place={**case.plan.place, "cluster": ""}))


CASES: Mapping[str, Callable[[], Case]] = {
    "possible": lambda: recorded("database_locked", "end_idle_session"),
    "same_place": elsewhere,
    "proof": lambda: of_step(service(), proven=False),
    "allowed": lambda: of_policy(allowed_steps=()),
    "paused": lambda: service(annotations={"mlflow-runbook.mlops/pause": "a migration runs"}),
    "ownership": lambda: service(labels={"app.kubernetes.io/managed-by": "Helm"}),
    "approval": lambda: of_policy(approved_plan=""),
    "one_run": lambda: of_policy(busy="another-machine:1:1:a works on it"),
    "finished": lambda: tried(1, step="restart", state=BEGUN),
    "attempts": lambda: tried(61, state=JUDGED, outcome=UNCHANGED),
    "circuit_breaker": beside_a_stopped_database,
    "rollout": lambda: recorded("rollout_stuck_by_option", "roll_back"),
    "availability": lambda: of_step(recorded("rollout_stuck", "roll_back"), unavailable=1),
    "recently_touched": edited_a_minute_ago,
    "connection_budget": lambda: of_step(recorded("rollout_stuck", "roll_back"), replicas=99),
    "new_pod": lambda: recorded("database_credentials_stale", "restart_stale_pods"),
    "undo": lambda: of_step(service(), undo={}),
}
"""For each guard what it alone keeps from being written."""


def never(step: Step, plan: Plan, policy: Policy) -> str:
    """Stand for a guard that was taken out."""
    return ""


def test_there_is_a_case_for_every_guard() -> None:
    assert set(CASES) == set(GUARDS)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("selector_matches_nothing", "repair_service"),
        ("stateful_set_selector", "repair_service"),
        ("rollout_stuck", "roll_back"),
    ],
)
def test_nothing_stands_between_the_plan_as_recorded_and_its_write(name: str, step: str) -> None:
    case = recorded(name, step)
    assert refusals(case.step, case.plan, case.policy) == []


@pytest.mark.parametrize("guard", GUARDS)
def test_only_this_guard_keeps_it_from_being_written(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[guard]()
    assert [item.guard for item in refusals(case.step, case.plan, case.policy)] == [guard]
    monkeypatch.setattr(guards, "GUARDS", {**GUARDS, guard: never})
    assert refusals(case.step, case.plan, case.policy) == []
    (shown,) = plan_document(replace(case.plan, steps=(case.step,)), case.policy)["steps"]
    assert shown["eligible"]
