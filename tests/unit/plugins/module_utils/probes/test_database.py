# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging in, asking and reading the schema, with a driver that only pretends."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.probes import common, database

BACKEND = {
    "scheme": "postgresql+psycopg2",
    "host": "db",
    "port": "5432",
    "user": "mlflow",
    "password": "p%40w",
    "database": "mlflow",
    "query": "sslmode=require&options=-c%20lock_timeout%3D1s&application_name=x",
}


class DriverError(Exception):
    pgcode: str | None = None


class Connection:
    """Answers statements by their beginning; an exception is raised."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.autocommit = False
        self.closed = False
        self.asked: list[str] = []
        self.answer: Any = None

    def cursor(self) -> Connection:
        return self

    def execute(self, statement: str) -> None:
        self.asked.append(statement)
        self.answer = self.answers[statement]
        if isinstance(self.answer, Exception):
            raise self.answer

    def fetchall(self) -> Any:
        return self.answer

    def close(self) -> None:
        self.closed = True


def answers(used: int = 5, more: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "SELECT 1": [(1,)],
        database.COUNTS: [(used, 100, 3)],
        database.BASICS: [(False, False, "15.4", -1, -1, "default")],
        database.CONNECTIONS: [("mlflow", "", "idle", 4)],
        database.DATABASE_SIZE: [(1000,)],
        database.CAN_WRITE: [("insert_experiments", True)],
        database.MISSING_TABLES: [],
        database.SETTINGS: [("statement_timeout=60s",)],
        database.BLOCKED: [(1, "mlflow", "", 9, 2, "admin", "psql", "idle in transaction", 60)],
        database.LONG_TRANSACTIONS: [],
        database.TABLE_LOCKS: [(3, "reporting", "nightly-report", None, None)],
        database.REVISION: [("abc",)],
        **(more or {}),
    }


def use(monkeypatch: pytest.MonkeyPatch, result: Any) -> dict[str, Any]:
    given: dict[str, Any] = {}

    def connect(**options: Any) -> Any:
        given.update(options)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(connect=connect, Error=DriverError))
    return given


def rows_of(record: common.Record) -> dict[str, Any]:
    return {row["what"]: row for row in record.rows()}


def test_a_complete_look(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection(answers())
    given = use(monkeypatch, connection)
    record = common.Record()
    database.probe(record, BACKEND, "db-1:5432/mlflow")
    rows = rows_of(record)
    query = rows["probe.query"]["value"]
    assert query["transaction_read_only"] is False
    assert query["connections"] == [{"user": "mlflow", "application": "", "state": "idle", "count": 4}]
    assert query["can_write"] == {"insert_experiments": True}
    assert query["blocked"][0]["blocker"]["state"] == "idle in transaction"
    assert query["table_locks"][0]["user"] == "reporting"
    assert query["errors"] == {}
    assert rows["probe.schema"]["value"]["revision"] == "abc"
    assert connection.closed
    assert connection.autocommit
    assert given == {
        "host": "db",
        "port": "5432",
        "user": "mlflow",
        "password": "p@w",
        "dbname": "mlflow",
        "sslmode": "require",
        "options": "-c lock_timeout=1s -c statement_timeout=3000",
        "connect_timeout": 5,
        "application_name": "mlflow-runbook",
    }


def test_the_last_slots_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection(answers(used=96))
    use(monkeypatch, connection)
    record = common.Record()
    database.probe(record, BACKEND, "db")
    assert "database_size" not in rows_of(record)["probe.query"]["value"]
    assert rows_of(record)["probe.query"]["value"]["used"] == 96


def test_one_refused_question_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Connection(answers(more={database.DATABASE_SIZE: DriverError("statement timeout")})))
    record = common.Record()
    database.probe(record, BACKEND, "db")
    value = rows_of(record)["probe.query"]["value"]
    assert value["errors"] == {"database_size": "statement timeout"}
    assert value["can_write"] == {"insert_experiments": True}


@pytest.mark.parametrize(
    ("text", "result", "sqlstate"),
    [
        ('FATAL:  password authentication failed for user "mlflow"', "denied", "28P01"),
        ('FATAL:  database "nosuchdb" does not exist', "denied", "3D000"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', "denied", "28000"),
        ("FATAL:  remaining connection slots are reserved", "denied", "53300"),
        ("FATAL:  the database system is starting up", "denied", "57P03"),
        ("timeout expired", "timeout", None),
        ("server closed the connection unexpectedly", "reset", None),
    ],
)
def test_a_refused_login(monkeypatch: pytest.MonkeyPatch, text: str, result: str, sqlstate: str | None) -> None:
    use(monkeypatch, DriverError(text))
    record = common.Record()
    database.probe(record, BACKEND, "db")
    rows = rows_of(record)
    assert rows["probe.login"]["value"]["result"] == result
    assert rows["probe.login"]["value"]["sqlstate"] == sqlstate
    assert rows["probe.query"]["state"] == "skipped"


def test_an_image_without_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    record = common.Record()
    database.probe(record, BACKEND, "db")
    assert "no PostgreSQL driver (psycopg2)" in rows_of(record)["probe.login"]["value"]["error"]


def test_an_empty_database_has_no_revision() -> None:
    error = DriverError("relation does not exist")
    error.pgcode = "42P01"
    assert database.revision_of(Connection({database.REVISION: error})) is None
    with pytest.raises(DriverError):
        database.revision_of(Connection({database.REVISION: DriverError("permission denied")}))


def test_heads() -> None:
    scripts = {
        "a.py": 'revision = "a"\ndown_revision = None\n',
        "b.py": "revision: str = 'b'\ndown_revision: str = 'a'\n",
        "m.py": 'revision = "m"\ndown_revision = ("b", "a")\n',
        "other.py": "x = 1\n",
    }
    assert database.heads(scripts) == ["m"]


def test_the_image_knows_older_schemas_and_no_newer_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "mlflow_folder", lambda: str(tmp_path))
    assert database.schema(Connection(answers()))["image_knows"] is None
    folder = tmp_path / "store" / "db_migrations" / "versions"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text('revision = "abc"\ndown_revision = None\n')
    (folder / "b.py").write_text('revision = "def"\ndown_revision = "abc"\n')
    older = database.schema(Connection(answers()))
    assert (older["revision"], older["image_head"], older["image_knows"]) == ("abc", "def", True)
    newer = database.schema(Connection(answers(more={database.REVISION: [("xyz",)]})))
    assert newer["image_knows"] is False
    empty = database.schema(Connection(answers(more={database.REVISION: []})))
    assert (empty["revision"], empty["recorded"]) == (None, True)
