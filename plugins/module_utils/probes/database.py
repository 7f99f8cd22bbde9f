# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend store, with the server's own address and driver: one connection, read only, seconds long."""

from __future__ import annotations

import importlib
import os
import re
import time
import urllib.parse
from typing import Any, Callable

from .common import CONNECT_SECONDS, Failed, Record, classify
from .container import mlflow_folder, read_text

APPLICATION_NAME = "mlflow-runbook"
STATEMENT_MILLISECONDS = 3000
LEAST_FREE_SLOTS = 2
DRIVERS = ("psycopg2", "psycopg")

SQLSTATES = (
    ("28P01", r"password authentication failed|no password supplied|PAM authentication failed"),
    ("28000", r"no pg_hba.conf entry|pg_hba.conf rejects|is not permitted to log in|role \".*\" does not exist"),
    ("3D000", r"database \".*\" does not exist"),
    ("53300", r"too many clients|remaining connection slots|too many connections for"),
    ("57P03", r"the database system is|is not currently accepting connections"),
    ("42501", r"permission denied for database"),
)
"""Texts of PostgreSQL's refusals; libpq hands no code on when a connection fails."""

COUNTS = """
SELECT (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend'
           OR backend_type IS NULL AND datid IS NOT NULL AND usesysid IS NOT NULL)::int,
       current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
         + coalesce(nullif(current_setting('rds.rds_superuser_reserved_connections', true), ''), '0')::int
         + coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int
"""
"""Of other users' sessions an ordinary role sees neither kind nor state, only database, user and application."""

BASICS = """
SELECT current_setting('transaction_read_only') = 'on', pg_is_in_recovery(), current_setting('server_version'),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
       (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only')
"""
CONNECTIONS = """
SELECT usename, application_name, state, count(*)::int FROM pg_stat_activity
WHERE (backend_type = 'client backend' OR backend_type IS NULL AND datid IS NOT NULL AND usesysid IS NOT NULL)
  AND pid <> pg_backend_pid() GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 40
"""
BLOCKED = """
SELECT waiter.pid, waiter.usename, waiter.application_name, extract(epoch FROM now() - waiter.query_start)::int,
       holder.pid, holder.usename, holder.application_name, holder.state,
       extract(epoch FROM now() - holder.xact_start)::int, extract(epoch FROM now() - holder.state_change)::int,
       holder.backend_start::text
FROM pg_stat_activity waiter JOIN pg_stat_activity holder ON holder.pid = ANY (pg_blocking_pids(waiter.pid))
LIMIT 20
"""
HOLDER = ("pid", "user", "application", "state", "seconds", "idle_seconds", "backend_start")
LONG_TRANSACTIONS = """
SELECT pid, usename, application_name, state, extract(epoch FROM now() - xact_start)::int,
       extract(epoch FROM now() - state_change)::int
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND xact_start < now() - interval '30 seconds'
ORDER BY 5 DESC LIMIT 20
"""
TABLE_LOCKS = """
SELECT DISTINCT a.pid, a.usename, a.application_name, a.state, extract(epoch FROM now() - a.xact_start)::int
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.relation >= 16384 AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1 LIMIT 20
"""
"""Who holds a table, which everybody may see, where the age of others' transactions is hidden from an ordinary role."""

CAN_WRITE = """
SELECT lower(privilege) || '_' || relname, has_table_privilege(pg_class.oid, privilege)
       AND has_schema_privilege(relnamespace, 'USAGE')
FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) privilege
WHERE relname IN ('experiments', 'runs', 'metrics', 'latest_metrics', 'params', 'tags', 'registered_models',
                  'model_versions') AND relkind IN ('r', 'p')
  AND relnamespace = (SELECT relnamespace FROM pg_class WHERE relname = 'alembic_version' AND relkind = 'r'
                      ORDER BY pg_table_is_visible(oid) DESC LIMIT 1)
"""
"""The tables that logging a run and registering a model write to, beside the one that records MLflow's schema."""

