# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One small server, as the API describes it, and an API that never leaves the process."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import (
    CallCounter,
    Deadline,
    Observation,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.threads import Notebook
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    API,
    Evidence,
    EvidenceSet,
    State,
)

NOW = "2026-11-22T12:00:00Z"
IMAGE = "registry/mlflow:3.17.2"
MIB = 1 << 20
PASSWORD = "correct-horse"
URI = f"postgresql://mlflow:{PASSWORD}@db-1.abc.us-west-2.rds.amazonaws.com:5432/mlflow"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret() -> dict[str, Any]:
    return {
        "metadata": {
            "name": "mlflow-db",
            "creationTimestamp": "2026-11-22T10:00:00Z",
            "resourceVersion": "5",
            "managedFields": [{"manager": "kubectl", "time": "2026-11-22T10:30:00Z", "operation": "Update"}],
        },
        "type": "Opaque",
        "data": {"username": encoded("mlflow"), "password": encoded(PASSWORD), "uri": encoded(URI)},
    }


def workload() -> dict[str, Any]:
    return {
        "metadata": {"name": "mlflow", "namespace": "mlflow", "uid": "d-1", "labels": {"app": "mlflow"}},
        "spec": {
            "selector": {"matchLabels": {"app": "mlflow"}},
            "template": {
                "metadata": {"labels": {"app": "mlflow", "pod-template-hash": "1"}, "annotations": {"a": "b"}},
                "spec": {
                    "serviceAccountName": "mlflow",
                    "initContainers": [{"name": "migrate", "image": IMAGE}],
                    "containers": [
                        {
                            "name": "mlflow",
                            "image": IMAGE,
                            "command": ["mlflow"],
                            "args": ["server", "--host=0.0.0.0", "--artifacts-destination=s3://artifacts"],
                            "ports": [{"containerPort": 5000}],
                            "resources": {"limits": {"memory": "1Gi"}},
                            "env": [
                                {
                                    "name": "MLFLOW_BACKEND_STORE_URI",
                                    "valueFrom": {"secretKeyRef": {"name": "mlflow-db", "key": "uri"}},
                                }
                            ],
                            "livenessProbe": {"httpGet": {"path": "/health"}},
                            "lifecycle": {"preStop": {}},
                            "volumeMounts": [
                                {"name": "data", "mountPath": "/data"},
                                {"name": "tmp", "mountPath": "/tmp"},
                            ],
                        },
                        {"name": "proxy", "image": "proxy"},
                    ],
                    "volumes": [
                        {"name": "data", "persistentVolumeClaim": {"claimName": "x"}},
                        {"name": "tmp", "emptyDir": {}},
                    ],
                    "affinity": {"podAntiAffinity": {}, "nodeAffinity": {}},
                    "topologySpreadConstraints": [{}],
                },
            },
        },
    }


def server_pod(name: str = "mlflow-1", state: dict[str, Any] | None = None, image: str = IMAGE) -> dict[str, Any]:
    running = {"running": {"startedAt": "2026-11-22T11:00:00Z"}}
    now = running if state is None else state
    spec = copy.deepcopy(workload()["spec"]["template"]["spec"])
    spec["containers"][0]["image"] = image
    return {
        "metadata": {
            "name": name,
            "namespace": "mlflow",
            "labels": {"app": "mlflow", "pod-template-hash": "1"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "mlflow-abc"}],
            "creationTimestamp": "2026-11-22T11:00:00Z",
        },
        "spec": spec,
        "status": {
            "phase": "Running",
            "podIP": "10.91.0.5",
            "conditions": [{"type": "Ready", "status": "True" if now is running else "False"}],
            "containerStatuses": [{"name": "mlflow", "state": now, "restartCount": 0}],
        },
    }


def client_pod(**more: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "training-1",
            "namespace": "argo",
            "labels": {"app": "training", "pod-template-hash": "2"},
            "annotations": {"sidecar.istio.io/inject": "true", "note": "x"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "training-2"}],
            **more,
        },
        "spec": {
            "serviceAccountName": "training",
            "containers": [
                {
                    "name": "train",
                    "image": "train",
                    "env": [
                        {"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow.mlflow:5000"},
                        {"name": "TOKEN", "value": "private"},
                    ],
                }
            ],
        },
        "status": {"phase": "Running", "podIP": "10.91.0.9"},
    }


