# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A failure that is over is told for some minutes, unless our own repair ended it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence, EvidenceSet, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.recovery import recovery

TARGET = Target("mlflow", "ml", "Deployment", "mlflow", "1", "mlflow", "mlflow:3", 5000, {"app": "mlflow"})
POD: dict[str, Any] = {
    "metadata": {"name": "mlflow-1", "namespace": "ml", "labels": {"app": "mlflow"}},
    "spec": {"containers": [{"name": "mlflow"}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}
REFUSED = '(psycopg2.OperationalError) connection to server at "db" (10.0.0.9), port 5432 failed: Connection refused'


def call(status: int) -> str:
    return f'INFO:     10.0.0.1:1 - "POST /api/2.0/mlflow/runs/create HTTP/1.1" {status} OK'


def context(*lines: tuple[str, str]) -> Context:
    log = {"lines": [{"at": f"2026-11-22T10:{at}.5Z", "text": text} for at, text in lines]}
    rows = (
        ("kubernetes.pods", "api", "ml", {"items": [POD]}),
        ("kubernetes.pod_log", "api", "mlflow-1/mlflow/current", log),
        (
            "aws.rds_events",
            "aws",
            "db",
            {"items": [{"Date": "2026-11-22T10:01:01Z", "Message": "DB instance stopped"}]},
        ),
    )
    evidence = [
        Evidence(what, place, about, "2026-11-22T10:05:00Z", State.OK, value) for what, place, about, value in rows
    ]
    return Context(TARGET, EvidenceSet(evidence), datetime(2026, 11, 22, 10, 5, tzinfo=UTC))


INCIDENT = (("01:00", call(200)), ("01:10", REFUSED), ("01:10", call(503)), ("01:50", call(503)), ("02:30", call(200)))


def test_a_failure_that_is_over() -> None:
    over = recovery(context(*INCIDENT))
    assert over is not None
    assert (over.begin, over.end) == ("2026-11-22T10:01:10.5Z", "2026-11-22T10:02:30.5Z")
    assert over.what.startswith("2 calls failed; the log says: connection to server")
    assert over.what.endswith("RDS says: DB instance stopped (2026-11-22T10:01:01Z)")
    assert over.evidence == ("kubernetes.pod_log@api/mlflow-1/mlflow/current", "aws.rds_events@aws/db")


def test_our_own_repair_ended_it() -> None:
    assert recovery(context(*INCIDENT), "2026-11-22T10:02:00Z") is None
    assert recovery(context(*INCIDENT), "2026-11-22T10:00:00Z") is not None


def test_what_is_no_incident() -> None:
    assert recovery(context(("01:10", REFUSED), ("01:20", REFUSED), ("02:00", call(200)))) is None
    assert recovery(context(("01:10", call(503)), ("02:00", call(200)))) is None
    assert recovery(context(("01:10", call(503)), ("01:50", call(503)))) is None
    assert (
        recovery(context(("00:10", call(200)), ("00:20", call(404)), ("00:30", call(404)), ("02:00", call(200))))
        is None
    )