MISSING_TABLES = """
SELECT name FROM unnest(ARRAY['experiments', 'runs', 'metrics', 'latest_metrics', 'params', 'tags']) name
WHERE EXISTS (SELECT FROM pg_class WHERE relname = 'alembic_version' AND relkind = 'r')
  AND NOT EXISTS (SELECT FROM pg_class WHERE relname = name AND relkind IN ('r', 'p', 'v'))
"""
SETTINGS = """
SELECT unnest(setconfig) FROM pg_db_role_setting
WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
"""
DATABASE_SIZE = "SELECT pg_database_size(current_database())"
ROUND_TRIPS = 3
REVISION = "SELECT version_num FROM alembic_version"


def driver_for(scheme: str) -> Any:
    """Import the driver that the address names, or the one that the image has.

    Raises:
        Failed: the image has none.
    """
    wanted = scheme.partition("+")[2]
    for name in [wanted] if wanted in DRIVERS else DRIVERS:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise Failed("error", f"the image has no PostgreSQL driver ({wanted or ' or '.join(DRIVERS)})", sqlstate=None)


def connection_options(backend: dict[str, Any]) -> dict[str, Any]:
    """Build libpq's keywords from an address, with our own time-outs and name."""
    query = dict(urllib.parse.parse_qsl(backend["query"]))
    options = (query.pop("options", "") + f" -c statement_timeout={STATEMENT_MILLISECONDS}").strip()
    wanted = {
        "host": backend["host"],
        "port": backend["port"],
        "user": urllib.parse.unquote(backend["user"]),
        "password": urllib.parse.unquote(backend["password"]),
        "dbname": urllib.parse.unquote(backend["database"]),
    }
    return {
        **query,
        **{key: value for key, value in wanted.items() if value},
        "options": options,
        "connect_timeout": int(CONNECT_SECONDS),
        "application_name": APPLICATION_NAME,
    }


def sqlstate_of(error: BaseException) -> str | None:
    """Return PostgreSQL's code of a refusal, from the error or from its text."""
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if code:
        return str(code)
    return next((state for state, pattern in SQLSTATES if re.search(pattern, str(error))), None)


def login(backend: dict[str, Any]) -> Any:
    """Connect with the server's own credentials.

    Raises:
        Failed: ``denied`` with ``sqlstate`` when the database answered and refused.
    """
    driver = driver_for(backend["scheme"])
    try:
        connection = driver.connect(**connection_options(backend))
    except driver.Error as error:
        state = sqlstate_of(error)
        text = " ".join(str(error).split())[:500]
        raise Failed("denied" if state else classify(error), text, sqlstate=state) from error
    connection.autocommit = True
    return connection


