# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow's own upgrade of a database, run in a Job of the server's image: standard library and the image's MLflow.

``mlflow db upgrade`` takes the address as an argument, where every process list shows its password; this calls the same
function of MLflow with the address from the environment.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sys
import time
from typing import Any

STORE = "MLFLOW_RUNBOOK_STORE"
FROM, TO = "MLFLOW_RUNBOOK_FROM", "MLFLOW_RUNBOOK_TO"
PATIENCE = "MLFLOW_RUNBOOK_PATIENCE"
RESULT = "MIGRATION"
"""The word in front of the last line, which tells a program what became of it."""

REFERENCE = re.compile(r"\$\((\w+)\)|\$\{(\w+)\}|\$(\w+)")
SESSION = (
    # A table that somebody holds must end the migration, not block everybody behind it (field guide, D-28).
    "SET lock_timeout = '30s'",
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    "SET application_name = 'mlflow-runbook-migration'",
)
OTHERS = """
SELECT DISTINCT a.pid, a.usename, a.application_name, host(a.client_addr), a.state,
       extract(epoch FROM now() - coalesce(a.xact_start, a.state_change))::int
FROM pg_stat_activity a
LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'relation' AND l.relation >= 16384
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
WHERE a.datname = current_database() AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid()
  AND a.application_name IS DISTINCT FROM 'mlflow-runbook-migration' AND (a.usename = current_user OR l.pid IS NOT NULL)
ORDER BY 1
"""
"""Sessions of our own role, and those of anybody that hold a table (the first user object has the number 16384)."""

NAMES = ("pid", "user", "application", "address", "state", "seconds")
REVISION = "SELECT version_num FROM alembic_version"


class Stopped(Exception):
    """Nothing was changed; ``result`` says why for a program."""

    def __init__(self, result: str, text: str, **more: Any) -> None:
        super().__init__(text)
        self.document = {"result": result, "error": text, **more}


def store_uri(environment: dict[str, str]) -> str:
    """Return the address of the backend store as the server's own command makes it; never to be printed."""
    given = environment.get(STORE) or environment.get("MLFLOW_BACKEND_STORE_URI", "")
    return REFERENCE.sub(lambda match: environment.get(match[1] or match[2] or match[3], match[0]), given).strip("\"'")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def engine_of(uri: str) -> Any:
    """Make MLflow's own engine, each connection of which waits for no lock for long."""
    sqlalchemy = importlib.import_module("sqlalchemy")
    engine = importlib.import_module("mlflow.store.db.utils").create_sqlalchemy_engine(uri)

    @sqlalchemy.event.listens_for(engine, "connect")
    def prepare(connection: Any, dummy: Any) -> None:
        before, connection.autocommit = connection.autocommit, True
        cursor = connection.cursor()
        for statement in SESSION:
            cursor.execute(statement)
        cursor.close()
        connection.autocommit = before

    return engine


def rows(engine: Any, statement: str) -> list[tuple[Any, ...]]:
    sqlalchemy = importlib.import_module("sqlalchemy")
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sqlalchemy.text(statement))]


def revision(engine: Any) -> str:
    """Return the schema's revision; nothing or several are no state to start from."""
    return ",".join(str(row[0]) for row in rows(engine, REVISION))


def wait_until_alone(engine: Any, seconds: float) -> None:
    """Wait until no other session could be blocked or block.

    Raises:
        Stopped: somebody is still there.
    """
    end = time.monotonic() + seconds
    while True:
        left = [dict(zip(NAMES, row)) for row in rows(engine, OTHERS)]
        if not left:
            return
        if time.monotonic() > end:
            raise Stopped("sessions", f"{len(left)} other sessions are still there", sessions=left)
        say(f"waiting for {len(left)} other sessions to end")
        time.sleep(3)


def upgrade(environment: dict[str, str]) -> dict[str, Any]:
    """Upgrade the schema, if it is what was seen before and nobody else uses it."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
    logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)
    engine = engine_of(store_uri(environment))
    wait_until_alone(engine, float(environment.get(PATIENCE) or 60))
    say("no other session of the server's role is left, and nobody holds a table")
    found = revision(engine)
    if found != environment[FROM]:
        raise Stopped("moved", f"the schema is at {found or 'no revision'}, not at {environment[FROM]} any more")
    importlib.import_module("mlflow.store.db.utils")._upgrade_db(engine)
    now = revision(engine)
    done = now == environment[TO]
    return {"result": "done" if done else "other", "revision": now, "error": "" if done else f"the schema is at {now}"}


def main() -> None:
    try:
        document = upgrade(dict(os.environ))
    except Stopped as stopped:
        document = stopped.document
    except Exception as error:
        document = {"result": "error", "error": f"{type(error).__name__}: {' '.join(str(error).split())[:1500]}"}
    say(f"{RESULT} {json.dumps(document)}")
    raise SystemExit(0 if document["result"] == "done" else 1)


if __name__ == "__main__":
    main()
