# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds a table of a database of the lab: ``python -m tests.lab.table_lock IDENTIFIER TABLE``."""

from __future__ import annotations

import signal
import sys
import threading

import psycopg
from psycopg import sql

from tests.lab import database


def main(identifier: str, table: str) -> None:
    """Lock ``table`` as the role ``reporting`` in a transaction that stays open and idle until SIGTERM."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    instance = database.get(identifier)
    with psycopg.connect(
        host=instance.address,
        port=instance.port,
        dbname=instance.database,
        user=database.OTHER_ROLE,
        password=instance.other_password,
        sslmode="require",
        application_name="nightly-report",
        connect_timeout=5,
    ) as connection:
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
        stopped.wait()
        connection.rollback()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
