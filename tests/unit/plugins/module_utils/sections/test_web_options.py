# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How MLflow is started, and what follows from it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence, EvidenceSet, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context, SectionResult
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.server_command import read_command
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import web_options

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
TARGET = Target("tracking", "ml", "Deployment", "tracking", "1", "server", "mlflow:3", 5000, {"app": "tracking"})
USAGE = {"terminated": {"exitCode": 2, "finishedAt": "2026-11-22T11:59:00Z"}}
ENDED = {"terminated": {"exitCode": 0, "finishedAt": "2026-11-22T11:59:00Z"}}

Row = tuple[str, str, str, Any]


def found(
    *more: Row, args: list[str], ready: bool = False, last: dict[str, Any] | None = None, **spec: Any
) -> dict[str, str]:
    container = {"name": "server", "command": ["mlflow", "server"], "args": args, **spec.pop("container", {})}
    template = {"metadata": {"labels": {"app": "tracking"}}, "spec": {"containers": [container], **spec}}
    deployment = {"metadata": {"name": "tracking"}, "spec": {"template": template}}
    pod = {
        "metadata": {"name": "tracking-1", "labels": {"app": "tracking"}, "creationTimestamp": "2026-11-22T11:50:00Z"},
        "spec": template["spec"],
        "status": {
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "server", "state": {"running": {}}, "lastState": last or {}}],
        },
    }
    rows = [
        ("kubernetes.deployments", "api", "ml", {"items": [deployment]}),
        ("kubernetes.pods", "api", "ml", {"items": [pod]}),
        *more,
    ]
    evidence = [
        Evidence(what, place, about, "2026-11-22T12:00:00Z", State.OK, value) for what, place, about, value in rows
    ]
    result = SectionResult()
    web_options.judge(Context(TARGET, EvidenceSet(evidence), NOW), result)
    return {finding.id: finding.summary for finding in result.findings}


def log(*texts: str) -> Row:
    rows = [{"at": "2026-11-22T11:59:00Z", "text": text} for text in texts]
    return "kubernetes.pod_log", "api", "tracking-1/server/current", {"lines": rows, "truncated": False}


SERVICE: Row = ("kubernetes.services", "api", "ml", {"items": [{"metadata": {"name": "mlflow"}, "spec": {}}]})
OPEN = "--host=0.0.0.0"


@pytest.mark.parametrize(
    ("args", "spec", "expected"),
    [
        ([OPEN], {}, True),
        ([OPEN, "--port=80"], {}, False),
        ([OPEN], {"enableServiceLinks": False}, False),
        ([OPEN], {"container": {"env": [{"name": "MLFLOW_PORT", "value": "5000"}]}}, False),
    ],
)
def test_a_service_whose_name_becomes_the_port(args: list[str], spec: dict[str, Any], expected: bool) -> None:
    assert ("web_server.options_invalid" in found(SERVICE, args=args, last=USAGE, **spec)) is expected


def test_the_log_is_enough_to_know_a_service_link() -> None:
    said = log("Error: Invalid value for '--port' / '-p': 'tcp://10.0.0.9:80' is not a valid integer.")
    assert "web_server.options_invalid" in found(said, args=[OPEN], last=USAGE)
    assert "web_server.options_invalid" not in found(said, args=[OPEN], ready=True)


@pytest.mark.parametrize(
    ("args", "last", "expected"),
    [
        (["--gunicorn-opts=--timeout 9", "--uvicorn-opts=--reload"], USAGE, True),
        (["--uvicorn-opts=--worker-class sync"], ENDED, True),
        (["--uvicorn-opts=--timeout-keep-alive 75"], ENDED, False),
        (["--gunicorn-opts=--worker-class sync"], ENDED, False),
        (["--uvicorn-opts=--worker-class sync"], {}, False),
    ],
)
def test_options_of_the_other_web_server(args: list[str], last: dict[str, Any], expected: bool) -> None:
    assert ("web_server.options_invalid" in found(args=[OPEN, "--port=1", *args], last=last)) is expected


