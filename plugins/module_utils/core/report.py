# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: one document for a program, and the same as text for a tired person."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from .catalogue import BY_ID
from .changes import Change
from .discovery import Target
from .evidence import API, EvidenceSet
from .findings import parse_time
from .guards import Policy, refusals
from .kinds import Role
from .plan import Plan
from .verdict import Verdict, name_of

WIDTH = 100
HEADLINES = {
    "healthy": "is healthy",
    "degraded": "is DEGRADED",
    "down": "is DOWN",
    "at_risk": "is AT RISK: it works until the next reconnect or restart",
    "recovered": "has recovered",
    "unknown": "could NOT be judged",
}
COMMANDS = ("kubectl ", "aws ", "ansible-playbook ")
"""Lines to copy stay in one piece."""

WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
WORDS = {True: "yes", False: "NO", None: "unknown"}


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
    changes: Iterable[Change] = (),
) -> dict[str, Any]:
    """Assemble the report of one diagnosis (design section 6)."""
    return {
        "schema": 1,
        "server": dict(server),
        "started": started,
        "seconds": dict(seconds),
        "calls": dict(calls),
        "verdict": verdict.as_json(),
        "findings": findings_document(verdict),
        "changes": [change.as_json() for change in changes],
        "plan": dict(plan),
        "actions": [],
        "outcome": None,
    }


def ago(since: str, now: str) -> str:
    seconds = int((parse_time(now) - parse_time(since)).total_seconds())
    if seconds < 120:
        return f"{max(seconds, 0)} s ago"
    return f"{seconds // 60} min ago" if seconds < 7200 else f"{seconds // 3600} h ago"


def short_time(moment: str) -> str:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).strftime("%Y-%m-%d %H:%M:%S UTC")


def block(label: str, lines: Iterable[str]) -> list[str]:
    """Set lines behind a label, wrapped and indented."""
    result: list[str] = []
    for line in lines:
        wrapped = [line] if line.startswith(COMMANDS) else textwrap.wrap(line, WIDTH - 12, **WHOLE_WORDS) or [""]
        result += [f"{'' if result else label:<10}{wrapped[0]}", *(" " * 12 + rest for rest in wrapped[1:])]
    return result


def impact_lines(impact: Mapping[str, Any]) -> list[str]:
    capabilities = " · ".join(f"{name} {WORDS[impact[name]]}" for name in ("reads", "writes", "artifacts", "registry"))
    lost = [f"not served: workloads in namespace {', '.join(impact['sources'])}"] if impact["sources"] else []
    return [capabilities, *lost]


def do_now(report: Mapping[str, Any]) -> list[str]:
    lines = [line for cause in report["verdict"]["causes"] for text in cause["next"] for line in command_apart(text)]
    for step in report["plan"]["steps"]:
        lines += approve(report, step)
    return lines


def command_apart(text: str) -> list[str]:
    """Set a command behind a colon on a line of its own, so that it can be copied."""
    head, colon, command = text.partition(": ")
    return [f"{head}:", command] if colon and command.startswith(COMMANDS) else [text]


def approve(report: Mapping[str, Any], step: Mapping[str, Any]) -> list[str]:
    """Tell how to let the collection do a step, or why it will not."""
    if not step["change"]:
        return [f"({step['step']} cannot do it: {step['refused'][0]['reason']})"]
    needs_digest = step["class"] == "declared_state"
    variables = {"mlflow_namespace": report["server"]["namespace"], "mlflow_allowed_steps": step["step"]}
    if needs_digest:
        variables["mlflow_approved_plan"] = report["plan"]["digest"]
    options = "".join(f" -e {name}={value}" for name, value in variables.items())
    return ["or let the collection do it:", f"ansible-playbook mlops.mlflow_runbook.remediate{options}"]


