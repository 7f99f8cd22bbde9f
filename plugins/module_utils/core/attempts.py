# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was tried on a server before, and how often more may be tried."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from .evidence import API, EvidenceSet
from .findings import parse_time

MANAGED_BY, OURS = "app.kubernetes.io/managed-by", "mlflow-runbook"
"""Label of the Lease and the ConfigMap that are kept beside a server."""

HISTORY_KEY = "history.json"
SHARED_LABEL = "mlflow-runbook.mlops/shared"
WRITES_ANNOTATION = "mlflow-runbook.mlops/writes"
MOST_ATTEMPTS = 20
MOST_BYTES = 200_000
"""A ConfigMap holds at most 1 MiB (Kubernetes documentation); this keeps it readable."""

GRACE = timedelta(seconds=10)
"""A task that was under way when its playbook was killed goes on by itself; a write takes no longer."""

HOUR = timedelta(hours=1)
WINDOW = timedelta(hours=6)
"""Attempts further back than this belong to another incident."""

PER_SERVER, PER_CLUSTER = 2, 5
"""Writes in an hour, over all steps."""

BEGUN, WRITTEN, JUDGED = "begun", "written", "judged"
FIXED, UNDONE, ABANDONED = "fixed", "undone", "abandoned"
"""Outcomes besides those of a comparison of verdicts; an abandoned attempt was recorded, but never written."""


@dataclass(frozen=True)
class Attempt:
    """One step that was tried.

    Attributes:
        id: unique name of the attempt.
        step: its name.
        cause: id of the cause it was for.
        cause_object: what that cause was about.
        object: what it changed.
        plan: digest of the plan that it was part of.
        at: when it began, ISO 8601.
        by: who carried it out.
        state: ``begun`` (recorded, perhaps written), ``written`` or ``judged``.
        outcome: what became of it, once it is judged.
        verdict: the verdict that it was meant for, as far as a later one is compared with it.
        change: the exact change.
        undo: the change that takes it back; empty when nothing can.
    """

    id: str
    step: str
    cause: str
    cause_object: str
    object: str
    plan: str
    at: str
    by: str
    state: str = BEGUN
    outcome: str = ""
    change: Mapping[str, Any] = field(default_factory=dict)
    undo: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        return self.change.get("operation") != "wait" and self.outcome != ABANDONED


def read(text: str) -> tuple[Attempt, ...]:
    """Read a history back.

    Raises:
        ValueError: the text is no history.
    """
    try:
        return tuple(Attempt(**row) for row in json.loads(text or "[]"))
    except TypeError as error:
        raise ValueError(f"not a history of attempts: {error}") from error


def write(attempts: Iterable[Attempt]) -> str:
    """Return a history as text, the newest attempts of it that fit."""
    kept = list(attempts)[-MOST_ATTEMPTS:]
    while True:
        text = json.dumps([asdict(item) for item in kept], indent=1, sort_keys=True)
        if len(text) <= MOST_BYTES or len(kept) <= 1:
            return text
        kept = kept[1:]


def with_state(attempts: Iterable[Attempt], identifier: str, state: str, outcome: str = "") -> tuple[Attempt, ...]:
    """Return a history in which one attempt has gone on."""
    return tuple(replace(item, state=state, outcome=outcome) if item.id == identifier else item for item in attempts)


def unfinished(attempts: Iterable[Attempt]) -> Attempt | None:
    """Return the last attempt if nobody has judged it: its run was killed, or still goes on."""
    last = next(reversed(list(attempts)), None)
    return last if last is not None and last.state != JUDGED else None


def last_to_undo(attempts: Iterable[Attempt]) -> Attempt | None:
    """Return the last attempt, if it was written, not yet taken back, and can be taken back."""
    last = next((item for item in reversed(list(attempts)) if item.outcome not in (UNDONE, ABANDONED)), None)
    return last if last is not None and last.undo else None


def unwritten_plans(attempts: Iterable[Attempt]) -> frozenset[str]:
    """Return the digests of plans of which nothing was written although they were begun: their approval still holds."""
    tried = list(attempts)
    written = {item.plan for item in tried if item.outcome != ABANDONED}
    return frozenset({item.plan for item in tried} - written)


def since(attempts: Iterable[Attempt], now: datetime, period: timedelta) -> list[Attempt]:
    return [item for item in attempts if item.writes and now - parse_time(item.at) < period]


def exhausted(attempts: Iterable[Attempt], step: str, cause: str, now: datetime, most: int, cooldown: timedelta) -> str:
    """Say why a step may not be tried again for a cause; empty when it may.

    Anything but ``fixed`` uses the budget up, and so does the same fault coming back again and again.
    """
    tried = [item for item in attempts if item.step == step and item.cause == cause]
    in_vain = [item for item in tried if item.outcome == ABANDONED and now - parse_time(item.at) < WINDOW]
    if len(in_vain) >= most:
        return (
            f"{step} was begun {len(in_vain)} times and never written, last at {in_vain[-1].at}; a person has to look"
        )
    same = since(tried, now, WINDOW)
    if not same:
        return ""
    last = same[-1]
    if last.outcome != FIXED:
        what = last.outcome or "never judged"
        return f"{step} was tried at {last.at} and ended {what}; a person has to look"
    if now - parse_time(last.at) < cooldown:
        return f"{step} was done at {last.at}; the next one is allowed {int(cooldown.total_seconds())} s later"
    if len(same) >= most:
        return f"{step} was done {len(same)} times in {int(WINDOW.total_seconds() // 3600)} hours, the cause came back"
    return ""


