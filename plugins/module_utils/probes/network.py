# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, TCP and TLS."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

from .common import CONNECT_SECONDS, Failed, Record, classify

POSTGRESQL_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
PAUSE_SECONDS = 1.0
AGAIN_SECONDS = 2.0
MOST_FAILURES = 2
ESTABLISHED = "01"
"""State of a connection in ``/proc/net/tcp``."""


def resolve(host: str) -> dict[str, Any]:
    """Resolve a name with the system's resolver, as the server itself does."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return {"addresses": sorted({str(item[4][0]) for item in found})}


def never() -> bool:
    return False


def connect(
    host: str, port: int, settle_seconds: float = 0.0, settled: Callable[[], bool] = never
) -> tuple[socket.socket, int]:
    """Open a TCP connection.

    Args:
        host: name or address.
        port: port number.
        settle_seconds: how long refused and dropped attempts are repeated; a network policy reaches a new pod late.
        settled: asked before each attempt; when true, that attempt is the last.

    Returns:
        The connection and the number of attempts.

    Raises:
        Failed: the last attempt's result, with the addresses that were tried.
    """
    end = time.monotonic() + settle_seconds
    attempts = 0
    while True:
        attempts += 1
        last = settled()
        try:
            return socket.create_connection((host, port), timeout=CONNECT_SECONDS), attempts
        except socket.gaierror:
            raise
        except OSError as error:
            if last or time.monotonic() + PAUSE_SECONDS >= end:
                addresses = ", ".join(resolve(host)["addresses"])
                raise Failed(classify(error), str(error), address=addresses, attempts=attempts) from error
        time.sleep(PAUSE_SECONDS)


def own_connections(text: str, port: int) -> int:
    """Count established connections to a remote port in the text of ``/proc/net/tcp`` or ``tcp6``."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return sum(1 for row in rows if row[3] == ESTABLISHED and int(row[2].rpartition(":")[2], 16) == port)


def tcp(
    record: Record,
    host: str,
    port: int,
    settle_seconds: float = 0.0,
    tries: int = 1,
    through: Sequence[str] | None = None,
) -> bool:
    """Measure whether a port accepts connections.

    Args:
        record: where the result goes.
        host: name or address.
        port: port number.
        settle_seconds: see ``connect``.
        tries: how many connections are made; behind one address several servers can stand, of which some fail.
        through: addresses behind ``host``, if they are known: once this pod has reached them all by themselves, no
            policy is late any more, and a refusal is the Service's own.
    """

    def settled() -> bool:
        return through is not None and all(record.reached(address) for address in through)

    def step() -> dict[str, Any]:
        try:
            connection, attempts = connect(host, port, settle_seconds, settled)
        except Failed as failure:
            good, failures = try_again(host, port, tries - 1)
            if not good:
                raise
            failures = [failure.value["result"], *failures]
            return {"address": host, "attempts": 1, "tries": good + len(failures), "failures": failures}
        with connection:
            address = connection.getpeername()[0]
        good, failures = try_again(host, port, tries - 1)
        return {"address": address, "attempts": attempts, "tries": 1 + good + len(failures), "failures": failures}

    return record.measure("probe.tcp", f"{host}:{port}", step) is not None


def try_again(host: str, port: int, times: int) -> tuple[int, list[str]]:
    """Open and close some more connections, until two have failed; return how many worked and how others failed."""
    good = 0
    failures: list[str] = []
    while good + len(failures) < times and len(failures) < MOST_FAILURES:
        try:
            socket.create_connection((host, port), timeout=AGAIN_SECONDS).close()
            good += 1
        except OSError as error:
            failures.append(classify(error))
    return good, failures


def postgresql_port(record: Record, host: str, port: int, settle_seconds: float = 0.0) -> bool:
    """Measure a PostgreSQL port and its TLS offer in one connection that never logs in."""
    opened: list[socket.socket] = []

    def step() -> dict[str, Any]:
        opened.append(connect(host, port, settle_seconds)[0])
        return {"address": opened[0].getpeername()[0]}

    if record.measure("probe.tcp", f"{host}:{port}", step) is None:
        return False
    with opened[0] as connection:
        record.measure("probe.tls", f"{host}:{port}", lambda: postgresql_tls(connection, host))
    return True


def postgresql_tls(connection: socket.socket, host: str) -> dict[str, Any]:
    """Ask for TLS in PostgreSQL's way and return the certificate, unverified, as base64 of its DER form."""
    connection.sendall(POSTGRESQL_SSL_REQUEST)
    if connection.recv(1) != b"S":
        return {"offered": False}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(connection, server_hostname=host) as secured:
        der = secured.getpeercert(binary_form=True) or b""
        return {"offered": True, "version": secured.version(), "der": base64.b64encode(der).decode()}
