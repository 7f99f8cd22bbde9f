# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reasons not to write, each a pure function of plan, policy and history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from .findings import parse_time
from .plan import Plan, Step, StepClass

APPROVAL_LIFETIME = timedelta(minutes=30)


@dataclass(frozen=True)
class Refusal:
    """The name of the guard that refuses, and why."""

    guard: str
    reason: str

    def as_json(self) -> dict[str, str]:
        return {"guard": self.guard, "reason": self.reason}


@dataclass(frozen=True)
class Policy:
    """What the operator allowed, and what happened to earlier plans.

    Attributes:
        allowed_steps: names in ``mlflow_allowed_steps``.
        approved_plan: digest in ``mlflow_approved_plan``.
        issued: when each plan was first shown, by digest, ISO 8601.
        used: digests that were already acted upon.
        now: the moment of the decision.
    """

    allowed_steps: tuple[str, ...]
    approved_plan: str
    now: datetime
    issued: Mapping[str, str] = field(default_factory=dict)
    used: frozenset[str] = frozenset()


def allowed(step: Step, plan: Plan, policy: Policy) -> Refusal | None:
    if step.step in policy.allowed_steps:
        return None
    return Refusal("allowed", f"{step.step} is not named in mlflow_allowed_steps")


def possible(step: Step, plan: Plan, policy: Policy) -> Refusal | None:
    if step.step_class is StepClass.PROPOSED:
        return Refusal("possible", f"{step.step} is only proposed to the owner of {step.object}, never carried out")
    return Refusal("possible", step.blocked) if step.blocked else None


def proof(step: Step, plan: Plan, policy: Policy) -> Refusal | None:
    if step.proven:
        return None
    return Refusal("proof", f"{step.cause} is not proven by a configuration fact and a measurement both")


def approval(step: Step, plan: Plan, policy: Policy) -> Refusal | None:
    """A change of declared state needs the digest of exactly this plan, once, within half an hour."""
    if step.step_class is not StepClass.DECLARED_STATE:
        return None
    if not policy.approved_plan:
        return Refusal("approval", f"mlflow_approved_plan is not set; this plan is {plan.digest}")
    if policy.approved_plan != plan.digest:
        return Refusal("approval", f"mlflow_approved_plan is {policy.approved_plan}, this plan is {plan.digest}")
    if plan.digest in policy.used:
        return Refusal("approval", "this plan was already acted upon once")
    issued = policy.issued.get(plan.digest)
    if issued is None:
        return Refusal("approval", "no diagnosis has shown this plan yet")
    if policy.now - parse_time(issued) > APPROVAL_LIFETIME:
        return Refusal("approval", f"this plan was shown at {issued}, longer than 30 minutes ago; diagnose again")
    return None


def same_place(step: Step, plan: Plan, policy: Policy) -> Refusal | None:
    if all(plan.place.values()):
        return None
    missing = ", ".join(name for name, value in plan.place.items() if not value)
    return Refusal("same_place", f"could not see which {missing} this is")


Guard = Callable[[Step, Plan, Policy], "Refusal | None"]
GUARDS: tuple[Guard, ...] = (possible, same_place, proof, allowed, approval)


def refusals(step: Step, plan: Plan, policy: Policy) -> list[Refusal]:
    """Return every guard's objection to a step; an empty list lets it pass."""
    return [refusal for guard in GUARDS if (refusal := guard(step, plan, policy))]
