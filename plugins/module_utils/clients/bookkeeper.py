# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Lease and the history beside a server: one run at a time, and what was tried is not forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ..core import attempts
from ..core.attempts import HISTORY_KEY, MANAGED_BY, OURS, SHARED_LABEL, WRITES_ANNOTATION, Attempt
from ..core.evidence import State
from ..core.findings import parse_time
from .calls import Observation
from .kubernetes import ClusterReader

MOST_WRITES = 20
LEASES = "/apis/coordination.k8s.io/v1"
SELECTOR = {"labelSelector": f"{MANAGED_BY}={OURS}"}


class BookkeepingFailed(Exception):
    """The Lease or the history could not be written, so nothing else may be."""


def shared_value(shared: str) -> str:
    """Return a label's value for a shared dependency, whose name may hold what a label may not."""
    return hashlib.sha256(shared.encode()).hexdigest()[:16] if shared else ""


def micro(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Bookkeeper:
    """Writes the Lease and the history of one server.

    Args:
        reader: the API.
        namespace: the server's namespace.
        deployment: name of its workload.
        me: who writes.
        ended: holders that are known to have ended.
        clock: returns the time now, in UTC.
    """

    def __init__(
        self,
        reader: ClusterReader,
        namespace: str,
        deployment: str,
        me: str,
        ended: frozenset[str],
        clock: Callable[[], datetime],
    ) -> None:
        self.reader = reader
        self.namespace = namespace
        self.name = attempts.record_name(deployment)
        self.me = me
        self.ended = ended
        self.clock = clock

    @property
    def _leases(self) -> str:
        return f"{LEASES}/namespaces/{self.namespace}/leases"

    @property
    def _history(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/configmaps"

    def take(self, seconds: int, shared: str) -> str:
        """Take the server's Lease for a while.

        Args:
            seconds: how long it is held without being renewed.
            shared: the dependency of several servers that is worked on; empty for none.

        Returns:
            who has it, or why it could not be had; empty when it was taken.
        """
        now = self.clock()
        lease = self._read_lease()
        if lease is not None:
            other = attempts.held_by_other(lease, self.me, self.ended, now)
            if other:
                return other
        problem = self._write_lease(lease, self._held(lease, now, seconds, shared_value(shared)))
        if problem:
            return problem
        other = self._other_on(shared_value(shared), now) if shared else ""
        if other:
            self.release()
            return f"{shared}: {other}"
        return ""

    def lost(self) -> str:
        """Say why the Lease is not ours any more, or that this cannot be seen; empty while it is ours."""
        seen = self.reader.get(f"{self._leases}/{self.name}", "leases", self.namespace)
        if seen.seen:
            return attempts.lost(seen.value, self.me, self.clock())
        if seen.state is State.ABSENT:
            return f"lease/{self.name} is gone"
        return f"whether lease/{self.name} still is ours cannot be seen: {seen.detail or seen.state.value}"

    def release(self) -> None:
        """Give the Lease back, if it is ours."""
        lease = self._read_lease()
        if lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self.me:
            metadata = {**lease["metadata"], "labels": {MANAGED_BY: OURS}}
            self._write_lease(lease, {**lease, "metadata": metadata, "spec": {**lease["spec"], "holderIdentity": ""}})

    def begin(self, attempt: Attempt) -> None:
        """Record an attempt and its undo before anything is written for it.

        Raises:
            BookkeepingFailed: it could not be recorded.
        """
        self._change(lambda known: (*known, attempt))
        lease = self._read_lease()
        if lease is None:
            raise BookkeepingFailed(f"lease/{self.name} is gone")
        annotations = dict(lease["metadata"].get("annotations") or {})
        before = [moment for moment in str(annotations.get(WRITES_ANNOTATION) or "").split(",") if moment]
        if attempt.writes:
            annotations[WRITES_ANNOTATION] = ",".join([*before, attempt.at][-MOST_WRITES:])
        problem = self._write_lease(lease, {**lease, "metadata": {**lease["metadata"], "annotations": annotations}})
        if problem:
            raise BookkeepingFailed(problem)

    def mark(self, identifier: str, state: str, outcome: str = "") -> None:
        """Record how far an attempt has come.

        Raises:
            BookkeepingFailed: it could not be recorded.
        """
        self._change(lambda known: attempts.with_state(known, identifier, state, outcome))

    def _read_lease(self) -> dict[str, Any] | None:
        seen = self.reader.get(f"{self._leases}/{self.name}", "leases", self.namespace)
        return seen.value if seen.seen else None

    def _held(self, lease: Mapping[str, Any] | None, now: datetime, seconds: int, shared: str) -> dict[str, Any]:
        metadata = dict((lease or {}).get("metadata") or {"name": self.name, "namespace": self.namespace})
        labels = {MANAGED_BY: OURS, **({SHARED_LABEL: shared} if shared else {})}
        moment = micro(now)
        spec = {
            "holderIdentity": self.me,
            "leaseDurationSeconds": seconds,
            "acquireTime": moment,
            "renewTime": moment,
        }
        kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        return {**kind, "metadata": {**metadata, "labels": labels}, "spec": spec}

    def _write_lease(self, before: Mapping[str, Any] | None, body: Mapping[str, Any]) -> str:
        if before is None:
            seen = self.reader.create(self._leases, "leases", self.namespace, body)
        else:
            seen = self.reader.update(f"{self._leases}/{self.name}", "leases", self.namespace, body)
        return "" if seen.seen else failure(seen, f"lease/{self.name}")

    def _other_on(self, shared: str, now: datetime) -> str:
        """Say who else has just taken the same dependency; of two at once the earlier one has it."""
        selector = {"labelSelector": f"{MANAGED_BY}={OURS},{SHARED_LABEL}={shared}"}
        seen = self.reader.list(f"{LEASES}/leases", "leases", "", selector)
        if not seen.seen:
            return failure(seen, "the leases of all namespaces")
        mine = next((item for item in seen.value["items"] if self._is_mine(item)), None)
        for item in seen.value["items"]:
            other = "" if self._is_mine(item) else attempts.held_by_other(item, self.me, self.ended, now)
            if other and (mine is None or rank(item) < rank(mine)):
                return other
        return ""

    def _is_mine(self, lease: Mapping[str, Any]) -> bool:
        return (lease["metadata"]["namespace"], lease["metadata"]["name"]) == (self.namespace, self.name)

    def _change(self, change: Callable[[Iterable[Attempt]], Iterable[Attempt]]) -> None:
        seen = self.reader.get(f"{self._history}/{self.name}", "configmaps", self.namespace)
        if not seen.seen and seen.state is not State.ABSENT:
            raise BookkeepingFailed(failure(seen, f"configmap/{self.name}"))
        known = attempts.read(str((seen.value.get("data") or {}).get(HISTORY_KEY) or "")) if seen.seen else ()
        data = {HISTORY_KEY: attempts.write(change(known))}
        labels = {MANAGED_BY: OURS}
        if seen.seen:
            body = {**seen.value, "data": data}
            done = self.reader.update(f"{self._history}/{self.name}", "configmaps", self.namespace, body)
        else:
            metadata = {"name": self.name, "namespace": self.namespace, "labels": labels}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            done = self.reader.create(self._history, "configmaps", self.namespace, body)
        if not done.seen:
            raise BookkeepingFailed(failure(done, f"configmap/{self.name}"))


def rank(lease: Mapping[str, Any]) -> tuple[datetime, str, str]:
    metadata, spec = lease["metadata"], lease["spec"]
    acquired = parse_time(str(spec.get("acquireTime") or micro(datetime.max - timedelta(days=1))))
    return acquired, metadata["namespace"], metadata["name"]


def failure(seen: Observation, what: str) -> str:
    if seen.state is State.FORBIDDEN:
        return f"{what} cannot be kept: needs {seen.detail}"
    return f"{what} cannot be kept: {seen.detail or seen.state.value}"
