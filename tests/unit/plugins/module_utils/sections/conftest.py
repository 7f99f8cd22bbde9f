# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small server in evidence, to be changed by each test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    API,
    Evidence,
    EvidenceSet,
    State,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context

AT = "2026-01-01T12:00:00Z"
LABELS = {"app": "mlflow"}
SOURCE = "source:argo"
HOST = "mlflow.ml.svc.cluster.local:80"
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


def listed(what: str, *items: dict[str, Any], subject: str = "ml") -> Evidence:
    return Evidence(f"kubernetes.{what}", API, subject, AT, State.OK, {"items": list(items)})


def probe(what: str, subject: str, result: str = "ok", place: str = SOURCE, **more: Any) -> Evidence:
    return Evidence(f"probe.{what}", place, subject, AT, State.OK, {"result": result, "probe_pod": "p", **more})


def owned(name: str, kind: str, owner: str, labels: dict[str, str], address: str, **container: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "ml",
            "labels": labels,
            "creationTimestamp": AT,
            "ownerReferences": [{"kind": kind, "name": owner}],
        },
        "spec": {"containers": [{"name": "c", "image": "x:1", **container}]},
        "status": {
            "podIP": address,
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def server_pod(name: str = "mlflow-1", address: str = "10.0.0.1") -> dict[str, Any]:
    return owned(name, "ReplicaSet", "mlflow-abc", {**LABELS, "pod-template-hash": "abc"}, address)


def deployment(replicas: int = 1, /, **status: int) -> dict[str, Any]:
    template = {
        "metadata": {"labels": LABELS},
        "spec": {
            "containers": [
                {
                    "name": "mlflow",
                    "command": ["mlflow", "server", "--port=5000"],
                    "ports": [{"name": "http", "containerPort": 5000}],
                }
            ]
        },
    }
    counts = {"replicas": replicas, "updatedReplicas": replicas, **status}
    return {
        "metadata": {"name": "mlflow", "labels": LABELS},
        "spec": {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template},
        "status": counts,
    }


def replica_set() -> dict[str, Any]:
    return {"metadata": {"name": "mlflow-abc", "ownerReferences": [{"kind": "Deployment", "name": "mlflow"}]}}


def service(name: str = "mlflow", selector: dict[str, str] | None = None, target: Any = "http") -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": target}]
    return {"metadata": {"name": name}, "spec": {"selector": selector or LABELS, "ports": ports}}


def endpoints(*pods: str, port: int | None = 5000, name: str = "mlflow") -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"port": port}] if port else [],
        "endpoints": [{"addresses": ["10.0.0.9"], "targetRef": {"kind": "Pod", "name": pod}} for pod in pods],
    }


MakeContext = Callable[..., Context]


def make_context(*changes: Evidence, **fields: Any) -> Context:
    """Build a context; evidence that a test gives stands instead of the usual of its kind."""
    known: dict[str, Any] = {
        "name": "mlflow",
        "namespace": "ml",
        "kind": "Deployment",
        "deployment": "mlflow",
        "uid": "u",
        "container": "mlflow",
        "image": "mlflow:3.17.2",
        "port": 5000,
        "selector": LABELS,
        "service": "mlflow",
        "service_port": 80,
        "backend": {"host": "db.example.com", "port": 5432, "scheme": "postgresql", "secret": "db", "key": "uri"},
    }
    usual = [
        listed("deployments", deployment()),
        listed("replicasets", replica_set()),
        listed("services", service()),
        listed("endpointslices", endpoints("mlflow-1")),
        listed("pods", server_pod()),
        listed("networkpolicies"),
        listed("ingresses"),
    ]
    given = {(item.what, item.subject) for item in changes}
    kept = [item for item in usual if (item.what, item.subject) not in given]
    return Context(Target(**(known | fields)), EvidenceSet([*kept, *changes]), datetime(2026, 1, 1, 12, tzinfo=UTC))


@pytest.fixture
def context() -> MakeContext:
    """Return the function that builds a context."""
    return make_context
