# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from the clients to the pods."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import SectionResult
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import service as section

from .conftest import (
    HOST,
    LABELS,
    SEARCH,
    MakeContext,
    deployment,
    endpoints,
    listed,
    owned,
    probe,
    server_pod,
    service,
)


def found(result: SectionResult) -> dict[str, str]:
    return {item.id: item.object for item in result.findings}


def trainer(uri: str) -> dict[str, Any]:
    env = [{"name": "MLFLOW_TRACKING_URI", "value": uri}]
    return {"metadata": {"name": "t", "labels": {}}, "spec": {"containers": [{"name": "c", "env": env}]}}


def test_nothing_is_wrong(context: MakeContext) -> None:
    result = section.analyze(context(probe("tcp", HOST, tries=8, failures=[])))
    assert result.findings == []
    assert {item.what for item in result.ruled_out} >= {"service.port_mismatch"}


@pytest.mark.parametrize("target", [8080, "https"])
def test_a_port_that_leads_nowhere(context: MakeContext, target: Any) -> None:
    made = context(listed("services", service(target=target)), probe("tcp", HOST, "refused"))
    result = section.analyze(made)
    assert found(result) == {"service.unreachable": "service/mlflow", "service.port_mismatch": "service/mlflow"}
    facts = next(item.facts for item in result.findings if item.id == "service.port_mismatch")
    assert json.loads(facts["patch"]) == [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 5000}]


@pytest.mark.parametrize(
    ("command", "heard", "wrong"),
    [(["--prot=9000"], "refused", False), (["--prot=9000"], "ok", True), (["--port=5000"], "refused", True)],
)
def test_a_default_port_that_nobody_saw_proves_nothing(
    context: MakeContext, command: list[str], heard: str, wrong: bool
) -> None:
    misspelt = deployment()
    misspelt["spec"]["template"]["spec"]["containers"][0]["command"] = ["mlflow", "server", *command]
    probes = (probe("tcp", HOST, "refused"), probe("tcp", "127.0.0.1:5000", heard, place="pod"))
    made = context(listed("deployments", misspelt), listed("services", service(target=9000)), *probes)
    assert ("service.port_mismatch" in found(section.analyze(made))) is wrong


