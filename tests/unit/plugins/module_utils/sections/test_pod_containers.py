# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that cannot be made, and what has to come before MLflow."""

from __future__ import annotations

from typing import Any

import pytest

from .test_pods import end, found, listed, pod


def waiting(reason: str, message: str) -> dict[str, Any]:
    item = pod(False)
    item["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": reason, "message": message}}
    return item


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root",
            "container_not_created",
        ),
        ("RunContainerError", 'error mounting "/x": not a directory', "container_not_created"),
        ("CreateContainerConfigError", 'secret "db" not found', "config_missing"),
        ("CreateContainerError", "context deadline exceeded", None),
    ],
)
def test_a_container_that_is_refused(reason: str, message: str, expected: str | None) -> None:
    names = {name.removeprefix("pods.") for name in found(listed(waiting(reason, message)))}
    assert names & {"container_not_created", "config_missing"} == ({expected} if expected else set())


def test_a_mount_that_the_runtime_refuses_is_no_missing_program() -> None:
    item = waiting("CrashLoopBackOff", "back-off 10s restarting failed container")
    message = (
        'runc create failed: error mounting "/volume-subpaths/motd" to rootfs at "/etc": no such file or directory'
    )
    last = {**end("StartError", 128, "11:59:00"), "message": message}
    item["status"]["containerStatuses"][0]["lastState"] = {"terminated": last}
    names = found(listed(item))
    assert "pods.container_not_created" in names
    assert "pods.command_not_found" not in names


def test_a_claim_that_does_not_exist() -> None:
    item = pod(False)
    message = '0/3 nodes are available: persistentvolumeclaim "cache" not found. preemption: not helpful'
    item["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "message": message}],
    }
    names = found(listed(item))
    assert "pods.config_missing" in names
    assert "pods.unschedulable" not in names


@pytest.mark.parametrize(
    ("contained", "gate", "expected"),
    [
        ("2026-11-22T11:00:00Z", None, True),
        ("2026-11-22T11:00:00Z", "False", True),
        ("2026-11-22T11:00:00Z", "True", False),
        ("2026-11-22T11:59:55Z", None, False),
    ],
)
def test_a_gate_that_nobody_sets(contained: str, gate: str | None, expected: bool) -> None:
    item = pod(False)
    item["spec"]["readinessGates"] = [{"conditionType": "example.com/target"}]
    conditions = item["status"]["conditions"]
    conditions.append({"type": "ContainersReady", "status": "True", "lastTransitionTime": contained})
    if gate:
        conditions.append({"type": "example.com/target", "status": gate})
    assert ("pods.readiness_gate_waiting" in found(listed(item))) is expected


@pytest.mark.parametrize(("policy", "expected"), [("Always", True), (None, False)])
def test_a_side_car_that_mlflow_waits_for(policy: str | None, expected: bool) -> None:
    item = waiting("PodInitializing", "")
    item["spec"]["initContainers"] = [{"name": "proxy", **({"restartPolicy": policy} if policy else {})}]
    status = {"name": "proxy", "ready": False, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    item["status"]["initContainerStatuses"] = [{**status, "lastState": {"terminated": end("Error", 1, "11:59:00")}}]
    names = found(listed(item))
    assert ("pods.sidecar_failing" in names) is expected
    assert ("pods.init_failing" in names) is not expected