def metrics(used: str) -> dict[str, Any]:
    return {"metadata": {"name": "mlflow-1"}, "containers": [{"name": "mlflow", "usage": {"memory": used}}]}


def listing(what: str, *items: dict[str, Any], subject: str = "mlflow") -> Evidence:
    return Evidence(f"kubernetes.{what}", API, subject, NOW, State.OK, {"items": list(items)})


@pytest.fixture
def target() -> Target:
    return Target(
        name="mlflow",
        namespace="mlflow",
        kind="Deployment",
        deployment="mlflow",
        uid="d-1",
        container="mlflow",
        image=IMAGE,
        port=5000,
        selector={"app": "mlflow"},
        service="mlflow",
        service_port=80,
        secrets=("mlflow-db",),
        bucket="artifacts",
        region="us-west-2",
        db_instance_identifier="db-1",
    )


@pytest.fixture
def evidence() -> EvidenceSet:
    return EvidenceSet(
        [
            listing("deployments", workload()),
            listing("pods", server_pod()),
            listing("pod_metrics", metrics("400Mi")),
            listing("services", {"metadata": {"name": "mlflow"}, "spec": {"selector": {"app": "mlflow"}}}),
        ]
    )


@pytest.fixture
def notebook() -> Notebook:
    return Notebook(lambda: NOW)


class FakeCluster:
    """Stands for ClusterReader: objects by path, and a list of everything that was asked.

    Args:
        objects: what a path answers; a list is a list of items, an observation is given back as it is, a
            function is asked each time.
    """

    def __init__(self, objects: dict[str, Any] | None = None) -> None:
        self.objects = dict(objects or {})
        self.deadline = Deadline(5)
        self.calls = CallCounter()
        self.asked: list[tuple[str, str]] = []
        self.pods: dict[str, dict[str, Any]] = {}
        self.documents: list[dict[str, Any]] = []
        self.answer: Callable[[str], Observation] = lambda pod: Observation(
            State.OK, {"out": json.dumps({"rows": [], "seconds": 0.1}), "error": "", "problem": ""}
        )
        self.started: dict[str, Any] = {"containerStatuses": [{"name": "mlflow", "state": {"running": {}}}]}

    def list(self, path: str, resource: str, namespace: str = "", query: Any = None) -> Observation:
        self.asked.append(("list", path))
        found = self.objects.get(path, [])
        found = found() if callable(found) else found
        return found if isinstance(found, Observation) else Observation(State.OK, {"items": copy.deepcopy(found)})

    def get(self, path: str, resource: str, namespace: str = "") -> Observation:
        self.asked.append(("get", path))
        found = self.objects.get(path)
        if isinstance(found, Observation):
            return found
        return Observation(State.OK, copy.deepcopy(found)) if found else Observation(State.ABSENT, detail="not found")

    def pod_log(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int) -> Observation:
        self.asked.append(("log", pod))
        return Observation(State.OK, "2026-11-22T11:00:00.123Z hello\n")

    def create_pod(self, namespace: str, pod: dict[str, Any]) -> Observation:
        self.asked.append(("create", pod["metadata"]["name"]))
        made = self.objects.get("create")
        if made is None:
            self.pods[pod["metadata"]["name"]] = pod
            made = Observation(State.OK, pod)
        return made

    def watch_pod(self, namespace: str, name: str, seconds: float) -> Iterator[dict[str, Any]]:
        pod = self.pods[name]
        status = copy.deepcopy(self.started)
        for item in status.get("containerStatuses", []):
            item["name"] = pod["spec"]["containers"][0]["name"]
        yield {**pod, "status": {}}
        yield {**pod, "status": status}

    def exec_python(
        self, namespace: str, pod: str, container: str, program: str, document: str, seconds: float
    ) -> Observation:
        self.asked.append(("exec", pod))
        self.documents.append(json.loads(document)["wanted"])
        return self.answer(pod)

    def delete_pod(self, namespace: str, name: str) -> Observation:
        self.asked.append(("delete", name))
        self.pods.pop(name, None)
        return Observation(State.OK, {})

    def cluster_name(self) -> str:
        return "lab"

    def secrets(self) -> set[str]:
        return set()

    def verbs(self) -> set[str]:
        return {verb for verb, dummy in self.asked}
