# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container tells about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.probes import container

MIB = 1 << 20
WORDS = ["/usr/bin/python3", "/usr/local/bin/mlflow", "server", "--port=5000", "--backend-store-uri", "$(URI)"]


def process(words: list[str], pid: int = 7) -> dict[str, Any]:
    return {"pid": pid, "ppid": 1, "words": words, "rss_kib": 100}


def test_memory_of_cgroup_version_2(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text(f"{400 * MIB}\n")
    (tmp_path / "memory.max").write_text(f"{512 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {100 * MIB}\n")
    (tmp_path / "memory.events").write_text("oom 3\noom_kill 2\n")
    now = container.memory(str(tmp_path))
    assert now == {"limit_bytes": 512 * MIB, "working_set_bytes": 300 * MIB, "oom_kills": 2}
    assert container.has_room(now)


def test_memory_of_cgroup_version_1(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text(f"{400 * MIB}\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "memory" / "memory.stat").write_text(f"total_inactive_file {100 * MIB}\n")
    assert container.memory(str(tmp_path)) == {
        "limit_bytes": None,
        "working_set_bytes": 300 * MIB,
        "oom_kills": None,
    }


@pytest.mark.parametrize(
    ("limit", "used", "room"),
    [(None, None, True), (512 * MIB, 400 * MIB, False), (512 * MIB, None, False), (512 * MIB, 300 * MIB, True)],
)
def test_has_room(limit: int | None, used: int | None, room: bool) -> None:
    assert container.has_room({"limit_bytes": limit, "working_set_bytes": used}) is room


def test_throttling(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("nr_periods 10\nnr_throttled 4\n")
    assert container.throttling(str(tmp_path)) == {"periods": 10, "throttled": 4}


def test_the_server_is_found_among_processes() -> None:
    words = container.server_words([process(["sleep", "1"]), process(WORDS)])
    assert container.option(words, "port") == "5000"
    assert container.option(words, "backend-store-uri") == "$(URI)"
    assert container.option(words, "workers") == ""
    assert container.server_words([process(["mlflow", "gc"])]) == []


@pytest.mark.parametrize("reference", ["$(URI)", "${URI}", "$URI", '"$URI"'])
def test_backend_uri(reference: str) -> None:
    environment = {"URI": "postgresql://db/mlflow", "MLFLOW_BACKEND_STORE_URI": "sqlite:///x"}
    assert container.backend_uri(["--backend-store-uri", reference], environment) == "postgresql://db/mlflow"
    assert container.backend_uri([], environment) == "sqlite:///x"


@pytest.mark.parametrize(
    ("uri", "environment", "expected"),
    [
        ("postgresql+psycopg2://u:p@db:5433/mlflow?sslmode=require", {}, ("db", "5433", "u", "p", "mlflow")),
        ("postgresql://u:p@[::1]/mlflow", {}, ("::1", "5432", "u", "p", "mlflow")),
        ("postgresql://u:p@w@db/mlflow", {}, ("w@db", "5432", "u", "p", "mlflow")),
        (
            "postgresql://",
            {"PGHOST": "db", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "m"},
            ("db", "5432", "u", "p", "m"),
        ),
        ("sqlite:///mlflow.db", {"PGHOST": "db"}, ("", "", "", "", "mlflow.db")),
        ("", {}, ("", "", "", "", "")),
    ],
)
def test_split_uri(uri: str, environment: dict[str, str], expected: tuple[str, ...]) -> None:
    parts = container.split_uri(uri, environment)
    assert tuple(parts[key] for key in ("host", "port", "user", "password", "database")) == expected


def test_describe_hides_the_password() -> None:
    words = ["mlflow", "server", "--backend-store-uri", "postgresql://u:hunter2@db/m", "--static-prefix=/ml"]
    backend = container.split_uri("postgresql://u:hunter2@db/m", {})
    environment = {"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "7", "MLFLOW_WORKERS": "2"}
    value = container.describe([process(words)], words, environment, backend)
    assert "hunter2" not in str(value)
    assert value["static_prefix"] == "/ml"
    assert value["pool"] == {"pool_size": "7"}
    assert value["workers"] == "2"
    assert value["backend"] == {
        "scheme": "postgresql",
        "host": "db",
        "port": 5432,
        "user": "u",
        "database": "m",
    }


def test_our_own_processes_are_left_out() -> None:
    assert all(row["words"] and row["pid"] > 0 for row in container.processes())
