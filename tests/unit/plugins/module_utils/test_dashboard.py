# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What evidence says about opening the dashboard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence, EvidenceSet, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.verdict import Impact, Verdict
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.dashboard import (
    hopeless,
    ingress_addresses,
    plain,
    worker_note,
)

AT = "2026-11-22T12:00:00Z"
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
HEALTHY = Verdict("healthy", Impact())


def context(
    args: list[str] | None = None,
    ingresses: list[dict[str, Any]] | None = None,
    ready: str = "True",
    state: State = State.OK,
    prefix: str = "",
) -> Context:
    given = args or []
    gunicorn = any(word.startswith("--gunicorn-opts") for word in given)
    target = Target(
        *("tracking", "ml", "Deployment", "tracking", "1", "server", "mlflow:3", 5000, {"app": "tracking"}),
        service="web",
        static_prefix=prefix,
        web_server="gunicorn" if gunicorn else "uvicorn",
    )
    container = {"name": "server", "command": ["mlflow", "server"], "args": given}
    template = {"metadata": {"labels": {"app": "tracking"}}, "spec": {"containers": [container]}}
    deployment = {"metadata": {"name": "tracking"}, "spec": {"template": template}}
    pod = {
        "metadata": {"name": "tracking-1", "labels": {"app": "tracking"}},
        "spec": template["spec"],
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }
    listed = {"deployments": [deployment], "ingresses": ingresses or []}
    evidence = [
        Evidence(f"kubernetes.{what}", "api", "ml", AT, State.OK, {"items": items}) for what, items in listed.items()
    ]
    pods = {"items": [pod]} if state in (State.OK, State.PARTIAL) else None
    evidence.append(Evidence("kubernetes.pods", "api", "ml", AT, state, pods, "list pods"))
    return Context(target, EvidenceSet(evidence), NOW)


def test_nothing_is_started_when_pods_were_seen_and_none_is_ready() -> None:
    assert hopeless(context(), HEALTHY) == ""
    assert hopeless(context(ready="False"), HEALTHY) == "no pod of deployment/tracking is ready"


def test_pods_that_could_not_be_seen_are_no_reason_to_give_up() -> None:
    assert hopeless(context(state=State.FORBIDDEN), HEALTHY) == ""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], ""),
        (["--gunicorn-opts=--timeout 300 --workers 9", "--workers=2"], "has 2: "),
        (["--gunicorn-opts=--timeout 300"], "has 4: "),
        (["--gunicorn-opts=--timeout 300 --worker-class=sync"], "for up to 300 s"),
        (["--gunicorn-opts=--worker-class gthread --threads 4"], ""),
        (["--gunicorn-opts=--threads 4"], ""),
    ],
)
def test_only_sync_workers_are_used_up_by_connections(args: list[str], said: str) -> None:
    note = worker_note(context(args), HEALTHY)
    assert said in note
    assert bool(note) == bool(said)


def ingress(host: str, path: str, service: str = "web", secure: bool = False) -> dict[str, Any]:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    rule = {"host": host, "http": {"paths": [{"path": path, "backend": backend}]}}
    spec: dict[str, Any] = {"rules": [rule]}
    return {"metadata": {"name": "front"}, "spec": {**spec, "tls": [{"hosts": [host]}]} if secure else spec}


@pytest.mark.parametrize(
    ("item", "prefix", "address"),
    [
        (ingress("ml.example.com", "/"), "", "http://ml.example.com/"),
        (ingress("ml.example.com", "/", secure=True), "", "https://ml.example.com/"),
        (ingress("ml.example.com", "/tracking/"), "", "http://ml.example.com/tracking/"),
        (ingress("ml.example.com", "/tracking(/|$)(.*)"), "", "http://ml.example.com/tracking/"),
        (ingress("ml.example.com", "/"), "/ml", "http://ml.example.com/ml/"),
        (ingress("*.example.com", "/"), "", None),
        (ingress("", "/"), "", None),
        (ingress("ml.example.com", "/", service="other"), "", None),
    ],
)
def test_an_ingress_promises_the_address_of_its_rule(item: dict[str, Any], prefix: str, address: str | None) -> None:
    assert ingress_addresses(context(ingresses=[item], prefix=prefix)) == ([(address, "front")] if address else [])


def test_only_the_literal_part_of_a_path_is_an_address() -> None:
    assert [plain(path) for path in ("", "/", "/a/b", "/a/?(.*)", "/a/*")] == ["", "", "/a/b", "/a", "/a"]
