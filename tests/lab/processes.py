# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemons of the lab: started detached, recorded by process id and start time, stopped only by that record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab import settings
from tests.lab.settings import LabError


def namespace_path() -> Path:
    """File by which the lab's network namespace is entered."""
    return Path("/run/netns") / settings.NETWORK_NAMESPACE


def in_namespace(argv: Sequence[str]) -> list[str]:
    """``argv`` run in the lab's network namespace.

    ``nsenter`` and not ``ip netns exec``: the latter mounts a fresh /sys in which the kubelet finds no cgroups.
    """
    return ["nsenter", f"--net={namespace_path()}", "--", *argv]


def start_time(pid: int) -> int | None:
    """Start of process ``pid`` in clock ticks since boot (field 22 of /proc/PID/stat), None when it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _record(name: str) -> Path:
    return settings.run_dir() / f"{name}.pid"


def pid_of(name: str) -> int | None:
    """Process id of the running daemon ``name``, None when it does not run."""
    try:
        record = json.loads(_record(name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return record["pid"] if start_time(record["pid"]) == record["start"] else None


def alive(name: str) -> bool:
    """Whether the daemon ``name`` runs."""
    return pid_of(name) is not None


def names() -> list[str]:
    """All daemons on record, running or not, oldest first."""
    folder = settings.state_dir() / "run"
    return [path.stem for path in sorted(folder.glob("*.pid"), key=lambda path: path.stat().st_mtime_ns)]


def start(
    name: str,
    argv: Sequence[str],
    *,
    in_netns: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
) -> None:
    """Start the daemon ``name`` unless it runs; its output goes to ``<state>/logs/<name>.log``.

    ``env`` is added to the caller's environment.
    """
    if alive(name):
        return
    with (settings.logs_dir() / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            in_namespace(argv) if in_netns else list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(env or {})},
            cwd=str(cwd or settings.REPOSITORY),
            start_new_session=True,
        )
    started = start_time(process.pid)
    if started is None:
        raise LabError(f"{name} ended at once; see {settings.logs_dir() / name}.log")
    settings.write_text(_record(name), json.dumps({"pid": process.pid, "start": started}))


def signal_daemon(name: str, number: signal.Signals) -> bool:
    """Send a signal to the daemon ``name``; False when it does not run."""
    pid = pid_of(name)
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def stop(name: str, timeout: float = 10.0) -> None:
    """End the daemon ``name`` (SIGTERM, after ``timeout`` seconds SIGKILL), wait for its end and forget it."""
    if signal_daemon(name, signal.SIGTERM) and not _ended(name, timeout):
        signal_daemon(name, signal.SIGKILL)
        if not _ended(name, 10.0):
            raise LabError(f"{name} (process {pid_of(name)}) does not end, even by SIGKILL")
    _record(name).unlink(missing_ok=True)


def _ended(name: str, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while alive(name):
        reap()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def reap() -> None:
    """Collect ended children, so that none stays a zombie for as long as this process lives."""
    for name in names():
        try:
            pid = json.loads(_record(name).read_text(encoding="utf-8"))["pid"]
            os.waitpid(pid, os.WNOHANG)
        except (FileNotFoundError, ChildProcessError):
            continue


def run(
    argv: Sequence[str],
    *,
    in_netns: bool = False,
    timeout: float = 30,
    input: str | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
) -> str:
    """Run a command to its end and return its standard output.

    Raises LabError when it cannot be run, takes longer than ``timeout`` seconds, or (with ``check``) fails; the
    error shows the end of what it wrote, never its input.
    """
    command = in_namespace(argv) if in_netns else list(argv)
    try:
        done = subprocess.run(
            command,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{argv[0]} took longer than {timeout:g} s") from error
    if check and done.returncode:
        words = " ".join(argv[:3])
        raise LabError(f"{words} failed ({done.returncode}): {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout
