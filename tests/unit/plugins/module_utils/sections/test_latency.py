# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the time goes, and workers that are killed because of it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import API, CLOUD, POD, Evidence, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import latency, web_server

from .conftest import AT, SEARCH, MakeContext, deployment, listed, probe, server_pod

URL = "http://127.0.0.1:5000"


def call(path: str, seconds: float, result: str = "ok", **more: Any) -> Evidence:
    return probe("http", URL + path, result, place=POD, seconds=seconds, status=200, **more)


def limited(cpu: str | None) -> Evidence:
    pod = server_pod()
    pod["spec"]["containers"][0] |= {"name": "mlflow", "resources": {"limits": {"cpu": cpu} if cpu else {}}}
    return listed("pods", pod)


def used(cpu: str) -> Evidence:
    row = {"metadata": {"name": "mlflow-1"}, "containers": [{"name": "mlflow", "usage": {"cpu": cpu}}]}
    return listed("pod_metrics", row)


def names(context: MakeContext, *evidence: Evidence, **target: Any) -> set[str]:
    return {item.id for item in latency.analyze(context(*evidence, **target)).findings}


@pytest.mark.parametrize(
    ("cpu", "throttled", "seconds", "expected"),
    [
        ("150m", 60, 4.0, True),
        ("150m", 10, 4.0, False),
        ("150m", 60, 0.2, False),
        ("2", 60, 4.0, False),
        (None, 60, 4.0, False),
    ],
)
def test_a_cpu_limit_that_holds_mlflow_back(
    context: MakeContext, cpu: str | None, throttled: int, seconds: float, expected: bool
) -> None:
    counted = probe("throttling", "", place=POD, periods=100, throttled=throttled)
    found = names(context, limited(cpu), call(SEARCH, seconds), counted)
    assert ("latency.cpu_throttled" in found) is expected


@pytest.mark.parametrize(
    ("login", "to_database", "to_storage", "expected"),
    [
        ("timeout", 0.32, 0.002, True),
        ("timeout", 0.002, 0.002, False),
        ("timeout", 0.32, 0.32, False),
        ("ok", 0.32, 0.002, False),
    ],
)
def test_a_database_so_far_away_that_no_login_ends(
    context: MakeContext, login: str, to_database: float, to_storage: float, expected: bool
) -> None:
    connected = [
        probe("tcp", f"{host}:{port}", place=POD, seconds=taken)
        for host, port, taken in (
            ("db.example.com", 5432, to_database),
            ("s3.us-west-2.amazonaws.com", 443, to_storage),
        )
    ]
    found = names(context, call(SEARCH, 7.3), probe("login", "mlflow", login, place=POD, seconds=5.0), *connected)
    assert ("latency.database_slow" in found) is expected


@pytest.mark.parametrize(
    ("instance", "metrics", "expected"),
    [
        ("mlflow-db", State.OK, "latency.database_slow"),
        ("mlflow-db", State.UNREACHABLE, "latency.round_trip_slow"),
        ("mlflow-db", State.FORBIDDEN, "latency.round_trip_slow"),
        ("mlflow-db", None, "latency.round_trip_slow"),
        ("", None, "latency.database_slow"),
    ],
)
def test_a_slow_database_is_a_cause_only_where_its_burst_balance_could_be_seen(
    context: MakeContext, instance: str, metrics: State | None, expected: str
) -> None:
    trip = probe("query", "select 1", place=POD, round_trip_seconds=0.3)
    seen = (
        [Evidence("aws.metrics", CLOUD, instance, AT, metrics, {} if metrics is State.OK else None)] if metrics else []
    )
    assert names(context, trip, *seen, db_instance_identifier=instance) == {expected}


@pytest.mark.parametrize(
    ("server", "health", "cpu", "expected"),
    [
        ("gunicorn", "timeout", "20m", True),
        ("gunicorn", "ok", "20m", False),
        ("gunicorn", "timeout", "900m", False),
        ("uvicorn", "timeout", "20m", False),
    ],
)
def test_workers_that_slow_peers_hold(context: MakeContext, server: str, health: str, cpu: str, expected: bool) -> None:
    waits = call("/health", 5.0 if health == "timeout" else 0.1, health)
    found = names(context, limited(None), used(cpu), waits, call(SEARCH, 35.0, "timeout"), web_server=server)
    assert ("latency.workers_blocked" in found) is expected


