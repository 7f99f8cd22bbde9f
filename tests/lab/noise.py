# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else is in a cluster: broken workloads and policies that have nothing to do with MLflow."""

from __future__ import annotations

from typing import Any

from tests.lab import kube, settings

NAMESPACE = "payments"
MISSING_IMAGE = f"{settings.AWS_ACCOUNT_ID}.dkr.ecr.{settings.AWS_REGION}.amazonaws.com/reporting:2024-01"


def workload(namespace: str, name: str, container: dict[str, Any]) -> dict[str, Any]:
    """A Deployment of one container with the label ``app=<name>``."""
    labels = {"app": name}
    resources = {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}}
    pod = {
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": name, "imagePullPolicy": "IfNotPresent", "resources": resources} | container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def policy(namespace: str, name: str, selected: dict[str, str]) -> dict[str, Any]:
    """A NetworkPolicy that lets nothing in to the pods with the labels ``selected`` (none: all of the namespace)."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": selected} if selected else {}, "policyTypes": ["Ingress"]},
    }


def beside(namespace: str) -> list[dict[str, Any]]:
    """Objects of other people in a server's own namespace; none of them selects or serves MLflow."""
    crashing = {"image": settings.SERVER_IMAGE, "command": ["sh", "-c", "echo no input; exit 1"]}
    return [
        workload(namespace, "notebook", {"image": settings.PAUSE_IMAGE}),
        workload(namespace, "nightly-export", crashing),
        policy(namespace, "notebook-closed", {"app": "notebook"}),
    ]


def up() -> None:
    """Put the noise around the servers: a namespace of its own. Unrelated security groups come with the account."""
    crashing = {"image": settings.SERVER_IMAGE, "command": ["sh", "-c", "echo database is locked; exit 3"]}
    kube.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    kube.apply(
        [
            workload(NAMESPACE, "ledger", crashing),
            workload(NAMESPACE, "reporting", {"image": MISSING_IMAGE}),
            policy(NAMESPACE, "closed", {}),
        ]
    )
