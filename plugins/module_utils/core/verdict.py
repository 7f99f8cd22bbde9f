# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one cause: which findings explain which, what the server can still do, and what stays unknown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

from .catalogue import BY_ID, closure
from .discovery import Target
from .evidence import Evidence, EvidenceSet, State
from .findings import (
    SERVER,
    TO_DATABASE,
    TO_DNS,
    TO_IDENTITY,
    TO_OBJECT_STORAGE,
    TO_SERVER,
    Finding,
    RuledOut,
    SectionResult,
    Unknown,
    earliest,
    parse_time,
)
from .kinds import Role

SOMETIMES = frozenset(
    {
        "service.ingress_backend_wrong",
        "service.ingress_certificate_broken",
        "service.ingress_class_missing",
        "service.ingress_host_rejected",
        "service.ingress_path_wrong",
        "service.replica_failing",
        "service.selector_matches_others",
    }
)
"""Causes that fail some requests now, although our own got through."""

CLOCK_TOLERANCE = timedelta(minutes=2)
"""Moments come from the clocks of nodes, AWS and pods, and logs lag; a smaller difference says nothing about order."""

FLOWS_AFTER = {
    TO_DNS: (TO_DATABASE, TO_OBJECT_STORAGE, TO_IDENTITY),
    TO_IDENTITY: (TO_OBJECT_STORAGE,),
    TO_DATABASE: (SERVER,),
    TO_OBJECT_STORAGE: (SERVER,),
}


@dataclass(frozen=True)
class Impact:
    """What works for whom; ``None`` means that we could not tell."""

    sources: tuple[str, ...] = ()
    reads: bool | None = None
    writes: bool | None = None
    artifacts: bool | None = None
    registry: bool | None = None


@dataclass(frozen=True)
class Cause:
    """A finding that nothing else explains, with everything that follows from it."""

    finding: Finding
    explains: tuple[str, ...]
    since: str | None
    next: tuple[str, ...]
    do_not: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.finding.id} {self.finding.object}".encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        kind = BY_ID[self.finding.id]
        return {
            "id": self.finding.id,
            "section": self.finding.section,
            "object": self.finding.object,
            "severity": kind.severity,
            "summary": self.finding.summary,
            "since": self.since,
            "owner": kind.owner,
            "fingerprint": self.fingerprint,
            "configured": self.finding.configured,
            "measured": self.finding.measured,
            "evidence": list(self.finding.evidence),
            "explains": list(self.explains),
            "next": list(self.next),
        }


@dataclass(frozen=True)
class Recovery:
    """A failure that is over.

    Attributes:
        what: what failed, in a sentence.
        begin: first failure, ISO 8601.
        end: first success after the last failure, ISO 8601.
        evidence: keys of the evidence that shows it.
    """

    what: str
    begin: str
    end: str
    evidence: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"what": self.what, "from": self.begin, "to": self.end, "evidence": list(self.evidence)}


