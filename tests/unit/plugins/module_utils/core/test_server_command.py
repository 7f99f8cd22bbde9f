# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a container starts MLflow, whatever way its command is written."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.server_command import (
    Reference,
    read_command,
    split_database_uri,
)

URI = "MLFLOW_BACKEND_STORE_URI"


@pytest.mark.parametrize(
    ("container", "options"),
    [
        ({"command": ["mlflow", "server"]}, {}),
        ({"command": ["mlflow"], "args": ["server", "--port", "5001"]}, {"port": "5001"}),
        ({"args": ["mlflow", "server", "--port=5001"]}, {"port": "5001"}),
        (
            {"command": ["/opt/venv/bin/mlflow", "ui", "-h", "0.0.0.0", "-p", "5001"]},
            {"host": "0.0.0.0", "port": "5001"},
        ),
        ({"command": ["python", "-m", "mlflow", "server", "-w", "2"]}, {"workers": "2"}),
        ({"command": ["mlflow", "server", "--serve-artifacts", "--port", "80"]}, {"serve-artifacts": "", "port": "80"}),
        ({"command": ["mlflow", "server", "--port"]}, {"port": ""}),
        ({"command": ["sh", "-c", "mlflow server --port 5001"]}, {"port": "5001"}),
        ({"command": ["/bin/sh"], "args": ["-c", "exec mlflow server --port 5001"]}, {"port": "5001"}),
        ({"command": ["/bin/bash", "-ec", "mlflow server --port 5001"]}, {"port": "5001"}),
        ({"command": ["bash", "-o", "pipefail", "-c", "mlflow server --port 5001"]}, {"port": "5001"}),
        ({"command": ["tini", "--", "sh", "-c", "mlflow server --port 5001"]}, {"port": "5001"}),
        ({"command": ["sh", "-c", "mlflow db upgrade $URI && mlflow server --port 5001"]}, {"port": "5001"}),
        ({"command": ["sh", "-c", "mlflow server --port 5001; echo --port 9"]}, {"port": "5001"}),
        (
            {"command": ["sh", "-c", "mlflow server \\\n  --port 5001 \\\n  --workers 2\n"]},
            {"port": "5001", "workers": "2"},
        ),
        (
            {"command": ["sh", "-c", 'mlflow server --gunicorn-opts="--timeout 180 --keep-alive 5" --port 5001']},
            {"gunicorn-opts": "--timeout 180 --keep-alive 5", "port": "5001"},
        ),
        (
            {"command": ["mlflow", "server", "--gunicorn-opts", "--timeout 180", "--port", "5001"]},
            {"gunicorn-opts": "--timeout 180", "port": "5001"},
        ),
    ],
)
def test_a_server_and_its_options(container: dict[str, Any], options: dict[str, str]) -> None:
    command = read_command(container)
    assert command.is_server
    assert command.options == options


@pytest.mark.parametrize(
    "container",
    [
        {},
        {"command": []},
        {"command": ["mlflow", "gc"]},
        {"command": ["mlflow"]},
        {"command": ["sh", "-c", "mlflow db upgrade"]},
        {"command": ["sh", "-c"]},
        {"command": ["sh", "start.sh", "mlflow"]},
        {"command": ["nginx", "-g", "daemon off;"]},
        {"command": ["sh", "-c", "echo 'unbalanced"]},
    ],
)
def test_other_containers(container: dict[str, Any]) -> None:
    assert not read_command(container).is_server
    assert read_command(container).options == {}


def test_an_unbalanced_quote_does_not_hide_the_server() -> None:
    assert (
        read_command({"command": ["sh", "-c", "mlflow server --port 5001 --host '0.0.0.0"]}).setting("port") == "5001"
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "option", "expected"),
    [
        ([], [("MLFLOW_PORT", "5001")], "port", "5001"),
        (["--port", "5002"], [("MLFLOW_PORT", "5001")], "port", "5002"),
        ([], [], "port", ""),
        ([], [("A", "1")], "no-such-option", ""),
        (["--port", "$(PORT)"], [("PORT", "5003")], "port", "5003"),
        (["--port", "${PORT}"], [("PORT", "5003")], "port", "5003"),
        (["--port", "$(OTHER)"], [("PORT", "5003")], "port", "$(OTHER)"),
        ([], [("PREFIX", "/ml"), ("MLFLOW_STATIC_PREFIX", "$(PREFIX)/flow")], "static-prefix", "/ml/flow"),
    ],
)
def test_settings(arguments: list[str], environment: list[tuple[str, str]], option: str, expected: str) -> None:
    variables = [{"name": name, "value": value} for name, value in environment]
    command = read_command({"command": ["mlflow", "server", *arguments], "env": variables})
    assert command.setting(option) == expected


