# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The background process behind an open dashboard: it listens on loopback and leads each connection to a ready pod.

It answers its orders with one line on standard output, and goes on only once it reads ``keep`` on standard input: when
the playbook that started it fails or is killed, its input ends, and so does it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import select
import signal
import socket
import socketserver
import sys
import threading
import time
from pathlib import Path
from typing import Any

from .forward_ways import ApiWay, Connection, KubectlWay, NoWay
from .forwards import describe, write_record

KEEP = "keep"
PATIENCE_SECONDS = 45.0
"""How long a request waits for a pod that comes back; a server starts in 10 s, on a busy node in 30 s."""

PAUSE_SECONDS = 0.5
IDLE_SECONDS = 600.0
PIECE = 64 * 1024
LOG_BYTES = 256 * 1024
REPEATABLE = (b"GET ", b"HEAD ")
AWAY = """HTTP/1.1 503 Service Unavailable\r
Content-Type: text/plain; charset=utf-8\r
Connection: close\r
Refresh: 3\r
\r
MLflow cannot be reached at the moment: {reason}
This page loads itself again every 3 seconds.
"""
logger = logging.getLogger("forwarder")


class Listener(socketserver.ThreadingTCPServer):
    """Takes connections on one loopback port.

    Args:
        port: the local port.
        way: leads to the pod.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, way: ApiWay | KubectlWay) -> None:
        self.way = way
        self.last_problem = ""
        super().__init__(("127.0.0.1", port), Visit)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.warning("a connection broke: %s", sys.exc_info()[1])


class Visit(socketserver.BaseRequestHandler):
    """One connection of a browser.

    The way to the pod is opened only when the browser has asked something: it opens connections in advance, and each of
    them would hold one of gunicorn's sync workers.
    """

    server: Listener

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not select.select([self.request], [], [], IDLE_SECONDS)[0]:
            return
        first = self.request.recv(PIECE)
        end = time.monotonic() + PATIENCE_SECONDS
        reason = ""
        while first and time.monotonic() < end:
            try:
                connection = self.server.way.open()
            except NoWay as failure:
                reason = str(failure)
                self.note(reason)
                time.sleep(PAUSE_SECONDS)
                continue
            answered = self.lead(connection, first)
            reason = connection.problem or "the connection ended without an answer"
            if answered or not first.startswith(REPEATABLE):
                return
            self.note(reason)
            self.server.way.reset()
            time.sleep(PAUSE_SECONDS)
        if first:
            self.request.sendall(AWAY.format(reason=reason).encode())

    def note(self, reason: str) -> None:
        if reason != self.server.last_problem:
            logger.warning("no way to the pod: %s", reason)
        self.server.last_problem = reason

    def lead(self, connection: Connection, first: bytes) -> bool:
        """Pass bytes in both directions until one side ends; return whether the pod answered or more was asked."""
        said, over = threading.Event(), threading.Event()
        asking = threading.Thread(target=self.ask, args=(connection, said, over), daemon=True)
        try:
            connection.send(first)
            asking.start()
            while data := connection.receive():
                said.set()
                self.server.last_problem = ""
                self.request.sendall(data)
        except OSError as failure:
            logger.info("a connection broke: %s", failure)
        finally:
            over.set()
            connection.end()
            if said.is_set():
                with contextlib.suppress(OSError):  # the browser may be gone
                    self.request.shutdown(socket.SHUT_WR)
            if asking.ident:
                asking.join()
            connection.close()
        return said.is_set()

    def ask(self, connection: Connection, said: threading.Event, over: threading.Event) -> None:
        try:
            while not over.is_set():
                if select.select([self.request], [], [], PAUSE_SECONDS)[0] and not over.is_set():
                    data = self.request.recv(PIECE)
                    said.set()
                    if not data:
                        break
                    connection.send(data)
        except (OSError, ValueError):
            pass  # either side is over
        connection.end()


class Program:
    """The process: listener, way, record.

    Args:
        orders: what the playbook wants, see ``forwards.orders``.
    """

    def __init__(self, orders: dict[str, Any]) -> None:
        self.orders = orders
        self.record: dict[str, Any] = dict(orders["record"])
        self.path = Path(orders["state_file"])
        self.way = self.make_way()
        self.listener: Listener | None = None

    def run(self) -> str:
        """Listen until told to end; return why it could not begin, otherwise an empty text."""
        signal.signal(signal.SIGTERM, lambda *dummy: threading.Thread(target=self.close).start())
        threading.Thread(target=self.wait_for_keep, daemon=True).start()
        try:
            self.way.open().close()
            self.listener = self.listen()
        except (NoWay, OSError) as failure:
            self.way.stop()
            return str(failure)
        self.record |= {"port": self.listener.server_address[1], "process": describe(os.getpid())}
        write_record(self.path, self.record)
        say({"port": self.record["port"]})
        try:
            self.listener.serve_forever()
        finally:
            self.listener.server_close()
            self.way.stop()
            self.path.unlink(missing_ok=True)
            logger.warning("closed")
        return ""

    def close(self) -> None:
        """End, whatever is under way."""
        self.way.stop()
        if self.listener is None:
            os._exit(1)
        self.listener.shutdown()

    def make_way(self) -> ApiWay | KubectlWay:
        order = self.orders["way"]
        if order["kind"] == "kubectl":
            return KubectlWay(order["command"], self.note_child, logger.warning)
        return ApiWay(order["options"], order["namespace"], order["selector"], order["port"])

    def listen(self) -> Listener:
        """Listen on the first port of those wanted that is free.

        Raises:
            OSError: none is.
        """
        for port in self.orders["ports"]:
            try:
                return Listener(port, self.way)
            except OSError as failure:
                last = failure
        raise OSError(f"no local port of {self.orders['ports'][0]} to {self.orders['ports'][-1]} is free: {last}")

    def note_child(self, pid: int) -> None:
        """Keep the record complete: kubectl has to be found when this process was killed."""
        self.record["child"] = describe(pid)
        if "process" in self.record:
            write_record(self.path, self.record)

    def wait_for_keep(self) -> None:
        if sys.stdin.readline().strip() != KEEP:
            logger.warning("the playbook ended before the page was proved")
            self.close()


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def carry_out(orders: dict[str, Any]) -> None:
    """Be the background process until it is told to end; say why when it cannot begin."""
    handler = logging.handlers.RotatingFileHandler(orders["log"], maxBytes=LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    problem = Program(orders).run()
    if problem:
        say({"error": problem})
