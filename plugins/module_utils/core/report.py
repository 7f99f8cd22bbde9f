# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: one document for a program, and the same as text for a tired person."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from .commands import COMMANDS
from .content import HEADLINES, Section, cause_lines, content, impact_lines, short_time
from .discovery import Target
from .evidence import API, EvidenceSet
from .fleet import fleet_content
from .guards import Policy, refusals
from .plan import Plan, step_digest
from .verdict import Verdict, name_of

__all__ = ["HEADLINES", "build", "cause_lines", "impact_lines", "short_time", "text"]

WIDTH = 100
WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def server_document(
    target: Target | None, evidence: EvidenceSet, settings_namespace: str, cluster: str
) -> dict[str, Any]:
    """Describe the server with everything that was discovered about it."""
    uid = evidence.value("kubernetes.cluster", API, default={}).get("uid", "")
    if target is None:
        return {"name": "", "namespace": settings_namespace, "cluster": cluster, "cluster_uid": uid}
    document = target.as_json()
    for name in ("options", "secrets", "config_maps", "selector"):
        document.pop(name)
    return {**document, "remarks": list(target.remarks), "cluster": cluster, "cluster_uid": uid}


def plan_document(plan: Plan, policy: Policy) -> dict[str, Any]:
    steps = []
    for step in plan.steps:
        refused = refusals(step, plan, policy)
        steps.append(
            {
                "step": step.step,
                "section": step.section,
                "cause": step.cause,
                "object": step.object,
                "class": step.step_class.value,
                "eligible": not refused,
                "refused": [item.as_json() for item in refused],
                "change": dict(step.change),
                "undo": dict(step.undo),
                "proposal": step.proposal,
                "cause_object": step.cause_object,
                "digest": step_digest(step),
            }
        )
    return {"digest": plan.digest, "place": dict(plan.place), "steps": steps}


def findings_document(verdict: Verdict) -> list[dict[str, Any]]:
    return [
        {
            "id": item.id,
            "section": item.section,
            "object": item.object,
            "summary": item.summary,
            "flow": item.flow,
            "since": item.since,
            "evidence": list(item.evidence),
            "explained_by": verdict.explained_by.get(name_of(item), "").partition(" ")[0] or None,
        }
        for item in verdict.findings
    ]


def build(
    *,
    server: Mapping[str, Any],
    started: str,
    seconds: Mapping[str, float],
    calls: Mapping[str, Any],
    verdict: Verdict,
    plan: Mapping[str, Any],
    observed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Assemble the report of one diagnosis (design section 6).

    Args:
        observed: changes, flow, time line, latency and proof (``observations.observe``).
    """
    return {
        "schema": 1,
        "server": dict(server),
        "started": started,
        "seconds": dict(seconds),
        "calls": dict(calls),
        "verdict": verdict.as_json(),
        "findings": findings_document(verdict),
        "plan": dict(plan),
        "actions": [],
        "outcome": None,
        "before": None,
        **{name: [] for name in ("changes", "flow", "timeline", "latency", "proof")},
        **(observed or {}),
    }


def before(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report on a repaired server keeps of the diagnosis that the repair was made from."""
    return {"started": report["started"], "verdict": report["verdict"], "latency": report.get("latency") or []}


def text(report: Mapping[str, Any], *, brief: bool = False) -> str:
    """Write the report as text: cause, impact, since, do now, do not; then the reasons.

    Args:
        report: the JSON document.
        brief: leave the reasons out, as where many servers are shown.
    """
    says = content(report)
    lines = [f"MLflow {says.name} {says.headline}   {says.subtitle}", ""]
    for item in says.blocks:
        lines += block(item.label.upper(), [line.text for line in item.lines])
    if brief:
        return "\n".join([*lines, ""])
    return "\n".join([*lines, *section_lines(says.sections), "", says.footer, ""])


def section_lines(sections: Iterable[Section]) -> list[str]:
    """Set sections as lists under their titles."""
    lines: list[str] = []
    for section in sections:
        lines += ["", section.title, *(line for entry in section.entries for line in bullet(str(entry)))]
    return lines


def fleet_text(document: Mapping[str, Any]) -> str:
    """Write what a run found on all its servers (``core.fleet.fleet``)."""
    says = fleet_content(document)
    return "\n".join([f"MLflow: {says.headline}   {says.subtitle}", *section_lines(says.sections), ""])


def block(label: str, lines: Iterable[str]) -> list[str]:
    """Set lines behind a label, wrapped and indented."""
    result: list[str] = []
    for line in lines:
        wrapped = [line] if line.startswith(COMMANDS) else textwrap.wrap(line, WIDTH - 12, **WHOLE_WORDS) or [""]
        result += [f"{'' if result else label:<10}{wrapped[0]}", *(" " * 12 + rest for rest in wrapped[1:])]
    return result


def bullet(entry: str) -> list[str]:
    """Set one item; one that has lines of its own, such as a patch to copy, keeps them."""
    if "\n" in entry:
        first, *more = entry.splitlines()
        return [f"  - {first}", *(f"    {line}" for line in more)]
    wrapped = textwrap.wrap(entry, WIDTH - 4, **WHOLE_WORDS) or [""]
    return [f"  - {wrapped[0]}", *(f"    {line}" for line in wrapped[1:])]
