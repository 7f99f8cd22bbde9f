# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changed in the last day, and by whom."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.changes import differences, recent_changes
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    API,
    CLOUD,
    Evidence,
    EvidenceSet,
    State,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
TARGET = Target(
    "tracking",
    "ml",
    "Deployment",
    "tracking",
    "1",
    "web",
    "mlflow:3",
    5000,
    {"app": "x"},
    service="front",
    secrets=("db",),
)


def template(**container: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"pod-template-hash": "z"}}, "spec": {"containers": [{"name": "web", **container}]}}


def replica_set(number: int, made: str, **container: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"tracking-{number}",
            "creationTimestamp": made,
            "annotations": {"deployment.kubernetes.io/revision": str(number)},
            "ownerReferences": [{"kind": "Deployment", "name": "tracking"}],
        },
        "spec": {"template": template(**container)},
    }


def obj(name: str, made: str, *rows: tuple[str, str]) -> dict[str, Any]:
    changes = [{"manager": manager, "time": time, "operation": "Update"} for manager, time in rows]
    return {"metadata": {"name": name, "creationTimestamp": made, "lastChanged": changes}}


def listed(what: str, *items: dict[str, Any]) -> Evidence:
    return Evidence(f"kubernetes.{what}", API, "ml", "", State.OK, {"items": list(items)})


def changes(*evidence: Evidence) -> list[tuple[str, str, str, str]]:
    found = recent_changes(Context(TARGET, EvidenceSet(list(evidence)), NOW))
    return [(change.at[11:16], change.object, change.by, change.what) for change in found]


def test_a_revision_says_what_it_changed_and_who_did_it() -> None:
    old = replica_set(1, "2026-11-20T12:00:00Z", image="mlflow:2", env=[{"name": "A", "value": "1"}])
    new = replica_set(2, "2026-11-22T11:00:01Z", image="mlflow:3", env=[{"name": "A", "value": "2"}])
    deployment = obj(
        "tracking", "2026-11-20T12:00:00Z", ("helm", "2026-11-22T11:00:00Z"), ("kubectl", "2026-11-01T00:00:00Z")
    )
    assert changes(listed("replicasets", old, new), listed("deployments", deployment)) == [
        ("11:00", "deployment/tracking", "helm", "revision 2: web.image mlflow:2 -> mlflow:3; web.env.A.value 1 -> 2")
    ]


def test_a_rollback_counts_from_the_change_of_the_deployment() -> None:
    back = replica_set(3, "2026-11-20T12:00:00Z", image="mlflow:2")
    gone = replica_set(2, "2026-11-21T11:00:00Z", image="mlflow:3")
    deployment = obj("tracking", "2026-11-20T12:00:00Z", ("kubectl-rollout", "2026-11-22T09:30:00Z"))
    seen = changes(listed("replicasets", back, gone), listed("deployments", deployment))
    assert ("09:30", "deployment/tracking", "kubectl-rollout", "revision 3: web.image mlflow:3 -> mlflow:2") in seen


def test_objects_around_the_server() -> None:
    seen = changes(
        listed(
            "services",
            obj("front", "2026-11-01T00:00:00Z", ("kubectl-edit", "2026-11-22T10:00:00Z")),
            obj("other", "2026-11-22T10:00:00Z", ("x", "2026-11-22T10:00:00Z")),
        ),
        listed("secrets", obj("db", "2026-11-22T08:00:00Z", ("external-secrets", "2026-11-22T08:00:00Z"))),
        listed("networkpolicies", obj("deny", "2026-11-21T08:00:00Z", ("argocd", "2026-11-21T08:00:00Z"))),
        listed(
            "deployments", obj("tracking", "2026-11-01T00:00:00Z", ("kube-controller-manager", "2026-11-22T11:00:00Z"))
        ),
        Evidence(
            "aws.rds_events",
            CLOUD,
            "db-1",
            "",
            State.OK,
            {
                "items": [
                    {"Date": "2026-11-22T07:00:00Z", "SourceIdentifier": "db-1", "Message": "DB instance shutdown"}
                ]
            },
        ),
    )
    assert seen == [
        ("10:00", "service/front", "kubectl-edit", "changed"),
        ("08:00", "secret/db", "external-secrets", "created"),
        ("07:00", "db-1", "RDS", "DB instance shutdown"),
    ]


def test_differences_are_short_and_leave_the_hash_out() -> None:
    new = {**template(args=["--port=1", "x" * 200]), "metadata": {"labels": {"pod-template-hash": "y"}}}
    lines = differences(new, template())
    assert len(lines) == 1
    assert lines[0].startswith("web.args (none) -> --port=1 xxx")
    assert lines[0].endswith("…")
