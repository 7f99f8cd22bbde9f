# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hook that fails after the start, and a pod that does not go."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Finding
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import pods

from .conftest import AT, MakeContext, deployment, listed, replica_set, server_pod

NOT_READY = [{"type": "Ready", "status": "False"}]
HOOK = {
    "type": "Warning",
    "reason": "FailedPostStartHook",
    "message": "PostStartHook failed",
    "involvedObject": {"kind": "Pod", "name": "mlflow-1", "fieldPath": "spec.containers{mlflow}"},
    "firstTimestamp": AT,
    "lastTimestamp": AT,
}


def deleted(until: str, name: str = "mlflow-1", **metadata: Any) -> dict[str, Any]:
    pod = server_pod(name)
    pod["metadata"] |= {"deletionTimestamp": until, **metadata}
    pod["status"]["conditions"] = NOT_READY
    return pod


def found(context: MakeContext, identifier: str, *evidence: Any) -> list[Finding]:
    return [item for item in pods.analyze(context(*evidence)).findings if item.id == identifier]


@pytest.mark.parametrize(
    ("ready", "began", "expected"),
    [
        (False, None, 1),
        (False, "2026-01-01T11:59:50Z", 1),
        (False, "2026-01-01T11:50:00Z", 0),
        (True, None, 0),
    ],
)
def test_a_failed_hook_is_a_cause_while_its_pod_is_not_ready(
    context: MakeContext, ready: bool, began: str | None, expected: int
) -> None:
    pod = server_pod()
    state = {"running": {"startedAt": began}} if began else {"waiting": {"reason": "CrashLoopBackOff"}}
    pod["status"]["containerStatuses"] = [{"name": "mlflow", "image": "mlflow:1", "state": state}]
    pod["status"]["conditions"] = pod["status"]["conditions"] if ready else NOT_READY
    hooks = found(context, "pods.hook_failing", listed("pods", pod), listed("events", HOOK))
    assert [item.facts["container"] for item in hooks] == ["mlflow"] * expected


@pytest.mark.parametrize(
    ("until", "others", "replicas", "expected"),
    [
        ("2026-01-01T11:59:00Z", [], 1, True),
        ("2026-01-01T11:59:50Z", [], 1, False),
        ("2026-01-01T12:00:20Z", [], 1, False),
        ("2026-01-01T11:59:00Z", [server_pod("mlflow-2")], 1, False),
        ("2026-01-01T11:59:00Z", [], 0, False),
    ],
)
def test_a_pod_that_should_be_gone_holds_up_its_successor(
    context: MakeContext, until: str, others: list[dict[str, Any]], replicas: int, expected: bool
) -> None:
    evidence = [listed("pods", deleted(until), *others), listed("deployments", deployment(replicas))]
    assert bool(found(context, "pods.stuck_terminating", *evidence)) is expected


def test_it_is_said_what_holds_a_pod(context: MakeContext) -> None:
    held = deleted("2026-01-01T11:59:00Z", finalizers=["backup.example.com/snapshot"])
    (finding,) = found(context, "pods.stuck_terminating", listed("pods", held))
    assert "finalizer backup.example.com/snapshot holds it" in finding.summary


def test_a_pod_does_not_go_while_its_node_is_away(context: MakeContext) -> None:
    held = deleted("2026-01-01T11:59:00Z")
    held["spec"]["nodeName"] = "n1"
    node = {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    (finding,) = found(context, "pods.node_not_ready", listed("pods", held), listed("nodes", node, subject=""))
    assert finding.object == "node/n1"


@pytest.mark.parametrize(
    ("paused", "image", "ready", "expected"),
    [
        (True, "mlflow:2", False, ["pods.rollout_paused"]),
        (True, "mlflow:1", False, ["pods.image_not_found"]),
        (False, "mlflow:2", False, ["pods.image_not_found"]),
        (True, "mlflow:2", True, ["pods.image_not_found"]),
    ],
)
def test_a_correction_waits_for_a_paused_rollout(
    context: MakeContext, paused: bool, image: str, ready: bool, expected: list[str]
) -> None:
    found, made, pod = deployment(), replica_set(), server_pod()
    made["spec"] = {"replicas": 1, "template": {"spec": {"containers": [{"name": "mlflow", "image": "mlflow:1"}]}}}
    found["spec"] |= {"paused": paused}
    found["spec"]["template"]["spec"] = {"containers": [{"name": "mlflow", "image": image}]}
    waiting = {"reason": "ErrImagePull", "message": "manifest unknown: not found"}
    broken = server_pod("mlflow-2")
    broken["status"] |= {"conditions": NOT_READY, "phase": "Pending"}
    broken["status"]["containerStatuses"] = [{"name": "mlflow", "image": "mlflow:1", "state": {"waiting": waiting}}]
    pods_seen = [broken, pod] if ready else [broken]
    evidence = [listed("deployments", found), listed("replicasets", made), listed("pods", *pods_seen)]
    seen = {item.id for item in pods.analyze(context(*evidence)).findings}
    assert [name for name in ("pods.image_not_found", "pods.rollout_paused") if name in seen] == expected
