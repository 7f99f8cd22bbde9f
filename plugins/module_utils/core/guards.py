# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reasons not to write, each a pure function of step, plan and policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from . import guards_server
from .attempts import Attempt, exhausted, over_rate, unfinished
from .findings import parse_time
from .plan import Plan, step_digest
from .step import Step, StepClass

APPROVAL_LIFETIME = timedelta(minutes=30)
IN_CLUSTER = frozenset({"kubernetes", "pod"})


@dataclass(frozen=True)
class Refusal:
    """The name of the guard that refuses, and why."""

    guard: str
    reason: str

    def as_json(self) -> dict[str, str]:
        return {"guard": self.guard, "reason": self.reason}


@dataclass(frozen=True)
class Policy:
    """What the operator allowed, and what happened before.

    Attributes:
        allowed_steps: names in ``mlflow_allowed_steps``.
        approved_plan: digest in ``mlflow_approved_plan``.
        now: the moment of the decision.
        issued: when each plan was first shown, by digest, ISO 8601.
        used: digests that were already acted upon.
        granted: digests of single steps of the approved plan that this very run has begun to carry out.
        history: what was tried on this server.
        history_problem: why the history could not be read; empty when it could.
        cluster_writes: moments of the writes on all servers of the cluster; None when they could not be counted.
        busy: why another run has this server or a dependency of it; empty when none has.
        writing: whether a write may follow. A mere diagnosis does not look for what only a write needs to know.
        most_attempts: how often a step may be done for one cause.
        cooldown: how long after a step it may be done again.
        quiet: how long an object is left alone after a person changed it.
    """

    allowed_steps: tuple[str, ...]
    approved_plan: str
    now: datetime
    issued: Mapping[str, str] = field(default_factory=dict)
    used: frozenset[str] = frozenset()
    granted: frozenset[str] = frozenset()
    history: tuple[Attempt, ...] = ()
    history_problem: str = ""
    cluster_writes: tuple[str, ...] | None = ()
    busy: str = ""
    writing: bool = True
    most_attempts: int = 2
    cooldown: timedelta = timedelta(minutes=10)
    quiet: timedelta = timedelta(minutes=15)


def allowed(step: Step, plan: Plan, policy: Policy) -> str:
    return "" if step.step in policy.allowed_steps else f"{step.step} is not named in mlflow_allowed_steps"


def possible(step: Step, plan: Plan, policy: Policy) -> str:
    if step.step_class is StepClass.PROPOSED:
        return f"{step.step} is only proposed to the owner of {step.object}, never carried out"
    return step.blocked


def proof(step: Step, plan: Plan, policy: Policy) -> str:
    return "" if step.proven else f"{step.cause} is not proven by a configuration fact and a measurement both"


def approval(step: Step, plan: Plan, policy: Policy) -> str:
    """A change of declared state needs the digest of exactly this plan, once, within half an hour."""
    if step.step_class is not StepClass.DECLARED_STATE or step_digest(step) in policy.granted:
        return ""
    if not policy.approved_plan:
        return f"mlflow_approved_plan is not set; this plan is {plan.digest}"
    if policy.approved_plan != plan.digest:
        return f"mlflow_approved_plan is {policy.approved_plan}, this plan is {plan.digest}"
    if plan.digest in policy.used:
        return "this plan was already acted upon once"
    issued = policy.issued.get(plan.digest)
    if issued is None:
        return "no diagnosis has shown this plan yet"
    if policy.now - parse_time(issued) > APPROVAL_LIFETIME:
        return f"this plan was shown at {issued}, longer than 30 minutes ago; diagnose again"
    return ""


def same_place(step: Step, plan: Plan, policy: Policy) -> str:
    """What is changed in the cluster needs to know the cluster; anything else needs the AWS account as well."""
    needed = ("cluster",) if step.change.get("service") in IN_CLUSTER else tuple(plan.place)
    missing = ", ".join(name for name in needed if not plan.place.get(name))
    return f"could not see which {missing} this is" if missing else ""


def one_run(step: Step, plan: Plan, policy: Policy) -> str:
    return policy.busy


def finished(step: Step, plan: Plan, policy: Policy) -> str:
    """What an earlier run began and nobody judged has to be judged before anything else is written."""
    if policy.history_problem:
        return policy.history_problem
    last = unfinished(policy.history)
    if last is None:
        return ""
    return f"{last.step} was begun at {last.at} by {last.by} and never judged: run mlops.mlflow_runbook.verify or undo"


def attempts(step: Step, plan: Plan, policy: Policy) -> str:
    """Anything but success uses a step's budget up, and all steps together have a rate."""
    if step.change.get("operation") == "wait":
        return ""
    told = exhausted(policy.history, step.step, step.cause, policy.now, policy.most_attempts, policy.cooldown)
    if told:
        return told
    return over_rate(policy.history, policy.cluster_writes, policy.now) if policy.writing else ""


def undo_known(step: Step, plan: Plan, policy: Policy) -> str:
    """Declared state is changed only where the way back is known beforehand."""
    if step.step_class is StepClass.DECLARED_STATE and step.change and not step.undo:
        return "how to take it back is not known"
    return ""


def new_pod(step: Step, plan: Plan, policy: Policy) -> str:
    return guards_server.new_pod(step, plan, proven_later=not policy.writing)


def recently_touched(step: Step, plan: Plan, policy: Policy) -> str:
    return guards_server.touched(step, plan, policy.now, policy.quiet)


def from_plan(check: Callable[[Step, Plan], str]) -> Callable[[Step, Plan, Policy], str]:
    return lambda step, plan, policy: check(step, plan)


Guard = Callable[[Step, Plan, Policy], str]
GUARDS: Mapping[str, Guard] = {
    "possible": possible,
    "same_place": same_place,
    "proof": proof,
    "allowed": allowed,
    "paused": from_plan(guards_server.paused),
    "ownership": from_plan(guards_server.owned),
    "approval": approval,
    "one_run": one_run,
    "finished": finished,
    "attempts": attempts,
    "circuit_breaker": from_plan(guards_server.circuit_breaker),
    "rollout": from_plan(guards_server.rollout),
    "availability": from_plan(guards_server.availability),
    "recently_touched": recently_touched,
    "connection_budget": from_plan(guards_server.connection_budget),
    "new_pod": new_pod,
    "undo": undo_known,
}
"""Every guard by its name; each returns why it refuses, or an empty text."""


def refusals(step: Step, plan: Plan, policy: Policy) -> list[Refusal]:
    """Return every guard's objection to a step; an empty list lets it pass."""
    return [Refusal(name, reason) for name, guard in GUARDS.items() if (reason := guard(step, plan, policy))]