def secret(name: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": "db", "key": key}}}


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], [secret(URI, "uri")], (URI, Reference("Secret", "db", "uri"))),
        (["--backend-store-uri", f"$({URI})"], [secret(URI, "uri")], (URI, Reference("Secret", "db", "uri"))),
        (["--backend-store-uri", "$DB"], [secret("DB", "uri")], ("DB", Reference("Secret", "db", "uri"))),
        (["--backend-store-uri", "sqlite:///x.db"], [secret(URI, "uri")], None),
        (["--backend-store-uri", "$(MISSING)"], [secret("DB", "uri")], None),
        (
            ["--backend-store-uri", "postgresql://$(USER):$(PASSWORD)@db/mlflow"],
            [secret("USER", "username"), secret("PASSWORD", "password")],
            ("PASSWORD", Reference("Secret", "db", "password")),
        ),
        (
            [],
            [secret("PASSWORD", "password"), {"name": URI, "value": "postgresql://mlflow:$(PASSWORD)@db/mlflow"}],
            ("PASSWORD", Reference("Secret", "db", "password")),
        ),
        ([], [{"name": URI, "value": "postgresql://mlflow@db/mlflow"}], None),
        ([], [], None),
    ],
)
def test_where_the_store_uri_comes_from(
    arguments: list[str], environment: list[dict[str, Any]], expected: tuple[str, Reference] | None
) -> None:
    command = read_command({"command": ["mlflow", "server", *arguments], "env": environment})
    assert command.reference("backend-store-uri") == expected


def test_environment_in_the_order_of_kubernetes() -> None:
    container = {
        "envFrom": [
            {"configMapRef": {"name": "settings"}},
            {"secretRef": {"name": "db"}, "prefix": "DB_"},
            {"configMapRef": {"name": "not-read"}},
        ],
        "env": [
            {"name": "MLFLOW_PORT", "value": "5002"},
            {"name": "DB_user", "value": "literal"},
            {"name": "HOST", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "host"}}},
            {"name": "UNREAD", "valueFrom": {"configMapKeyRef": {"name": "not-read", "key": "x"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "MLFLOW_WORKERS", **{key: value for key, value in secret("", "w").items() if key == "valueFrom"}},
        ],
    }
    maps = {"settings": {"MLFLOW_PORT": "5001", "MLFLOW_WORKERS": "4", "host": "db.internal"}}
    command = read_command(container, maps, {"db": ["user", "password"]})
    assert command.environment == {
        "MLFLOW_PORT": "5002",
        "host": "db.internal",
        "DB_user": "literal",
        "HOST": "db.internal",
    }
    assert command.references == {
        "DB_password": Reference("Secret", "db", "password"),
        "UNREAD": Reference("ConfigMap", "not-read", "x"),
        "MLFLOW_WORKERS": Reference("Secret", "db", "w"),
    }


@pytest.mark.parametrize(
    ("uri", "scheme", "host", "port", "user", "database"),
    [
        ("postgresql://mlflow:pw@db.internal:5433/tracking", "postgresql", "db.internal", 5433, "mlflow", "tracking"),
        (
            "postgresql+psycopg2://mlflow:pw@db/tracking?sslmode=require",
            "postgresql+psycopg2",
            "db",
            5432,
            "mlflow",
            "tracking",
        ),
        ("mysql+pymysql://mlflow:pw@db/tracking", "mysql+pymysql", "db", 3306, "mlflow", "tracking"),
        ("postgresql://mlflow:p@ss@db/tracking", "postgresql", "db", 5432, "mlflow", "tracking"),
        ("postgresql://$(USER):$(PASSWORD)@db/tracking", "postgresql", "db", 5432, "", "tracking"),
        ("postgresql://mlflow:pw@$(HOST)/tracking", "postgresql", "", 5432, "mlflow", "tracking"),
        ("postgresql://mlflow:pw@db:$(PORT)/tracking", "postgresql", "", None, "", ""),
        ("postgresql://", "postgresql", "", 5432, "", ""),
        ("sqlite:///mlflow.db", "sqlite", "", None, "", "mlflow.db"),
        ("", "", "", None, "", ""),
    ],
)
def test_database_uris(uri: str, scheme: str, host: str, port: int | None, user: str, database: str) -> None:
    parts = split_database_uri(uri)
    assert parts == {"scheme": scheme, "host": host, "port": port, "user": user, "database": database}
    assert "pw" not in str(parts)
