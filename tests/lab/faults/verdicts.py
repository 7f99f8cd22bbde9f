# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report compared with what the fault file expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.lab.faults import model


@dataclass(frozen=True)
class Comparison:
    """What a report said, and where it differs.

    Attributes:
        causes: ``id object`` of each cause that was named.
        false_causes: those that are not expected.
        exact: whether the set of causes is the expected one.
        problems: every other difference, in words.
    """

    causes: list[str]
    false_causes: list[str]
    exact: bool
    problems: list[str]


WELL = frozenset({"healthy", "recovered"})
"""Statuses that say that nothing has to be done."""


def labels(causes: list[model.Cause]) -> list[str]:
    """``id object`` of each expected cause, sorted."""
    return sorted(f"{cause.id} {cause.object}" for cause in causes)


def compare(report: dict[str, Any], expected: model.Expectation) -> Comparison:
    """Compare a diagnosis (the report's JSON document) with the expectation, whose templates are rendered."""
    verdict = report["verdict"]
    named = sorted(f"{cause['id']} {cause['object']}" for cause in verdict["causes"])
    wanted = labels(expected.causes)
    problems = []
    if verdict["status"] != expected.status:
        problems.append(f"status is {verdict['status']}, not {expected.status}")
    found = {cause["id"] for cause in verdict["causes"]} | {finding["id"] for finding in report.get("findings", [])}
    problems += [f"{name} was not found" for name in expected.findings if name not in found]
    problems += [f"{forbidden} was named" for forbidden in expected.must_not if forbidden in found]
    problems += plan_problems(report.get("plan") or {}, expected)
    false_causes = [cause for cause in named if cause not in wanted]
    return Comparison(named, false_causes, named == wanted, problems)


def compare_restricted(report: dict[str, Any], expected: model.Expectation) -> Comparison:
    """Compare the diagnosis of an operator who may not see everything: it may know less, and may not be wrong."""
    whole = compare(report, expected)
    status = report["verdict"]["status"]
    problems = [f"status is {status}, not {expected.status}"] if status in WELL and expected.status not in WELL else []
    steps = expected.model_copy(update={"allowed_steps": []})
    problems += plan_problems(report.get("plan") or {}, steps)
    return Comparison(whole.causes, whole.false_causes, whole.exact, problems)


def plan_problems(plan: dict[str, Any], expected: model.Expectation) -> list[str]:
    """Steps that the plan should not offer, or lacks."""
    steps = {step["step"]: step for step in plan.get("steps", [])}
    problems = [
        f"step {name} is eligible" for name in expected.forbidden_steps if steps.get(name, {}).get("eligible") is True
    ]
    return problems + [f"step {name} is not planned" for name in expected.allowed_steps if name not in steps]
