# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab is doing, one line at a time; steps may run in parallel threads."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

REMIND_SECONDS = 30.0
_start = time.monotonic()
_lock = threading.Lock()


def say(text: str) -> None:
    """Print one line with the seconds since the program started (to standard error: ``env`` is evaluated)."""
    with _lock:
        print(f"[{time.monotonic() - _start:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str, usually: str = "") -> Iterator[None]:
    """Announce a step, remind of it while it lasts, and say how long it took.

    ``usually`` is the time to expect, for steps that take minutes.
    """
    began = time.monotonic()
    done = threading.Event()

    def remind() -> None:
        while not done.wait(REMIND_SECONDS):
            say(f"{what}: still at it after {time.monotonic() - began:.0f} s")

    say(f"{what} ..." + (f" (usually {usually})" if usually else ""))
    threading.Thread(target=remind, daemon=True).start()
    try:
        yield
    finally:
        done.set()
    say(f"{what}: {time.monotonic() - began:.1f} s")
