# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doing many slow things at once, and noting when each was seen."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..clients.calls import Deadline, Observation
from ..core.evidence import Evidence, State

Clock = Callable[[], str]
Job = Callable[[], list[Evidence]]
WORKERS = 12
GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class Notebook:
    """Turns observations into evidence.

    Attributes:
        clock: returns the UTC time as ISO 8601 with ``Z``.
    """

    clock: Clock

    def note(self, what: str, place: str, subject: str, seen: Observation) -> Evidence:
        value = seen.value if seen.seen else None
        return Evidence(what, place, subject, self.clock(), seen.state, value, seen.detail)

    def skip(self, what: str, place: str, subject: str, reason: str) -> Evidence:
        return Evidence(what, place, subject, self.clock(), State.SKIPPED, None, reason)

    def unreachable(self, what: str, place: str, subject: str, reason: str) -> Evidence:
        return Evidence(what, place, subject, self.clock(), State.UNREACHABLE, None, reason)


def together(jobs: Sequence[Job], deadline: Deadline) -> list[Evidence]:
    """Run jobs side by side and return all their evidence in the order of the jobs.

    A job that outlives the deadline is left behind; its thread cannot keep the process alive.

    Raises:
        Exception: the first that a job raised, which is a fault of ours and never one of the server.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    results: dict[int, Any] = {}
    for index in range(len(jobs)):
        waiting.put(index)

    def work() -> None:
        while True:
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                results[index] = jobs[index]()
            except Exception as failure:
                results[index] = failure

    threads = [threading.Thread(target=work, daemon=True) for dummy in range(min(WORKERS, len(jobs)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(deadline.left() + GRACE_SECONDS)
    found: list[Evidence] = []
    for index in range(len(jobs)):
        result = results.get(index, [])
        if isinstance(result, Exception):
            raise result
        found.extend(result)
    return found