@dataclass(frozen=True)
class Verdict:
    """The answer to one diagnosis."""

    status: str
    impact: Impact
    causes: tuple[Cause, ...] = ()
    findings: tuple[Finding, ...] = ()
    explained_by: Mapping[str, str] = field(default_factory=dict)
    ruled_out: tuple[RuledOut, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    recovery: Recovery | None = None

    @property
    def do_not(self) -> list[str]:
        return list(dict.fromkeys(text for cause in self.causes for text in cause.do_not))

    def as_json(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "impact": {**asdict(self.impact), "sources": list(self.impact.sources)},
            "causes": [cause.as_json() for cause in self.causes],
            "ruled_out": [{"what": item.what, "by": list(item.by)} for item in self.ruled_out],
            "unknown": [asdict(item) for item in self.unknown],
            "do_not": self.do_not,
            "recovered": self.recovery.as_json() if self.recovery else None,
        }


def name_of(finding: Finding) -> str:
    return f"{finding.id} {finding.object} {finding.flow}"


def flow_reaches(origin: str, other: str) -> bool:
    """Tell whether what happens on one flow shows on another one."""
    if origin == other:
        return True
    if origin == SERVER:
        return other.endswith(TO_SERVER)
    return any(
        flow_reaches(following, other)
        for following in FLOWS_AFTER.get(origin, (SERVER,) if origin.startswith(SERVER) else ())
    )


def began_in_time(cause: Finding, effect: Finding) -> bool:
    if not cause.since or not effect.since:
        return True
    return parse_time(cause.since) <= parse_time(effect.since) + CLOCK_TOLERANCE


def explains(cause: Finding, effect: Finding) -> bool:
    """Tell whether the graph has an edge between two findings, on the same flow and in the order of time."""
    return (
        effect.id in closure(cause.id)
        and cause.id not in closure(effect.id)
        and flow_reaches(cause.flow, effect.flow)
        and began_in_time(cause, effect)
    )


def unique(findings: Iterable[Finding]) -> list[Finding]:
    """Join findings of the same kind, object and flow: their evidence adds up."""
    joined: dict[str, Finding] = {}
    for finding in findings:
        name = name_of(finding)
        known = joined.get(name)
        if known is None:
            joined[name] = finding
            continue
        joined[name] = Finding(
            **{
                **known.__dict__,
                "evidence": tuple(dict.fromkeys((*known.evidence, *finding.evidence))),
                "since": earliest(known.since, finding.since),
                "configured": known.configured or finding.configured,
                "measured": known.measured or finding.measured,
                "facts": {**finding.facts, **known.facts},
            }
        )
    return list(joined.values())


class Facts(dict[str, Any]):
    """Names for a template; one that is not known stays visible."""

    def __missing__(self, key: str) -> str:
        return f"<{key.replace('_', '-')}>"


def fill(templates: Iterable[str], finding: Finding, target: Target | None) -> tuple[str, ...]:
    base = target.as_json() if target else {}
    facts = Facts(
        {
            **base,
            "kind": str(base.get("kind", "deployment")).lower(),
            "without": "connect to its database",
            **finding.facts,
        }
    )
    return tuple(template.format_map(facts) for template in templates)


def build_cause(finding: Finding, explained: list[Finding], target: Target | None) -> Cause:
    kind = BY_ID[finding.id]
    return Cause(
        finding=finding,
        explains=tuple(dict.fromkeys(item.id for item in explained)),
        since=finding.since or earliest(*(item.since for item in explained)),
        next=fill(kind.next, finding, target),
        do_not=fill(kind.do_not, finding, target),
    )


def merged(causes: Iterable[Cause]) -> list[Cause]:
    """Name an object once for one kind of trouble: what it does on several flows adds up."""
    joined: dict[tuple[str, str], Cause] = {}
    for cause in causes:
        name = (cause.finding.id, cause.finding.object)
        known = joined.setdefault(name, cause)
        if known is not cause:
            evidence = tuple(dict.fromkeys((*known.finding.evidence, *cause.finding.evidence)))
            summary = "; ".join(dict.fromkeys((known.finding.summary, cause.finding.summary)))
            joined[name] = replace(
                known,
                finding=replace(
                    known.finding,
                    evidence=evidence,
                    summary=summary,
                    configured=known.finding.configured or cause.finding.configured,
                    measured=known.finding.measured or cause.finding.measured,
                ),
                explains=tuple(dict.fromkeys((*known.explains, *cause.explains))),
                since=earliest(known.since, cause.since),
                next=tuple(dict.fromkeys((*known.next, *cause.next))),
                do_not=tuple(dict.fromkeys((*known.do_not, *cause.do_not))),
            )
    return list(joined.values())


def conflicts(evidence: EvidenceSet) -> list[Unknown]:
    """Find contradictions: the same key seen twice with different results."""
    seen: dict[str, Evidence] = {}
    found = []
    for item in evidence:
        if not item.what.startswith("probe.") or not item.seen or not isinstance(item.value, dict):
            continue
        known = seen.setdefault(f"{item.key} {item.value.get('probe_pod')}", item)
        if known.value.get("result") != item.value.get("result"):
            found.append(
                Unknown(
                    what=f"{item.key} answered both {known.value.get('result')} and {item.value.get('result')}",
                    why="the observations contradict each other",
                    needs="another run",
                )
            )
    return found


def unseen(evidence: EvidenceSet) -> list[Unknown]:
    """Turn every look that was refused or failed into an entry that says what would reveal it."""
    found: dict[tuple[str, str], Unknown] = {}
    for item in evidence:
        if item.state is State.FORBIDDEN:
            entry = Unknown(item.key, "not permitted", item.detail)
        elif item.state is State.UNREACHABLE:
            entry = Unknown(item.key, item.detail or "not reachable", "a route to it or credentials for it")
        elif item.state is State.SKIPPED and item.what == "probe.pod":
            absent = item.detail.endswith("does not exist")
            needs = "mlflow_source_namespaces" if absent else "mlflow_probe_pods or the right that is named"
            entry = Unknown(item.key, f"not looked: {item.detail}", needs)
        else:
            continue
        found.setdefault((item.what, item.detail), entry)
    return list(found.values())


def status_of(impact: Impact, causes: list[Cause], unexplained: list[Finding]) -> str:
    """Judge the whole: ``healthy`` only when the database was really asked and answered."""
    if impact.reads is False:
        return "down"
    if impact.writes is False or impact.artifacts is False or impact.registry is False or impact.sources:
        return "degraded"
    if impact.reads is None:
        return "unknown"
    if any(cause.finding.section == "latency" or cause.finding.id in SOMETIMES for cause in causes):
        return "degraded"
    if causes:
        return "at_risk"
    return "degraded" if any(BY_ID[item.id].severity in ("critical", "high") for item in unexplained) else "healthy"


def explanations(findings: list[Finding]) -> dict[str, str]:
    """Map each explained finding to what explains it, a possible cause before a mere symptom."""
    causes_first = sorted(findings, key=lambda item: BY_ID[item.id].role is Role.SYMPTOM)
    explained_by: dict[str, str] = {}
    for effect in findings:
        for cause in causes_first:
            if cause is not effect and explains(cause, effect):
                explained_by.setdefault(name_of(effect), name_of(cause))
    return explained_by


def is_root(finding: Finding, explained_by: Mapping[str, str]) -> bool:
    role = BY_ID[finding.id].role
    return role is Role.CAUSE or (role is Role.EITHER and name_of(finding) not in explained_by)


def weight(cause: Cause) -> tuple[int, str]:
    return ("critical", "high", "medium").index(BY_ID[cause.finding.id].severity), name_of(cause.finding)


def judge(results: Iterable[SectionResult], evidence: EvidenceSet, target: Target | None, impact: Impact) -> Verdict:
    """Join the findings of all sections to one answer.

    Args:
        results: what each section found.
        evidence: everything collected, for contradictions and for what could not be seen.
        target: the server.
        impact: what works for whom, as measured.
    """
    sections = list(results)
    findings = unique(finding for result in sections for finding in result.findings)
    explained_by = explanations(findings)
    causes = [
        build_cause(root, [item for item in findings if item is not root and explains(root, item)], target)
        for root in findings
        if is_root(root, explained_by)
    ]
    unexplained = [
        item for item in findings if BY_ID[item.id].role is Role.SYMPTOM and name_of(item) not in explained_by
    ]
    open_questions = [
        Unknown(item.summary, "no evidence that was seen explains it", "a person, or the rights that are named below")
        for item in unexplained
    ]
    contradictions = conflicts(evidence)
    section_unknown = [entry for result in sections for entry in result.unknown]
    found_ids = {item.id for item in findings}
    ruled_out = {item.what: item for result in sections for item in result.ruled_out if item.what not in found_ids}
    return Verdict(
        status="unknown" if contradictions else status_of(impact, causes, unexplained),
        impact=impact,
        causes=() if contradictions else tuple(sorted(merged(causes), key=weight)),
        findings=tuple(findings),
        explained_by=explained_by,
        ruled_out=tuple(ruled_out.values()),
        unknown=tuple(dict.fromkeys([*contradictions, *open_questions, *section_unknown, *unseen(evidence)])),
    )
