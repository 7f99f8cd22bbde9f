# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every client shares: one deadline, a count of the calls, and the outcome of one call."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..core.evidence import State


@dataclass(frozen=True)
class Observation:
    """The outcome of one call, not yet bound to a place, a subject and a time.

    Attributes:
        state: what became of our look.
        value: plain JSON data; ``None`` unless something was seen.
        detail: the reason for any other state.
    """

    state: State
    value: Any = None
    detail: str = ""

    @property
    def seen(self) -> bool:
        return self.state in (State.OK, State.PARTIAL)


class CallFailed(Exception):
    """A call that gave no value; carries the observation that it amounts to."""

    def __init__(self, observation: Observation) -> None:
        super().__init__(observation.detail)
        self.observation = observation


class Deadline:
    """One point in time that no call may outlive.

    Args:
        seconds: time from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, most: float | None = None) -> float:
        """Return the seconds that are left, never negative and never more than ``most``."""
        left = max(0.0, self._end - time.monotonic())
        return left if most is None else min(left, most)


class CallCounter:
    """Counts calls by verb and resource, from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def as_json(self) -> dict[str, int]:
        with self._lock:
            return dict(sorted(self._counts.items()))