def change_lines(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each change once, with all sources that share a port."""
    sources: dict[str, list[str]] = {}
    for step in steps:
        for rule in step["change"].get("rules", []):
            first, last = rule.get("FromPort", "all"), rule.get("ToPort", "all")
            ports = f"{first}" if first == last else f"{first}-{last}"
            change = f"{step['change']['operation']} on {step['object']}: {rule['IpProtocol']} {ports}"
            source = rule.get("CidrIp") or rule.get("CidrIpv6") or rule.get("GroupId") or rule.get("PrefixListId")
            sources.setdefault(f"{step['step']}: {change}", []).append(str(source))
    return [f"{change} from {', '.join(names)}" for change, names in sources.items()]


def cause_lines(report: Mapping[str, Any]) -> list[str]:
    verdict = report["verdict"]
    if verdict["causes"]:
        return [
            line
            for cause in verdict["causes"]
            for line in (cause["summary"], f"({cause['id']} · {cause['object']} · owner: {cause['owner']})")
        ]
    if verdict["status"] == "healthy":
        return ["none; the server answers API calls that use its database"]
    over = verdict.get("recovered")
    if over:
        return [f"none now; from {short_time(over['from'])} to {short_time(over['to'])} {over['what']}"]
    starting = [item["summary"] for item in report["findings"] if item["id"] == "pods.starting"]
    if starting:
        return [f"none so far: {starting[0]}; look again then"]
    first = verdict["unknown"][0] if verdict["unknown"] else {"what": "nothing was seen", "why": "no evidence"}
    return [f"not known: {first['what']} ({first['why']})"]


def text(report: Mapping[str, Any]) -> str:
    """Write the report as text: cause, impact, since, do now, do not; then the reasons."""
    verdict, server = report["verdict"], report["server"]
    since = [cause["since"] for cause in verdict["causes"] if cause["since"]]
    name = f"{server['namespace']}/{server['name'] or '?'}"
    lines = [f"MLflow {name} {HEADLINES[verdict['status']]}   {short_time(report['started'])}", ""]
    lines += block("CAUSE" if len(verdict["causes"]) < 2 else "CAUSES", cause_lines(report))
    lines += block("IMPACT", impact_lines(verdict["impact"]))
    if since:
        lines += block("SINCE", [f"{short_time(min(since))} ({ago(min(since), report['started'])})"])
    lines += block("DO NOW", do_now(report))
    lines += block("DO NOT", verdict["do_not"])
    if report["outcome"]:
        lines += block("OUTCOME", [report["outcome"], *action_lines(report)])
    return "\n".join([*lines, *details(report), ""])


def ruled_out_lines(verdict: Mapping[str, Any]) -> list[str]:
    """Name what the same evidence rules out in one line."""
    grouped: dict[str, list[str]] = {}
    for item in verdict["ruled_out"]:
        grouped.setdefault(", ".join(item["by"]), []).append(item["what"])
    return [f"{', '.join(whats)}: by {by}" for by, whats in grouped.items()]


def unknown_lines(verdict: Mapping[str, Any]) -> list[str]:
    """Name what the same obstacle hides in one line."""
    grouped: dict[str, list[str]] = {}
    for item in verdict["unknown"]:
        grouped.setdefault(f"{item['why']}; needs {item['needs']}", []).append(item["what"])
    return [f"{', '.join(whats)}: {obstacle}" for obstacle, whats in grouped.items()]


def action_lines(report: Mapping[str, Any]) -> list[str]:
    return [f"{item['step']}: {'changed' if item['changed'] else 'not changed'}" for item in report["actions"]]


def changed_lines(report: Mapping[str, Any]) -> list[str]:
    """Say when what changed, and by whom; a change is no cause by itself."""
    return [
        f"{short_time(item['at'])} {item['object']}{' by ' + item['by'] if item['by'] else ''}: {item['what']}"
        for item in report.get("changes") or []
    ]


def details(report: Mapping[str, Any]) -> list[str]:
    verdict = report["verdict"]
    steps = report["plan"]["steps"]
    digest = [f"plan digest {report['plan']['digest']}"] if steps else []
    explained = [f"{item['id']}: {item['summary']}" for item in report["findings"] if item["explained_by"]]
    known = [item for item in report["findings"] if BY_ID[item["id"]].role is Role.NOTE]
    notes = [item["summary"] for item in known if not item["explained_by"]]
    server = report["server"]
    sections = (
        ("Change that would be made", change_lines(steps) + digest),
        ("Explained by it", explained),
        ("Worth knowing", [*server.get("remarks", []), *notes]),
        ("Changed in the last day", changed_lines(report)),
        ("Proven by", [key for cause in verdict["causes"] for key in cause["evidence"]]),
        ("Ruled out", ruled_out_lines(verdict)),
        ("Could not be seen", unknown_lines(verdict)),
        ("Discovered", discovered_lines(server)),
    )
    lines: list[str] = []
    for title, entries in sections:
        if entries:
            lines += ["", title, *(line for entry in entries for line in bullet(entry))]
    seconds = report["seconds"].get("total")
    return [*lines, "", f"{report['started']}  {seconds} s"] if seconds is not None else lines


def discovered_lines(server: Mapping[str, Any]) -> list[str]:
    """Say for each discovered value where it was found, in one line for each place."""
    backend = server.get("backend") or {}
    shown = {**server, "backend": backend.get("host") or backend.get("scheme") or ""}
    grouped: dict[str, list[str]] = {}
    for name, where in sorted((server.get("found") or {}).items()):
        if shown.get(name):
            grouped.setdefault(where, []).append(f"{name} {shown[name]}")
    return [f"{where}: {', '.join(values)}" for where, values in grouped.items()]


def bullet(entry: str) -> list[str]:
    wrapped = textwrap.wrap(entry, WIDTH - 4, **WHOLE_WORDS) or [""]
    return [f"  - {wrapped[0]}", *(f"    {line}" for line in wrapped[1:])]
