# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Port-forwards of ours: their records, which processes they are, starting and ending them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.dashboard import command_digest, is_same_process

from .run import read_json, write_whole

try:
    import psutil

    MISSING = ""
except ImportError as error:
    MISSING = f"the Python library psutil is needed: {error}"

LOOPBACK = "127.0.0.1"
PROGRAM = Path(__file__).with_name("forward_program.py")
START_SECONDS = 40.0
STOP_SECONDS = 8.0
MORE_PORTS = 20
SUFFIX = ".json"


class ForwardError(Exception):
    """A port-forward could not be started or ended; the text says why."""


def default_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of the records under the XDG state folder."""
    state = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "mlops-mlflow-runbook" / "dashboards"


def describe(pid: int) -> dict[str, Any]:
    """Return what identifies a process of ours that runs: see ``core.dashboard.is_same_process``.

    The command is read until it is the new program's: right after a fork it is still the parent's.
    """
    process = psutil.Process(pid)
    return {"pid": pid, "started": process.create_time(), "digest": command_digest(process.cmdline())}


def running(pid: int) -> dict[str, Any] | None:
    """Describe whatever process has this id now; ``None`` when none has, or only a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return {**describe(pid), "ours": process.uids().real == os.getuid()}
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return {"pid": pid, "started": 0.0, "digest": "", "ours": False}


def alive(record: Mapping[str, Any] | None) -> bool:
    """Tell whether a recorded process still runs, as the one that was recorded."""
    return bool(record) and is_same_process(record or {}, running((record or {})["pid"]))


def holder(port: int) -> str:
    """Name the process that listens on a local port, without its arguments: they may hold a secret."""
    try:
        rows = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, OSError):
        return "another process"
    for row in rows:
        if row.status == psutil.CONN_LISTEN and getattr(row.laddr, "port", 0) == port:
            if not row.pid:
                return "a process of another user"
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(row.pid)
                return f"{process.name()} (process {row.pid}, user {process.username()})"
    return "another process"


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a local port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Keep two playbooks from opening or closing the same dashboard at once."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.with_suffix(".lock").open("w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ForwardError(f"another run opens or closes this dashboard now ({stream.name})") from None
        yield


class Forward:
    """One server's port-forward, known by its record.

    Args:
        path: the record; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record: dict[str, Any] = read_json(path, {})

    @property
    def log(self) -> Path:
        return self.path.with_suffix(".log")

    @property
    def alive(self) -> bool:
        return alive(self.record.get("process"))

    def end(self) -> list[str]:
        """End what of this forward still runs, and nothing else.

        Returns:
            What was ended, such as ``process 123``.

        Raises:
            ForwardError: a process of ours does not end, or its port is not free afterwards.
        """
        ended = [name for part in ("process", "child") if (name := self._end(self.record.get(part)))]
        port = self.record.get("port")
        if ended and port:
            end = time.monotonic() + STOP_SECONDS
            while not is_free(port):
                if time.monotonic() > end:
                    raise ForwardError(f"port {port} is still taken, by {holder(port)}")
                time.sleep(0.05)
        self.path.unlink(missing_ok=True)
        self.record = {}
        return ended

    def _end(self, record: Mapping[str, Any] | None) -> str:
        if record is None or not alive(record):
            return ""
        process = psutil.Process(record["pid"])
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
        if self._gone(record):
            return f"process {record['pid']}"
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        if self._gone(record):
            return f"process {record['pid']}"
        raise ForwardError(f"process {record['pid']} does not end")

    @staticmethod
    def _gone(record: Mapping[str, Any]) -> bool:
        end = time.monotonic() + STOP_SECONDS
        while alive(record):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def start(self, way: Mapping[str, Any], ports: list[int], record: Mapping[str, Any]) -> Starting:
        """Start the background process and wait until it listens.

        Args:
            way: ``kind`` and what that way needs; it goes through a pipe, for it may hold a token.
            ports: local ports in the order in which they are tried.
            record: what is remembered besides the processes.

        Raises:
            ForwardError: it does not listen; nothing of it is left.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        orders = {
            "way": dict(way),
            "ports": ports,
            "record": dict(record),
            "state_file": str(self.path),
            "log": str(self.log),
            "collection_paths": list(AnsibleCollectionConfig.collection_paths),
        }
        name = f"{record['namespace']}/{record['name']}"
        with self.log.open("w", encoding="utf-8") as log:
            self.log.chmod(0o600)
            child = subprocess.Popen(
                # -P: the folder of the program must not hide modules of Python that have a neighbour's name
                [sys.executable, "-P", str(PROGRAM), name, uuid.uuid4().hex[:8]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        starting = Starting(child, self)
        starting.wait(json.dumps(orders))
        return starting


def connected(pipe: IO[str] | None) -> IO[str]:
    """Return a child's end of a pipe.

    Raises:
        OSError: the child was started without it.
    """
    if pipe is None:
        raise OSError("the background process has no pipe")
    return pipe


class Starting:
    """A background process that ends with us unless it is told to stay."""

    def __init__(self, child: subprocess.Popen[str], forward: Forward) -> None:
        self._child, self._forward = child, forward
        self._orders, self._answers = connected(child.stdin), connected(child.stdout)

    def wait(self, orders: str) -> None:
        """Hand the orders over and wait for the answer.

        Raises:
            ForwardError: there is none in time, or it is an error; the process is gone then.
        """
        try:
            self._orders.write(orders + "\n")
            self._orders.flush()
            heard = select.select([self._answers], [], [], START_SECONDS)[0]
            answer = json.loads(self._answers.readline() or "{}") if heard else {}
        except (OSError, ValueError) as failure:
            answer = {"error": str(failure)}
        if "port" not in answer:
            self.give_up()
            nothing = f"it said nothing for {START_SECONDS:.0f} s" if self._child.poll() is None else "it ended"
            raise ForwardError(answer.get("error") or f"{nothing}, see {self._forward.log}")
        self._forward.record = read_json(self._forward.path, {})

    def keep(self) -> None:
        """Let the process stay when we end."""
        self._orders.write("keep\n")
        self._orders.close()
        self._answers.close()

    def give_up(self) -> None:
        """End the process and wait for its end."""
        with contextlib.suppress(OSError):
            self._orders.close()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._forward.record = read_json(self._forward.path, self._forward.record)
        self._forward.end()
