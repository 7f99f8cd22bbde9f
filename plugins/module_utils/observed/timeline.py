# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened when: changes, failures and what was seen of them, oldest first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..core.catalogue import BY_ID
from ..core.changes import recent_changes
from ..core.findings import Context, parse_time
from ..core.kinds import Role
from ..core.verdict import Verdict
from ..core.workload import (
    container_statuses,
    current_pods,
    event_start,
    event_time,
    last_end,
    ready_pods,
    replica_sets,
    server_pods,
    workload,
    workload_name,
)
from .proof import one_line

BEFORE = timedelta(hours=1)
"""How far before the first sign of trouble a change may lie and still be worth telling."""

TOGETHER = timedelta(minutes=2)
"""What appears this soon after the server was installed with it."""

WITHOUT_TROUBLE = timedelta(hours=24)
MOST = 10
ROUTINE = re.compile(r"^(?:Backing up|Finished) DB|^DB instance created", re.IGNORECASE)
"""Messages of RDS events that say nothing about trouble."""

LONGEST = 120


@dataclass(frozen=True)
class Moment:
    """One entry; ``kind`` is ``change``, ``failure``, ``event`` or ``recovery``."""

    at: str
    kind: str
    what: str

    def as_json(self) -> dict[str, str]:
        return {"at": self.at, "kind": self.kind, "what": one_line(self.what, LONGEST)}


def timeline(context: Context, verdict: Verdict) -> list[dict[str, Any]]:
    """Return the moments that matter, oldest first, at most as many as a person reads.

    Args:
        context: server and evidence.
        verdict: its findings and its recovery have moments of their own.
    """
    found = [moment for moment in everything(context, verdict) if moment.at]
    known = sorted(dict.fromkeys(found), key=lambda moment: (parse_time(moment.at), moment.kind))
    start = earliest_of_interest(context, verdict)
    shown = [moment for moment in known if parse_time(moment.at) >= start]
    return [moment.as_json() for moment in trimmed(shown)]


def trimmed(moments: list[Moment]) -> list[Moment]:
    """Leave out what is least telling when there is too much: other events first, then the oldest."""
    if len(moments) <= MOST:
        return moments
    telling = [moment for moment in moments if moment.kind != "event"]
    room = max(MOST - len(telling), 0)
    others = [moment for moment in moments if moment.kind == "event"]
    kept = set(others[-room:] if room else []) | set(telling[-MOST:])
    return [moment for moment in moments if moment in kept]


def earliest_of_interest(context: Context, verdict: Verdict) -> Any:
    begun = [cause.since for cause in verdict.causes if cause.since]
    begun += [verdict.recovery.begin] if verdict.recovery else []
    return parse_time(min(begun)) - BEFORE if begun else context.now - WITHOUT_TROUBLE


def everything(context: Context, verdict: Verdict) -> Iterator[Moment]:
    yield from changes(context)
    yield from ends(context)
    yield from warnings(context)
    yield from signs(verdict)


def signs(verdict: Verdict) -> Iterator[Moment]:
    """Yield the first sign of each finding; of pods their events and endings tell more."""
    causes = {(cause.finding.id, cause.finding.object) for cause in verdict.causes}
    for cause in verdict.causes:
        if cause.since:
            yield Moment(cause.since, "failure", f"first sign of {cause.finding.id} ({cause.finding.object})")
    for finding in verdict.findings:
        told = (finding.id, finding.object) in causes or finding.section == "pods"
        if finding.since and not told and BY_ID[finding.id].role is not Role.NOTE:
            yield Moment(finding.since, "failure", finding.summary)
    if verdict.recovery:
        yield Moment(verdict.recovery.begin, "failure", "the first call failed")
        yield Moment(verdict.recovery.end, "recovery", "calls work again")


def changes(context: Context) -> Iterator[Moment]:
    """Yield what changed in the last day; what was made together with the server only by the server itself."""
    server = workload(context)
    created = str(server["metadata"].get("creationTimestamp") or "") if server else ""
    for change in recent_changes(context):
        if change.by == "RDS":
            if not ROUTINE.search(change.what):
                yield Moment(change.at, "event", f"RDS: {change.what}")
        elif change.what != "created" or change.object == workload_name(context) or not installed(change.at, created):
            by = f" by {change.by}" if change.by else ""
            yield Moment(change.at, "change", f"{change.object}{by}: {change.what}")


def installed(moment: str, created: str) -> bool:
    """Tell whether something appeared with the server."""
    return bool(created) and parse_time(moment) - parse_time(created) <= TOGETHER


def ends(context: Context) -> Iterator[Moment]:
    """Yield when containers of the server ended, and when its pods began."""
    for pod in current_pods(context):
        name = pod["metadata"]["name"]
        yield Moment(pod["metadata"].get("creationTimestamp") or "", "event", f"pod {name} was created")
        for status, dummy in container_statuses(pod):
            end = last_end(status)
            if end and end.get("finishedAt"):
                why = f"{end.get('reason', '')} (exit code {end.get('exitCode')})"
                yield Moment(end["finishedAt"], "failure", f"container {status['name']} of {name} ended: {why}")


def warnings(context: Context) -> Iterator[Moment]:
    """Yield Warning events about the server's own objects, those of one reason once."""
    owned = [*replica_sets(context), *server_pods(context)]
    names = {item["metadata"]["name"] for item in owned} | {context.target.deployment, context.target.service}
    over = {pod["metadata"]["name"]: ready_since(pod) for pod in ready_pods(context)}
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in context.evidence.objects("kubernetes.events", context.target.namespace):
        name = str((event.get("involvedObject") or {}).get("name"))
        if event.get("type") == "Warning" and name in names and event_time(event) > over.get(name, ""):
            grouped.setdefault((name, str(event.get("reason"))), []).append(event)
    for (name, reason), events in grouped.items():
        times = sum(int((event.get("series") or {}).get("count") or event.get("count") or 1) for event in events)
        last = max(events, key=event_time)
        often = f" ({times} times, last {event_time(last)[11:19]})" if times > 1 else ""
        yield Moment(min(map(event_start, events)), "event", f"{reason} on {name}{often}: {last.get('message', '')}")


def ready_since(pod: Mapping[str, Any]) -> str:
    """Return when a pod became ready: what was reported of its start before is no news."""
    conditions = pod["status"].get("conditions") or []
    return max(
        (str(item.get("lastTransitionTime") or "") for item in conditions if item["type"] == "Ready"), default=""
    )
