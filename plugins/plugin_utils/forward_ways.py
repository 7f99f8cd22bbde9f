# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two ways from a local connection to the server's pod: through ``kubectl port-forward``, or through the API."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import CallFailed
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.port_forward import PodDialer

LOOPBACK = "127.0.0.1"
START_SECONDS = 15.0
CONNECT_SECONDS = 5.0
STOP_SECONDS = 3.0
PIECE = 64 * 1024
COMPLAINT = 400
LISTENING = re.compile(r"^Forwarding from 127\.0\.0\.1:(?P<port>\d+) ->")
POD_LOST = re.compile(r"lost connection to pod|error forwarding port|error creating \w+ stream|[Tt]imeout occurred")
"""What kubectl says when its pod or the way to it is gone (client-go, portforward.go); it also says when a browser ends
a connection early, which means nothing."""

ROUTINE = re.compile(r"^(?:Forwarding from|Handling connection for) ")


class Connection(Protocol):
    """A connection to the server's pod; ``problem`` says why it ended when that was not the server's wish."""

    problem: str

    def send(self, data: bytes) -> None:
        """Send bytes; OSError when the connection is over."""

    def receive(self) -> bytes:
        """Wait for bytes; none when the connection is over."""

    def end(self) -> None:
        """End the connection, from any thread."""

    def close(self) -> None:
        """Release the connection once no thread uses it."""


class NoWay(Exception):
    """The pod cannot be reached at the moment; the text says why."""


class SocketConnection:
    """A connection to kubectl's local port."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self.problem = ""

    def send(self, data: bytes) -> None:
        self._link.sendall(data)

    def receive(self) -> bytes:
        try:
            return self._link.recv(PIECE)
        except OSError:
            return b""

    def end(self) -> None:
        with contextlib.suppress(OSError):  # it is over already
            self._link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._link.close()


class ApiWay:
    """Through the API, one WebSocket for each connection."""

    def __init__(self, options: Mapping[str, Any], namespace: str, selector: Mapping[str, str], port: int) -> None:
        self._dialer = PodDialer(options, namespace, selector, port)

    def open(self) -> Connection:
        """Connect to a ready pod.

        Raises:
            NoWay: there is none, or the API server does not let us.
        """
        try:
            return self._dialer.dial()
        except CallFailed as failure:
            observation = failure.observation
            reason = observation.detail or observation.state.value
            raise NoWay(
                f"our identity may not {reason}" if observation.state.value == "forbidden" else reason
            ) from None

    def reset(self) -> None:
        """Forget what was known of the pod; there is nothing to forget."""

    def stop(self) -> None:
        """End everything; connections end with their threads."""


class KubectlWay:
    """Through one ``kubectl port-forward``, which is started again when it ends or complains.

    kubectl stays with the pod that it found first. Once that pod is gone it ends, or goes on and complains about every
    connection, which depends on its version.

    Args:
        command: the program with its options, without the local port.
        told: is called with the child's process id after each start.
        log: is called with each complaint.
    """

    def __init__(self, command: list[str], told: Callable[[int], None], log: Callable[[str], None]) -> None:
        self._command, self._told, self._log = command, told, log
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._lost: subprocess.Popen[str] | None = None
        self._port = 0
        self._last = ""
        self._listening = threading.Event()

    def open(self) -> Connection:
        """Connect to kubectl's port, and start kubectl before when it does not run.

        Raises:
            NoWay: it does not start.
        """
        with self._lock:
            if self._child is None or self._child is self._lost or self._child.poll() is not None:
                self._start()
            port = self._port
        try:
            return SocketConnection(socket.create_connection((LOOPBACK, port), CONNECT_SECONDS))
        except OSError as failure:
            self.reset()
            raise NoWay(f"kubectl does not answer on its port: {failure}") from failure

    def reset(self) -> None:
        """End kubectl, so that the next connection starts another one that looks for a pod."""
        with self._lock:
            self._end()

    def stop(self) -> None:
        """End kubectl for good, also while it starts."""
        child = self._child
        if child is not None:
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()

    def _start(self) -> None:
        self._end()
        self._listening.clear()
        self._last = ""
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._read, args=(self._child,), daemon=True).start()
        if not self._listening.wait(START_SECONDS) or not self._port:
            self._end()
            raise NoWay(self._last or f"kubectl port-forward does not listen after {START_SECONDS:.0f} s")
        self._told(self._child.pid)  # not before: a wrapper named kubectl becomes the real one first

    def _read(self, child: subprocess.Popen[str]) -> None:
        for line in child.stdout or ():
            listening = LISTENING.match(line)
            if listening:
                self._port = int(listening["port"])
                self._listening.set()
            elif not ROUTINE.match(line) and line.strip():
                self._last = line.strip()[:COMPLAINT]
                self._log(self._last)
                if POD_LOST.search(line):
                    self._lost = child
                    child.terminate()
        child.wait()
        if child is self._child:
            self._listening.set()

    def _end(self) -> None:
        child, self._child, self._port = self._child, None, 0
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