@pytest.mark.parametrize("text", ["Error: No such option '--thread'.", "gunicorn: error: unrecognized arguments: --x"])
def test_a_command_line_that_is_not_accepted(text: str) -> None:
    assert (
        text.partition("rror: ")[2]
        in found(log(text), args=[OPEN, "--port=1"], last=ENDED)["web_server.options_invalid"]
    )
    assert found(log(text), args=[OPEN, "--port=1"], ready=True, last=ENDED) == {}


REFUSED: Row = ("probe.tcp", "source:argo", "10.0.0.1:5000", {"result": "refused"})
ALIVE: Row = ("probe.http", "pod", "http://127.0.0.1:5000/health", {"result": "ok", "status": 200})


def test_a_server_on_loopback() -> None:
    assert "web_server.bound_to_loopback" in found(REFUSED, ALIVE, args=["--port=1"])
    assert "web_server.bound_to_loopback" in found(REFUSED, log("Listening at: http://127.0.0.1:5000 (7)"), args=[OPEN])
    assert "web_server.bound_to_loopback" not in found(REFUSED, args=["--port=1"])
    assert "web_server.bound_to_loopback" not in found(REFUSED, ALIVE, args=[OPEN])
    assert "web_server.bound_to_loopback" not in found(REFUSED, ALIVE, args=["--port=1"], ready=True)
    assert "web_server.bound_to_loopback" not in found(
        REFUSED, ALIVE, log("Uvicorn running on http://0.0.0.0:5000"), args=["--port=1"]
    )


def store(scheme: str) -> Row:
    return "probe.environment", "pod", "", {"backend": {"scheme": scheme}, "processes": []}


def test_a_server_without_a_backend_store() -> None:
    assert "web_server.sqlite_fallback" in found(store(""), args=[OPEN], ready=True)
    assert "web_server.sqlite_fallback" in found(args=["--backend-store-uri=sqlite:///:memory:"], ready=True)
    assert "web_server.sqlite_fallback" not in found(store("postgresql"), args=[OPEN], ready=True)
    assert "web_server.sqlite_fallback" not in found(args=[OPEN], ready=True)
    assert "web_server.sqlite_fallback" not in found(
        store("sqlite"), args=["--backend-store-uri=sqlite:////data/x.db"], ready=True
    )


def test_options_that_gunicorn_never_sees() -> None:
    args = [OPEN, "--gunicorn-opts=-w 8 -k sync --keep-alive=75", "--workers=2"]
    notes = found(args=args, ready=True)
    assert "8 workers" in notes["web_server.workers_overridden"]
    assert "--workers 2" in notes["web_server.workers_overridden"]
    assert "75" in notes["web_server.keep_alive_ignored"]
    assert found(args=[OPEN, "--gunicorn-opts=-w 2 -k gthread --keep-alive=75", "--workers=2"], ready=True) == {}


def test_gunicorn_options_are_read_in_all_their_forms() -> None:
    command = read_command(
        {"name": "x", "args": ["mlflow", "server", "--gunicorn-opts=-w 3 --timeout=9 --preload --keepalive 4"]}
    )
    assert web_options.gunicorn_options(command) == {"workers": "3", "timeout": "9", "preload": "", "keep-alive": "4"}


def test_gunicorn_s_workers_are_counted() -> None:
    rows = [
        {"pid": 1, "ppid": 0, "command": "/usr/bin/python3 /usr/bin/mlflow server --gunicorn-opts=--timeout 9"},
        {"pid": 7, "ppid": 1, "command": "/usr/bin/python3 -m gunicorn -b 0.0.0.0:5000 -w 2 mlflow.server:app"},
        {"pid": 8, "ppid": 7, "command": "/usr/bin/python3 -m gunicorn -b 0.0.0.0:5000 -w 2 mlflow.server:app"},
        {"pid": 9, "ppid": 7, "command": "/usr/bin/python3 -m gunicorn -b 0.0.0.0:5000 -w 2 mlflow.server:app"},
    ]
    item = Evidence("probe.environment", "pod", "", "2026-11-22T12:00:00Z", State.OK, {"processes": rows})
    assert web_options.workers_of(item) == 2
