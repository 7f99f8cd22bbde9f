# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds connections to a database of the lab: ``python -m tests.lab.connections IDENTIFIER LEAVE USER``."""

from __future__ import annotations

import signal
import sys
import threading

import psycopg

from tests.lab import database

GREED_SECONDS = 0.5


def main(identifier: str, leave: int, user: str) -> None:
    """Connect over TCP as ``user`` until the server has no more, give ``leave`` back, hold the rest until SIGTERM.

    With nothing to leave, connections that others give back are taken, too.
    """
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    instance = database.get(identifier)
    held: list[psycopg.Connection] = []
    while not stopped.is_set():
        try:
            held.append(connect(instance, user))
        except psycopg.OperationalError:
            if leave:
                break
            stopped.wait(GREED_SECONDS)
    for connection in held[len(held) - leave :]:
        connection.close()
    stopped.wait()


def connect(instance: database.DatabaseInstance, user: str) -> psycopg.Connection:
    """One more connection, that does nothing."""
    return psycopg.connect(
        host=instance.address,
        port=instance.port,
        dbname=instance.database,
        user=user,
        password=instance.password if user == instance.user else instance.other_password,
        sslmode="require",
        application_name="nightly-report",
        connect_timeout=5,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
