# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One command, measured: seconds, processor time, memory of all its processes, and what it asked of the APIs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.lab import identity, operator, settings
from tests.lab.emulation import gateway
from tests.lab.faults import writes
from tests.lab.settings import LabError

TIME_OUT = 300
SAMPLE_SECONDS = 0.2
SETTLE_SECONDS = 1.0
"""What the logs of the API server and of AWS may lag behind."""
PROPORTIONAL = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """One run: ``seconds`` from start to end, ``processor_seconds`` of its own processes, exit code."""

    seconds: float
    processor_seconds: float
    code: int


@dataclass(frozen=True)
class Footprint:
    """What one run asked for: requests by verb, AWS calls by service, pods made, memory at its peak."""

    kubernetes: dict[str, int]
    aws: dict[str, int]
    pods_created: int
    peak_memory_mib: float


def run(argv: list[str], environment: dict[str, str], log: Path, memory: list[int] | None = None) -> Sample:
    """Run a command to its end with its output in ``log``.

    Args:
        memory: when given, gets the memory of all its processes (KiB) again and again; this takes time of its own.

    Raises:
        LabError: it took longer than TIME_OUT seconds.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        ended = threading.Event()
        watch = threading.Timer(TIME_OUT, os.killpg, (process.pid, signal.SIGKILL))
        watch.start()
        if memory is not None:
            threading.Thread(target=_sample, args=(process.pid, memory, ended), daemon=True).start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            watch.cancel()
            ended.set()
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if seconds >= TIME_OUT:
        raise LabError(f"{argv[0]} took longer than {TIME_OUT} s; see {log}")
    return Sample(round(seconds, 3), round(usage.ru_utime + usage.ru_stime, 3), process.returncode)


def footprint(argv: list[str], environment: dict[str, str], log: Path) -> Footprint:
    """Run a command once, not for its time, and count what it did with the benchmark's own identity."""
    memory: list[int] = []
    begin = datetime.now(UTC)
    run(argv, environment, log, memory)
    time.sleep(SETTLE_SECONDS)
    end = datetime.now(UTC)
    verbs: Counter[str] = Counter()
    pods = 0
    for entry in writes.entries(settings.audit_log(), operator.BENCH.user):
        mine = entry["user"].get("username") == operator.BENCH.user
        if mine and writes.within(entry["requestReceivedTimestamp"], begin, end):
            reference = entry.get("objectRef") or {}
            verbs[entry["verb"]] += 1
            pods += (entry["verb"], reference.get("resource"), reference.get("subresource")) == ("create", "pods", None)
    principal = identity.operator_arn(str(operator.BENCH.iam_user))
    calls = Counter(
        entry["service"]
        for entry in writes.entries(gateway.log_path(), principal)
        if writes.within(entry["at"], begin, end)
    )
    peak = round(max(memory, default=0) / 1024, 1)
    return Footprint(dict(sorted(verbs.items())), dict(sorted(calls.items())), pods, peak)


def _sample(pid: int, memory: list[int], ended: threading.Event) -> None:
    while not ended.wait(SAMPLE_SECONDS):
        memory.append(sum(_proportional_kib(one) for one in _descendants(pid)))


def _descendants(pid: int) -> set[int]:
    """A process and all that it started, by the parents that /proc names."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:
            continue
        children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found, waiting = {pid}, [pid]
    while waiting:
        more = children.get(waiting.pop(), [])
        found.update(more)
        waiting += more
    return found


def _proportional_kib(pid: int) -> int:
    """Memory of a process, pages that it shares counted in part."""
    try:
        found = PROPORTIONAL.search(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8"))
    except OSError:
        return 0
    return int(found[1]) if found else 0