def over_rate(attempts: Iterable[Attempt], cluster_writes: Iterable[str] | None, now: datetime) -> str:
    """Say why nothing may be written for now, whatever the step; empty when something may.

    Args:
        attempts: those of this server.
        cluster_writes: moments of all servers' writes in the cluster; None when they could not be counted.
    """
    own = since(attempts, now, HOUR)
    if len(own) >= PER_SERVER:
        return f"{len(own)} writes on this server within an hour, since {own[0].at}"
    if cluster_writes is None:
        return "the writes of this cluster could not be counted: list leases of all namespaces is needed"
    recent = [moment for moment in cluster_writes if now - parse_time(moment) < HOUR]
    if len(recent) >= PER_CLUSTER:
        return f"{len(recent)} writes on servers of this cluster within an hour"
    return ""


def record_name(deployment: str) -> str:
    """Name the Lease and the ConfigMap of a server."""
    return f"mlflow-runbook-{deployment}"


def of_server(evidence: EvidenceSet, namespace: str, deployment: str) -> tuple[tuple[Attempt, ...], str]:
    """Return what was tried on a server, and why that is not known (empty when it is)."""
    listed = evidence.first("kubernetes.configmaps", API, namespace)
    if listed is None or not listed.conclusive:
        return (), f"what was tried before could not be seen: {listed.detail if listed else 'not read'}"
    for item in evidence.objects("kubernetes.configmaps", namespace):
        if item["metadata"]["name"] == record_name(deployment):
            try:
                return read(str((item.get("data") or {}).get(HISTORY_KEY) or "")), ""
            except ValueError as error:
                return (), f"configmap/{record_name(deployment)} cannot be read: {error}"
    return (), ""


def cluster_writes(evidence: EvidenceSet) -> tuple[str, ...] | None:
    """Return the moments of all servers' writes, as their Leases tell; None when those were not all seen."""
    listed = evidence.first("kubernetes.leases", API)
    if listed is None or not listed.conclusive:
        return None
    return tuple(
        moment
        for item in evidence.objects("kubernetes.leases")
        for moment in str((item["metadata"].get("annotations") or {}).get(WRITES_ANNOTATION) or "").split(",")
        if moment
    )


def busy(evidence: EvidenceSet, namespace: str, deployment: str, me: str, ended: frozenset[str], now: datetime) -> str:
    """Say which other run has this server; empty when none has.

    Args:
        me: the holder that asks.
        ended: holders that are known to have ended, whatever their Lease says.
    """
    for item in evidence.objects("kubernetes.leases", ""):
        metadata = item["metadata"]
        if metadata["name"] == record_name(deployment) and metadata.get("namespace") == namespace:
            return held_by_other(item, me, ended, now)
    return ""


def end_of(spec: Mapping[str, Any]) -> datetime:
    """Return when a Lease that was renewed runs out, by its ``spec``."""
    return parse_time(str(spec["renewTime"])) + timedelta(seconds=int(spec.get("leaseDurationSeconds") or 0))


def held_by_other(lease: Mapping[str, Any], me: str, ended: frozenset[str], now: datetime) -> str:
    """Say that somebody else holds a Lease that has not run out; empty otherwise."""
    spec = lease.get("spec") or {}
    holder, renewed = str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or "")
    if not holder or holder == me or not renewed:
        return ""
    until = parse_time(renewed) + GRACE if holder in ended else end_of(spec)
    if until <= now:
        return ""
    return f"{holder} works on it until {until.strftime('%Y-%m-%dT%H:%M:%SZ')} (lease/{lease['metadata']['name']})"


def lost(lease: Mapping[str, Any], me: str, now: datetime) -> str:
    """Say why a Lease that was taken is not ours any more; empty while it is."""
    spec, name = lease.get("spec") or {}, f"lease/{lease['metadata']['name']}"
    holder = str(spec.get("holderIdentity") or "")
    if holder != me:
        return f"{name} was taken by {holder}" if holder else f"{name} was given back by somebody else"
    until = end_of(spec) if spec.get("renewTime") else now
    return f"{name} ran out at {until.strftime('%Y-%m-%dT%H:%M:%SZ')}" if until <= now else ""


def holders(evidence: EvidenceSet) -> list[str]:
    """Return everybody who is named in a Lease of ours."""
    named = (
        str((item.get("spec") or {}).get("holderIdentity") or "") for item in evidence.objects("kubernetes.leases")
    )
    return [name for name in named if name]