@pytest.mark.parametrize("target", [4180, "proxy"])
def test_a_port_of_a_side_car_is_meant(context: MakeContext, target: Any) -> None:
    found_workload = deployment()
    containers = found_workload["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "oauth2-proxy", "ports": [{"name": "proxy", "containerPort": 4180}]})
    made = context(listed("deployments", found_workload), listed("services", service(target=target)))
    assert section.analyze(made).findings == []


def test_some_connections_fail(context: MakeContext) -> None:
    result = section.analyze(context(probe("tcp", HOST, tries=4, failures=["refused", "timeout"])))
    [finding] = result.findings
    assert finding.id == "service.intermittent"
    assert "2 of 4 connections failed: refused, timeout" in finding.summary


def other_pod(**container: Any) -> dict[str, Any]:
    labels = {**LABELS, "component": "batch", "pod-template-hash": "zz"}
    return owned("batch-zz-1", "ReplicaSet", "batch-zz", labels, "10.0.0.9", **container)


def test_pods_of_another_workload_behind_the_service(context: MakeContext) -> None:
    made = context(
        listed("pods", server_pod(), other_pod()),
        listed("endpointslices", endpoints("mlflow-1", "batch-zz-1")),
        probe("tcp", "10.0.0.9:5000", "refused"),
    )
    [finding] = section.analyze(made).findings
    assert (finding.id, finding.object, finding.measured) == (
        "service.selector_matches_others",
        "service/mlflow",
        True,
    )
    assert "deployment/batch" in finding.summary


@pytest.mark.parametrize(
    "changes",
    [
        [
            listed("pods", server_pod(), other_pod()),
            listed("endpointslices", endpoints("mlflow-1", "batch-zz-1", port=None)),
        ],
        [listed("pods", server_pod()), listed("endpointslices", endpoints("mlflow-1", "newer"))],
        [
            listed(
                "pods",
                server_pod(),
                other_pod(
                    command=["mlflow", "server"],
                    env=[
                        {
                            "name": "MLFLOW_BACKEND_STORE_URI",
                            "valueFrom": {"secretKeyRef": {"name": "db", "key": "uri"}},
                        }
                    ],
                ),
            ),
            listed("endpointslices", endpoints("mlflow-1", "batch-zz-1")),
        ],
    ],
    ids=["no port for it", "not listed", "a canary on the same store"],
)
def test_pods_that_are_no_strangers(context: MakeContext, changes: list[Evidence]) -> None:
    assert section.analyze(context(*changes)).findings == []


def test_a_selector_that_matches_others_only(context: MakeContext) -> None:
    made = context(
        listed("services", service(selector={"component": "batch"})),
        listed("pods", server_pod(), other_pod()),
        listed("endpointslices", endpoints("batch-zz-1")),
    )
    assert found(section.analyze(made)) == {"service.selector_matches_others": "service/mlflow"}


TWO = listed("pods", server_pod(), server_pod("mlflow-2", "10.0.0.2"))


def call(address: str, status: int, result: str = "ok") -> Evidence:
    return probe("http", f"http://{address}:5000{SEARCH}", result, status=status)


@pytest.mark.parametrize(
    "bad",
    [
        [call("10.0.0.2", 503)],
        [call("10.0.0.2", 0, "timeout")],
        [probe("tcp", "10.0.0.2:5000", "timeout")],
        [probe("tcp", "10.0.0.2:5000", "refused")],
    ],
)
def test_one_bad_replica(context: MakeContext, bad: list[Evidence]) -> None:
    made = context(TWO, listed("deployments", deployment(2)), call("10.0.0.1", 200), *bad)
    [finding] = section.analyze(made).findings
    assert (finding.id, finding.object, finding.facts["replica"]) == (
        "service.replica_failing",
        "pod/mlflow-2",
        "mlflow-2",
    )


@pytest.mark.parametrize(
    ("status", "first", "second"),
    [({"updatedReplicas": 1}, 200, 503), ({"replicas": 3}, 200, 503), ({}, 503, 503), ({}, 200, 401)],
    ids=["rollout", "a pod too many", "both fail", "both serve"],
)
def test_no_bad_replica(context: MakeContext, status: dict[str, int], first: int, second: int) -> None:
    made = context(
        TWO, listed("deployments", deployment(2, **status)), call("10.0.0.1", first), call("10.0.0.2", second)
    )
    assert section.analyze(made).findings == []


def test_the_name_that_clients_use_is_gone(context: MakeContext) -> None:
    name = "old.ml.svc.cluster.local"
    made = context(
        listed("pods", trainer(f"http://{name}:80"), subject="argo"),
        probe("dns", name, "not_found"),
    )
    result = section.analyze(made)
    assert found(result) == {"service.name_not_found": "service/old", "service.missing": "service/old"}
    assert "service/mlflow is there" in next(item for item in result.findings if item.id == "service.missing").summary


@pytest.mark.parametrize("uri", ["http://mlflow.ml:80", "http://old.elsewhere:80", "http://example.com", ""])
def test_names_that_are_not_lost(context: MakeContext, uri: str) -> None:
    assert section.analyze(context(listed("pods", trainer(uri), subject="argo"))).findings == []


@pytest.mark.parametrize("clients", [[], [listed("pods", trainer("http://mlflow.ml:80"), subject="argo")]])
def test_no_service(context: MakeContext, clients: list[Evidence]) -> None:
    made = context(listed("services"), listed("endpointslices"), *clients, service="", service_port=None)
    assert found(section.analyze(made)) == {"service.missing": "service/mlflow" if clients else "deployment/mlflow"}


def ingress(backend: dict[str, Any], name: str = "mlflow") -> dict[str, Any]:
    rule = {"host": "x", "http": {"paths": [{"path": "/", "backend": {"service": backend}}]}}
    return {"metadata": {"name": name}, "spec": {"rules": [rule]}}


@pytest.mark.parametrize(
    ("backend", "wrong"),
    [
        ({"name": "mlflow", "port": {"number": 80}}, False),
        ({"name": "mlflow", "port": {"name": "http"}}, False),
        ({"name": "mlflow", "port": {"number": 5000}}, True),
        ({"name": "mlflow", "port": {"name": "web"}}, True),
        ({"name": "tracking", "port": {"number": 80}}, True),
    ],
)
def test_ingress_backends(context: MakeContext, backend: dict[str, Any], wrong: bool) -> None:
    result = section.analyze(context(listed("ingresses", ingress(backend))))
    assert found(result) == ({"service.ingress_backend_wrong": "ingress/mlflow"} if wrong else {})


def test_an_ingress_of_somebody_else(context: MakeContext) -> None:
    made = context(listed("ingresses", ingress({"name": "grafana", "port": {"number": 80}}, "dashboards")))
    assert section.analyze(made).findings == []
