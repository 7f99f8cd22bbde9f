# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pods are entered, when a copy is made, and that a copy can do no harm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect import pod_specs
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.objects import (
    PROBE_LABEL,
    secret_facts,
    slim_source_pod,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence, EvidenceSet, State

from .conftest import IMAGE, client_pod, listing, metrics, secret, server_pod, workload


@pytest.mark.parametrize(
    ("used", "problem"),
    [("400Mi", ""), ("900Mi", "mlflow-1 uses 900 of 1024 MiB"), (None, "the memory use of mlflow-1 is unknown")],
)
def test_exec_needs_room(used: str | None, problem: str) -> None:
    evidence = EvidenceSet([listing("pod_metrics", *([metrics(used)] if used else []))])
    assert pod_specs.exec_problem(server_pod(), "mlflow", evidence) == problem


def test_without_a_limit_there_is_room() -> None:
    pod = server_pod()
    del pod["spec"]["containers"][0]["resources"]
    assert pod_specs.exec_problem(pod, "mlflow", EvidenceSet()) == ""


def test_only_the_servers_own_pods_count(target: Target) -> None:
    job = server_pod("job")
    job["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "migrate"}]
    leaving = server_pod("leaving")
    leaving["metadata"]["deletionTimestamp"] = "now"
    starting = server_pod("starting", {"waiting": {}})
    other = server_pod("other")
    other["metadata"]["labels"] = {"app": "other"}
    evidence = EvidenceSet([listing("pods", starting, job, leaving, other, server_pod())])
    assert [pod["metadata"]["name"] for pod in pod_specs.server_pods(evidence, target)] == ["mlflow-1", "starting"]


def test_enterable(target: Target, evidence: EvidenceSet) -> None:
    unknown = server_pod("mlflow-2")
    entered, problems = pod_specs.enterable([server_pod(), unknown, server_pod("x", {"waiting": {}})], target, evidence)
    assert [pod["metadata"]["name"] for pod in entered] == ["mlflow-1"]
    assert problems == ["the memory use of mlflow-2 is unknown"]


@pytest.mark.parametrize(
    ("moment", "changed"), [("2026-11-22T10:30:00Z", ""), ("2026-11-22T11:30:00Z", "secret/mlflow-db")]
)
def test_changed_since(target: Target, moment: str, changed: str) -> None:
    item = secret()
    item["metadata"]["managedFields"][0]["time"] = moment
    facts = listing("secrets", secret_facts(item), subject="mlflow/mlflow-db")
    evidence = EvidenceSet([facts, listing("deployments", workload())])
    found = pod_specs.changed_since([with_role(server_pod(), target.role_arn)], target, evidence)
    assert found == (f"{changed} changed after the server started" if changed else "")


def with_role(pod: dict[str, Any], role: str) -> dict[str, Any]:
    for container in pod["spec"]["containers"]:
        container["env"] = [{"name": "AWS_ROLE_ARN", "value": role}]
    return pod


@pytest.mark.parametrize(("given", "wanted"), [("arn:old", "arn:new"), ("arn:old", ""), ("", "arn:new")])
def test_another_role_than_a_new_pod_would_get(target: Target, given: str, wanted: str) -> None:
    evidence = EvidenceSet([listing("deployments", workload())])
    now = replace(target, role_arn=wanted)
    assert "another role" in pod_specs.changed_since([with_role(server_pod(), given)], now, evidence)
    assert pod_specs.changed_since([with_role(server_pod(), wanted)], now, evidence) == ""


def replica_set(name: str, image: str, created: str) -> dict[str, Any]:
    owners = [{"kind": "Deployment", "name": "mlflow"}]
    template = {"spec": {"containers": [{"name": "mlflow", "image": image}]}}
    return {
        "metadata": {"name": name, "ownerReferences": owners, "creationTimestamp": created},
        "spec": {"template": template},
    }


@pytest.mark.parametrize(("stored", "image"), [(["old:2", "old:1"], "old:2"), (["old:1"], "old:1"), ([], "")])
def test_an_image_that_cannot_be_pulled(target: Target, stored: list[str], image: str) -> None:
    evidence = EvidenceSet(
        [
            listing("pods", server_pod("new", {"waiting": {"reason": "ImagePullBackOff"}})),
            listing(
                "replicasets",
                replica_set("mlflow-abc", IMAGE, "3"),
                replica_set("a", "old:1", "1"),
                replica_set("b", "old:2", "2"),
            ),
            listing("nodes", {"status": {"images": stored}}, subject=""),
        ]
    )
    assert pod_specs.runnable_image(evidence, target) == image


def test_the_servers_image_is_the_first_choice(target: Target, evidence: EvidenceSet) -> None:
    assert pod_specs.runnable_image(evidence, target) == IMAGE


@pytest.mark.parametrize("publishes", [True, False])
def test_publishes_unready(target: Target, publishes: bool) -> None:
    spec = {"publishNotReadyAddresses": publishes, "selector": {"app": "mlflow"}}
    evidence = EvidenceSet([listing("services", {"metadata": {"name": "headless"}, "spec": spec})])
    assert pod_specs.publishes_unready(evidence, target) == ("headless" if publishes else "")


def test_debug_copy(target: Target) -> None:
    before = workload()
    copy = pod_specs.debug_copy(before, target, "mlflow-runbook-1", IMAGE, 90)
    assert before == workload()
    spec = copy["spec"]
    [container] = spec["containers"]
    assert container["name"] == "mlflow"
    assert container["env"] == workload()["spec"]["template"]["spec"]["containers"][0]["env"]
    assert container["command"] == ["python3", "-c", "import time; time.sleep(90)"]
    assert {"args", "livenessProbe", "lifecycle", "ports"} & set(container) == set()
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert spec["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    assert spec["readinessGates"] == [{"conditionType": "mlflow-runbook.mlops/never"}]
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == 90
    assert spec["serviceAccountName"] == "mlflow"
    assert spec["affinity"] == {"nodeAffinity": {}}
    assert "initContainers" not in spec
    assert copy["metadata"]["labels"] == {"app": "mlflow", PROBE_LABEL: "debug-copy"}


def test_source_pod_stands_for_a_client() -> None:
    client = client_pod(labels={"app": "training", "pod-template-hash": "2", "batch.kubernetes.io/job-name": "x"})
    pod = pod_specs.source_pod("argo", slim_source_pod(client), IMAGE, "mlflow-runbook-1", 90)
    assert pod["metadata"]["labels"] == {"app": "training", PROBE_LABEL: "source"}
    assert pod["metadata"]["annotations"] == {"sidecar.istio.io/inject": "true"}
    assert pod["spec"]["serviceAccountName"] == "training"
    assert pod["spec"]["containers"][0]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["readinessGates"] == [{"conditionType": "mlflow-runbook.mlops/never"}]
    alone = pod_specs.source_pod("argo", None, IMAGE, "mlflow-runbook-1", 90)
    assert alone["metadata"]["labels"] == {PROBE_LABEL: "source"}
    assert alone["spec"]["serviceAccountName"] == "default"


def test_live_client(target: Target) -> None:
    named = slim_source_pod(client_pod())
    other = slim_source_pod(client_pod(name="other"))
    other["spec"]["containers"][0]["env"][0]["value"] = "http://elsewhere"
    daemon = slim_source_pod(client_pod(ownerReferences=[{"kind": "DaemonSet", "name": "d"}]))
    bare = slim_source_pod(client_pod(labels={"app": "training"}))
    silent = slim_source_pod(client_pod())
    silent["spec"]["containers"][0]["env"] = []
    assert pod_specs.live_client([silent, daemon, bare, other, named], target) == named
    assert pod_specs.live_client([silent, other], target) == other
    assert pod_specs.live_client([silent, daemon, bare], target) is None


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ({}, (False, "not started yet")),
        ({"containerStatuses": [{"name": "probe", "state": {"running": {}}}]}, (True, "")),
        (
            {
                "containerStatuses": [
                    {"name": "probe", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}
                ]
            },
            (True, "ErrImagePull: no"),
        ),
        (
            {"containerStatuses": [{"name": "probe", "state": {"waiting": {"reason": "ContainerCreating"}}}]},
            (False, "not started yet"),
        ),
        (
            {"containerStatuses": [{"name": "probe", "state": {"terminated": {"exitCode": 127}}}]},
            (True, "ended with exit code 127"),
        ),
        (
            {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1 nodes"}]},
            (True, "Unschedulable: 0/1 nodes"),
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "disk"}, (True, "Evicted: disk")),
    ],
)
def test_start_of(status: dict[str, Any], outcome: tuple[bool, str]) -> None:
    assert pod_specs.start_of({"spec": {"containers": [{"name": "probe"}]}, "status": status}) == outcome


def test_pods_of_others_with_the_same_labels(target: Target) -> None:
    ours, theirs = server_pod("mlflow-1"), server_pod("batch-1")
    theirs["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "batch-1"}]
    theirs["status"]["podIP"] = "10.91.0.77"
    points = [{"addresses": [pod["status"]["podIP"]]} for pod in (ours, theirs)]
    slices = {
        "metadata": {"labels": {"kubernetes.io/service-name": target.service}},
        "ports": [{"port": 5000}],
        "endpoints": [*points, {"addresses": ["10.91.0.78"], "conditions": {"ready": False}}],
    }
    evidence = EvidenceSet(
        [
            listing("pods", ours, theirs),
            listing("replicasets", replica_set("mlflow-abc", IMAGE, "1")),
            listing("endpointslices", slices),
        ]
    )
    assert [pod["metadata"]["name"] for pod in pod_specs.server_pods(evidence, target)] == ["mlflow-1"]
    assert pod_specs.foreign_endpoints(evidence, target) == [("10.91.0.77", 5000)]


def test_a_secret_that_may_not_be_read_may_have_changed(target: Target) -> None:
    hidden = Evidence("kubernetes.secrets", "api", "mlflow", "", State.FORBIDDEN, None, "get secrets")
    evidence = EvidenceSet([hidden, listing("deployments", workload())])
    found = pod_specs.changed_since([with_role(server_pod(), target.role_arn)], target, evidence)
    assert found == "secret/mlflow-db may have changed after the server started: get secrets"
