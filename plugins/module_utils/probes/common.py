# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every probe shares: time-outs, the names of results, and a record that survives hanging probes.

Everything in this package but ``bundle`` runs inside a pod with the standard library alone.
"""

from __future__ import annotations

import errno
import http.client
import re
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Callable

MASK = "********"
URI_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@\"']*:)\S+(?P<tail>@)", re.IGNORECASE)
CONNECT_SECONDS = 5.0
WAKE_SECONDS = 0.25

TEXTS = (
    (re.compile(r"timed out|timeout expired|(?:connect|read) timeout on", re.IGNORECASE), "timeout"),
    (re.compile(r"Connection refused|Errno 111\b"), "refused"),
    (re.compile(r"Temporary failure in name resolution|Errno -3\b"), "try_again"),
    (re.compile(r"Name or service not known|No address associated|Errno -[25]\b"), "not_found"),
    (re.compile(r"Connection reset|closed the connection unexpectedly|Broken pipe|SSL SYSCALL error: EOF"), "reset"),
)


def redact(text: str, values: tuple[str, ...] = ()) -> str:
    """Mask known secret values, and the password of every address that carries one."""
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, MASK)
    return URI_PASSWORD.sub(r"\g<head>" + MASK + r"\g<tail>", text)


def redact_data(value: Any, values: tuple[str, ...]) -> Any:
    """Return JSON data with every text redacted."""
    if isinstance(value, str):
        return redact(value, values)
    if isinstance(value, dict):
        return {key: redact_data(item, values) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_data(item, values) for item in value]
    return value


def classify(error: BaseException) -> str:
    """Name the result that an exception stands for.

    Returns:
        ``refused``, ``timeout``, ``not_found``, ``try_again``, ``reset`` or ``error``.
    """
    if isinstance(error, socket.gaierror):
        return "try_again" if error.errno == socket.EAI_AGAIN else "not_found"
    if isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT:
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected)):
        return "reset"
    return next((result for pattern, result in TEXTS if pattern.search(str(error))), "error")


class Failed(Exception):
    """A probe's own verdict on what it met, with more to say than an exception's text."""

    def __init__(self, result: str, text: str, **extra: Any) -> None:
        super().__init__(text)
        self.value = {"result": result, "error": text, **extra}


class Record:
    """Results in the order in which they were begun; those still open when time is up count as timed out."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def measure(self, what: str, subject: str, step: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Run one probe and note its result.

        Args:
            what: kind of evidence, such as ``probe.tcp``.
            subject: the target as text.
            step: returns further fields, or raises.

        Returns:
            The fields when the probe succeeded, otherwise ``None``.
        """
        row: dict[str, Any] = {"what": what, "subject": subject, "state": "open", "begun": time.monotonic()}
        with self._lock:
            self._rows.append(row)
        try:
            value = {"result": "ok", "error": "", **step()}
        except Failed as failure:
            value = failure.value
        except Exception as error:
            value = {
                "result": classify(error),
                "error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:500],
            }
        value["seconds"] = round(time.monotonic() - row["begun"], 3)
        with self._lock:
            row.update(state="ok", value=value)
        return value if value["result"] == "ok" else None

    def skip(self, what: str, subject: str, reason: str) -> None:
        with self._lock:
            self._rows.append({"what": what, "subject": subject, "state": "skipped", "detail": reason})

    def failed(self, *whats: str) -> bool:
        """Tell whether any finished probe of these kinds had another result than ``ok``."""
        with self._lock:
            return any(
                row["what"] in whats and row["state"] == "ok" and row["value"]["result"] != "ok" for row in self._rows
            )

    def reached(self, address: str) -> bool:
        """Tell whether any port of an address has accepted a connection."""
        with self._lock:
            return any(
                row["what"] == "probe.tcp"
                and row["subject"].rpartition(":")[0] == address
                and row["state"] == "ok"
                and row["value"]["result"] == "ok"
                for row in self._rows
            )

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows; a row that is still open is a time-out after the seconds that it had."""
        result = []
        with self._lock:
            for noted in self._rows:
                row = {key: value for key, value in noted.items() if key != "begun"}
                if row["state"] == "open":
                    seconds = round(time.monotonic() - noted["begun"], 3)
                    row["state"] = "ok"
                    row["value"] = {"result": "timeout", "error": "no answer", "seconds": seconds}
                result.append(row)
        return result


def run_together(
    jobs: Sequence[Callable[[], object]], seconds: float, enough: Callable[[], bool] = lambda: False
) -> None:
    """Run jobs side by side and return when all have ended or time is up; late ones are left behind.

    Args:
        jobs: what to run.
        seconds: time limit.
        enough: asked again and again; when true, the jobs that still run have nothing more to tell.
    """
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and time.monotonic() < end and not enough():
            thread.join(min(WAKE_SECONDS, max(0.0, end - time.monotonic())))
