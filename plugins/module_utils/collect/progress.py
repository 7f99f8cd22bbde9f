# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saying what a collection waits for, so that nobody stares at a silent screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..core.evidence import Evidence
from .threads import Job

Tell = Callable[[str], None]
FIRST_SECONDS = 4.0
"""A healthy server is done within three seconds, and nobody needs a word until then."""

PAUSE_SECONDS = 8.0
MOST = 3


class Progress:
    """Remembers what is under way, and tells it when that takes long.

    Args:
        tell: shows one line to a person.
        first: seconds of silence before the first line.
        pause: seconds between two lines.
    """

    def __init__(self, tell: Tell, first: float = FIRST_SECONDS, pause: float = PAUSE_SECONDS) -> None:
        self._tell = tell
        self._first, self._pause = first, pause
        self._under_way: list[str] = []
        self._over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Tell from time to time what is under way, until the block is left."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """Name what is under way in the block."""
        self._under_way.append(what)
        try:
            yield
        finally:
            self._under_way.remove(what)

    def named(self, what: str, job: Job) -> Job:
        """Return a job that is under way by this name while it runs."""

        def run() -> list[Evidence]:
            with self.waiting_for(what):
                return job()

        return run

    def _watch(self) -> None:
        begun, pause = time.monotonic(), self._first
        while not self._over.wait(pause):
            pause = self._pause
            names = list(dict.fromkeys(self._under_way))
            if names:
                more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
                seconds = time.monotonic() - begun
                self._tell(f"{seconds:.0f} s, waiting for {'; '.join(names[:MOST])}{more}")