def rows_of(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        return list(cursor.fetchall())
    finally:
        cursor.close()


def named(rows: list[tuple[Any, ...]], *names: str) -> list[dict[str, Any]]:
    return [dict(zip(names, row)) for row in rows]


def blocked_sessions(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return each waiting session with the one that it waits for."""
    return [
        {
            **named([row[:4]], "pid", "user", "application", "seconds")[0],
            "blocker": named([row[4:]], *HOLDER)[0],
        }
        for row in rows
    ]


def round_trip(connection: Any) -> float:
    """Return the shortest of a few round trips in seconds, which a busy container does not lengthen."""
    return round(min(one_round_trip(connection) for dummy in range(ROUND_TRIPS)), 4)


def one_round_trip(connection: Any) -> float:
    begun = time.monotonic()
    rows_of(connection, "SELECT 1")
    return time.monotonic() - begun


def state_of(connection: Any) -> dict[str, Any]:
    """Ask the database about itself; leave early when we may hold one of its last slots."""
    used, most, reserved = rows_of(connection, COUNTS)[0]
    value: dict[str, Any] = {"max_connections": most, "reserved": reserved, "used": used, "errors": {}}
    value["round_trip_seconds"] = round_trip(connection)
    read_only, recovery, version, role_limit, database_limit, source = rows_of(connection, BASICS)[0]
    value.update(
        transaction_read_only=read_only,
        in_recovery=recovery,
        server_version=version,
        role_connection_limit=role_limit,
        database_connection_limit=database_limit,
        read_only_source=source,
    )
    parts: dict[str, Callable[[], Any]] = {
        "connections": lambda: named(rows_of(connection, CONNECTIONS), "user", "application", "state", "count")
    }
    if most - reserved - used >= LEAST_FREE_SLOTS:
        parts.update(
            database_size=lambda: rows_of(connection, DATABASE_SIZE)[0][0],
            can_write=lambda: dict(rows_of(connection, CAN_WRITE)),
            settings=lambda: [row[0] for row in rows_of(connection, SETTINGS)],
            missing_tables=lambda: [row[0] for row in rows_of(connection, MISSING_TABLES)],
            blocked=lambda: blocked_sessions(rows_of(connection, BLOCKED)),
            long_transactions=lambda: named(
                rows_of(connection, LONG_TRANSACTIONS),
                "pid",
                "user",
                "application",
                "state",
                "seconds",
                "in_state_seconds",
            ),
            table_locks=lambda: named(
                rows_of(connection, TABLE_LOCKS), "pid", "user", "application", "state", "seconds"
            ),
        )
    for name, ask in parts.items():
        try:
            value[name] = ask()
        except Exception as error:  # one refused question must not hide the other answers
            value["errors"][name] = " ".join(str(error).split())[:200]
    return value


def revision_of(connection: Any) -> list[str] | None:
    """Return the recorded revisions; ``None`` when nothing is recorded since the table does not exist."""
    try:
        return [str(row[0]) for row in rows_of(connection, REVISION)]
    except Exception as error:
        if sqlstate_of(error) == "42P01":
            return None
        raise


def revisions(scripts: dict[str, str]) -> set[str]:
    """Return the revisions that migration scripts are for."""
    found = (
        re.search(r"^revision(?:\s*:[^=]+)?\s*=\s*[\"']([^\"']+)", text, re.MULTILINE) for text in scripts.values()
    )
    return {match[1] for match in found if match}


def heads(scripts: dict[str, str]) -> list[str]:
    """Return the revisions that no other revision follows.

    Args:
        scripts: text of each migration script by file name.
    """
    followed = set()
    for text in scripts.values():
        before = re.search(r"^down_revision(?:\s*:[^=]+)?\s*=\s*(.+)$", text, re.MULTILINE)
        if before:
            followed |= set(re.findall(r"[\"']([^\"']+)[\"']", before[1]))
    return sorted(revisions(scripts) - followed)


def image_scripts() -> dict[str, str]:
    """Return the text of this image's migration scripts by file name, read as files; empty when there are none."""
    folder = os.path.join(mlflow_folder(), "store", "db_migrations", "versions")
    if not os.path.isdir(folder):
        return {}
    return {name: read_text(os.path.join(folder, name)) for name in os.listdir(folder) if name.endswith(".py")}


def probe(record: Record, backend: dict[str, Any], subject: str) -> None:
    """Log in once and measure the login, the database's state and its schema."""
    opened: list[Any] = []

    def step() -> dict[str, Any]:
        opened.append(login(backend))
        return {"sqlstate": None, "user": backend["user"]}

    if record.measure("probe.login", subject, step) is None:
        record.skip("probe.query", subject, "login failed")
        record.skip("probe.schema", subject, "login failed")
        return
    connection = opened[0]
    try:
        record.measure("probe.query", subject, lambda: state_of(connection))
        record.measure("probe.schema", subject, lambda: schema(connection))
    finally:
        connection.close()


def schema(connection: Any) -> dict[str, Any]:
    """Hold the schema's revision against the image: its newest one, and whether it knows the schema's at all."""
    found = revision_of(connection)
    scripts = image_scripts()
    newest = heads(scripts)
    return {
        "revision": found[0] if found else None,
        "revisions": found or [],
        "recorded": found is not None,
        "image_head": newest[0] if len(newest) == 1 else None,
        "image_knows": set(found or []) <= revisions(scripts) if scripts else None,
    }
