# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole probe, as it runs in a pod: its own process, everything through standard input."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.probes import bundle, script

PASSWORD = "correct horse"


def wanted(**more: Any) -> dict[str, Any]:
    return {
        "seconds": 10,
        "secrets": ["known-secret"],
        "words": ["--backend-store-uri", "postgresql://mlflow:correct%20horse@127.0.0.1:1/mlflow"],
        "server": True,
        "database": "db-1",
        "storage": None,
        "cache": None,
        "settle_seconds": 0,
        "targets": [],
        "clients": [],
        **more,
    }


def run(spec: dict[str, Any]) -> tuple[dict[tuple[str, str], Any], str]:
    text = bundle.document(spec)
    done = subprocess.run(
        [sys.executable, "-I", "-c", bundle.PROGRAM, str(len(text.encode()))],
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={},
    )
    assert done.stderr == ""
    return {(row["what"], row["subject"]): row for row in json.loads(done.stdout)["rows"]}, done.stdout


def test_the_bundle_stands_alone_and_tells_no_secret() -> None:
    rows, text = run(wanted())
    assert rows["probe.tcp", "127.0.0.1:1"]["value"]["result"] == "refused"
    assert rows["probe.login", "db-1:1/mlflow"]["state"] == "skipped"
    assert rows["probe.environment", ""]["value"]["backend"]["user"] == "mlflow"
    assert rows["probe.identity", ""]["value"]["role_arn"] is None
    assert PASSWORD not in text
    assert "correct%20horse" not in text


def test_other_databases_are_left_alone() -> None:
    rows, _dummy = run(wanted(words=["--backend-store-uri", "sqlite:///mlflow.db"]))
    assert rows["probe.login", "db-1:5432/mlflow.db"]["detail"] == "the backend store is sqlite, not PostgreSQL"


def test_a_source_measures_its_targets_only() -> None:
    request = {"subject": "u", "url": "http://127.0.0.1:1/health", "host_header": "", "headers": {}, "seconds": 1}
    target = {"host": "127.0.0.1", "port": 1, "requests": [request], "settle_seconds": 0, "tries": 1, "through": None}
    rows, _dummy = run(wanted(server=False, database=None, targets=[target]))
    assert list(rows) == [("probe.tcp", "127.0.0.1:1")]


def test_secrets_of_an_unescaped_password() -> None:
    backend = {"password": "p%41ss", "host": "word@db", "user": "mlflow", "database": "mlflow"}
    assert set(script.secrets_of(backend, ["abc", "mlflow"])) == {"p%41ss", "pAss", "word"}