def test_workers_that_are_killed_are_not_merely_held(context: MakeContext) -> None:
    waits = call("/health", 5.0, "timeout"), call(SEARCH, 35.0, "timeout"), limited(None), used("20m")
    earlier = killed("11:58:00", "11:58:30", run="previous")
    assert "latency.workers_blocked" in names(context, *waits, web_server="gunicorn")
    assert "latency.workers_blocked" not in names(context, *waits, earlier, web_server="gunicorn")


def test_an_answer_that_is_late_comes_from_a_worker_that_is_free(context: MakeContext) -> None:
    found = names(context, limited(None), used("20m"), call("/health", 2.7), call(SEARCH, 4.4), web_server="gunicorn")
    assert found == {"latency.slow_calls"}


def killed(*times: str, run: str = "current") -> Evidence:
    lines = [{"at": f"2026-01-01T{at}Z", "text": f"[1] [CRITICAL] WORKER TIMEOUT (pid:{at[-2:]})"} for at in times]
    value = {"lines": lines, "truncated": False}
    return Evidence("kubernetes.pod_log", API, f"mlflow-1/mlflow/{run}", AT, State.OK, value)


def unready() -> Evidence:
    pod = server_pod()
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    return listed("pods", pod)


UNREADY = unready()
TWICE = killed("11:58:00", "11:59:00")
EARLIER = killed("11:58:00", "11:58:30", run="previous")
LONG_AGO = killed("11:28:00", "11:28:30", run="previous")


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ((TWICE, call(SEARCH, 35.0, "timeout")), True),
        ((TWICE, call(SEARCH, 33.7)), True),
        ((TWICE, call(SEARCH, 0.1)), False),
        ((EARLIER, listed("pods", server_pod()), call(SEARCH, 35.0, "timeout")), True),
        ((LONG_AGO, listed("pods", server_pod()), call(SEARCH, 35.0, "timeout")), False),
        ((TWICE, call(SEARCH, 0.1), call("/version", 5.0, "timeout")), False),
        ((killed("11:59:00"), call(SEARCH, 35.0, "timeout")), False),
        ((TWICE,), False),
        ((killed("11:57:00", "11:58:00", "11:59:00"),), False),
        ((killed("11:57:00", "11:58:00", "11:59:00"), UNREADY), True),
        ((killed("11:40:00", "11:58:00", "11:59:00"), UNREADY), False),
    ],
)
def test_workers_that_gunicorn_kills(context: MakeContext, evidence: tuple[Evidence, ...], expected: bool) -> None:
    made = context(listed("deployments", deployment()), *evidence, web_server="gunicorn")
    found = {item.id for item in web_server.analyze(made).findings}
    assert ("web_server.worker_timeout" in found) is expected


def test_a_worker_class_that_does_not_exist_is_an_option_and_no_missing_module(context: MakeContext) -> None:
    pod = server_pod()
    pod["status"] |= {"conditions": [{"type": "Ready", "status": "False"}]}
    end = {
        "exitCode": 0,
        "reason": "Completed",
        "startedAt": "2026-01-01T11:59:00Z",
        "finishedAt": "2026-01-01T11:59:10Z",
    }
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    pod["status"]["containerStatuses"] = [{"name": "mlflow", "state": state, "lastState": {"terminated": end}}]
    texts = (
        "Error: class uri 'uvlcorn' invalid or not found: ",
        "ImportError: Entry point ('gunicorn.workers', 'uvlcorn') not found",
    )
    value = {"lines": [{"at": "2026-01-01T11:59:10Z", "text": text} for text in texts], "truncated": False}
    log = Evidence("kubernetes.pod_log", API, "mlflow-1/mlflow/current", AT, State.OK, value)
    found = {item.id for item in web_server.analyze(context(listed("pods", pod), log)).findings}
    assert "web_server.options_invalid" in found
    assert "web_server.workers_cannot_start" not in found
