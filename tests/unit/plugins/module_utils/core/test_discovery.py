# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every name that the rest needs, from what the namespace holds."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Discovery, Target, discover
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    API,
    POD,
    Evidence,
    EvidenceSet,
    State,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings

AT = "2026-01-01T00:00:00Z"
NAMESPACE = "mlflow"
ARN = "arn:aws:iam::123456789012:role/platform/mlflow-role"
INSTANCE_HOST = "tracking.c1abc.us-west-2.rds.amazonaws.com"


def container(**fields: Any) -> dict[str, Any]:
    return {
        "name": "mlflow",
        "image": "registry.example.com/mlflow:v3.17.2",
        "command": ["mlflow", "server"],
        "args": ["--port", "5000", "--artifacts-destination", "s3://artifacts/runs"],
        "env": [
            {"name": "MLFLOW_BACKEND_STORE_URI", "valueFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}},
        ],
        **fields,
    }


def workload(name: str = "mlflow", labels: dict[str, str] | None = None, *containers: dict[str, Any]) -> dict[str, Any]:
    labels = labels or {"app": "mlflow"}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"serviceAccountName": "mlflow", "containers": list(containers or (container(),))},
            },
        },
    }


def service(
    name: str = "mlflow", selector: dict[str, str] | None = None, target: Any = 5000, **spec: Any
) -> dict[str, Any]:
    chosen = {"app": "mlflow"} if selector is None else selector
    return {
        "metadata": {"name": name},
        "spec": {"selector": chosen, "ports": [{"port": 80, "targetPort": target}], **spec},
    }


def listed(what: str, *items: dict[str, Any], subject: str = NAMESPACE) -> Evidence:
    return Evidence(f"kubernetes.{what}", API, subject, AT, State.OK, {"items": list(items)})


def secret(uri: dict[str, Any] | None) -> Evidence:
    item = {"metadata": {"name": "db"}, "keys": {"uri": {"length": 70, "uri": uri}}}
    return listed("secrets", item, subject=f"{NAMESPACE}/db")


def account(**annotations: str) -> Evidence:
    return listed("serviceaccounts", {"metadata": {"name": "mlflow", "annotations": annotations}})


def find(*evidence: Evidence, **settings: Any) -> Discovery:
    return discover(EvidenceSet(list(evidence)), Settings(namespace=NAMESPACE, **settings))


def target(*evidence: Evidence, **settings: Any) -> Target:
    found = find(*evidence, **settings)
    assert found.target is not None, found.problem
    return found.target


def test_everything_from_the_cluster() -> None:
    uri = {"scheme": "postgresql", "host": INSTANCE_HOST, "port": 5432, "user": "mlflow", "database": "tracking"}
    found = target(
        listed("deployments", workload()),
        listed("services", service()),
        secret(uri),
        account(**{"eks.amazonaws.com/role-arn": ARN}),
    )
    assert (found.kind, found.deployment, found.uid, found.container) == (
        "Deployment",
        "mlflow",
        "uid-mlflow",
        "mlflow",
    )
    assert (found.service, found.service_port, found.port) == ("mlflow", 80, 5000)
    assert found.backend == {**uri, "env": "MLFLOW_BACKEND_STORE_URI", "secret": "db", "key": "uri"}
    assert (found.bucket, found.artifact_prefix, found.artifacts_proxied) == ("artifacts", "runs", True)
    assert (found.role_arn, found.role_name) == (ARN, "mlflow-role")
    assert (found.db_instance_identifier, found.region, found.mlflow_version) == ("tracking", "us-west-2", "3.17.2")
    assert found.secrets == ("db",)
    assert found.found["backend"] == "secret/db key uri"
    assert found.found["role_arn"] == "annotation of serviceaccount/mlflow"


@pytest.mark.parametrize(
    ("host", "identifier", "region"),
    [
        (INSTANCE_HOST, "tracking", "us-west-2"),
        ("tracking.cluster-c1abc.eu-central-1.rds.amazonaws.com", "", "eu-central-1"),
        ("tracking.cluster-ro-c1abc.eu-central-1.rds.amazonaws.com", "", "eu-central-1"),
        ("tracking.cluster-custom-c1abc.eu-central-1.rds.amazonaws.com", "", "eu-central-1"),
        ("tracking.proxy-c1abc.eu-central-1.rds.amazonaws.com", "", "eu-central-1"),
        ("postgres.database.svc.cluster.local", "", ""),
        ("rds.amazonaws.com.example.com", "", ""),
        ("", "", ""),
    ],
)
def test_rds_instance_and_region_from_the_host(host: str, identifier: str, region: str) -> None:
    uri = {"scheme": "postgresql", "host": host, "port": 5432, "user": "mlflow", "database": "tracking"}
    found = target(listed("deployments", workload()), secret(uri))
    assert (found.db_instance_identifier, found.region) == (identifier, region)


def test_variables_override_and_say_so() -> None:
    found = target(
        listed("deployments", workload()),
        listed("services", service()),
        service="other",
        db_instance_identifier="named",
        artifact_bucket="named-bucket",
        aws={"region": "eu-west-1"},
    )
    assert (found.service, found.service_port) == ("other", None)
    assert (found.db_instance_identifier, found.bucket, found.region) == ("named", "named-bucket", "eu-west-1")
    assert found.found["db_instance_identifier"] == "mlflow_db_instance_identifier"
    assert found.found["bucket"] == "mlflow_artifact_bucket"


def test_the_server_among_other_workloads() -> None:
    gateway = workload("mlflow-gateway", {"app": "mlflow", "app.kubernetes.io/component": "gateway"})
    runner = workload(
        "trainer", {"app": "trainer"}, container(command=["python", "train.py"], args=[], env=[], image="train:1")
    )
    proxy = container(name="proxy", image="nginx:1", command=["nginx"], args=[], env=[])
    server = workload("tracking", {"app": "tracking"}, proxy, container())
    found = target(listed("deployments", gateway, runner, server))
    assert (found.deployment, found.container) == ("tracking", "mlflow")


def test_a_stateful_set_is_a_server_too() -> None:
    found = target(listed("deployments"), listed("statefulsets", workload()))
    assert found.kind == "StatefulSet"


def test_two_servers_are_a_question() -> None:
    both = listed("deployments", workload("mlflow-b"), workload("mlflow-a"))
    asked = find(both)
    assert asked.target is None
    assert asked.candidates == ("mlflow-a", "mlflow-b")
    assert "mlflow_deployment" in asked.problem
    assert target(both, deployment="mlflow-b").deployment == "mlflow-b"


def test_two_servers_are_a_question_whatever_their_labels() -> None:
    asked = find(listed("deployments", workload("mlflow"), workload("experiments", {"app": "experiments"})))
    assert asked.candidates == ("experiments", "mlflow")
    only_artifacts = workload("artifacts", {"app": "artifacts"}, container(args=["--artifacts-only"]))
    assert target(listed("deployments", workload("mlflow"), only_artifacts)).deployment == "mlflow"


def test_label_selectors_choose() -> None:
    both = listed(
        "deployments", workload("a", {"app": "mlflow", "env": "dev"}), workload("b", {"app": "mlflow", "env": "prod"})
    )
    assert target(both, label_selectors=("env=prod",)).deployment == "b"
    assert find(both, label_selectors=("env=prod", "app=other")).target is None


@pytest.mark.parametrize(
    ("evidence", "settings", "problem"),
    [
        ([Evidence("kubernetes.namespace", API, NAMESPACE, AT, State.ABSENT)], {}, "namespace mlflow does not exist"),
        (
            [Evidence("kubernetes.deployments", API, NAMESPACE, AT, State.FORBIDDEN, detail="list deployments")],
            {},
            "could not be read: list deployments",
        ),
        ([listed("deployments")], {"deployment": "gone"}, "no Deployment or StatefulSet named gone"),
        ([listed("deployments")], {}, "looks like an MLflow tracking server"),
    ],
)
def test_nothing_found_says_why(evidence: list[Evidence], settings: dict[str, Any], problem: str) -> None:
    found = find(*evidence, **settings)
    assert found.target is None
    assert problem in found.problem


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ([service("metrics", target=9090), service("web")], "web"),
        ([service("b"), service("a")], "a"),
        ([service("a", clusterIP="None"), service("b")], "b"),
        ([service("a"), service("mlflow")], "mlflow"),
        ([service("mlflow", selector={"app": "wrong"})], "mlflow"),
        ([service("tracking-web", selector={"app": "wrong"})], "tracking-web"),
        ([service("unrelated", selector={"app": "wrong"}, target=8080)], ""),
        ([service("outside", selector={}, type="ExternalName")], ""),
        ([], ""),
    ],
)
def test_the_service_also_when_its_selector_is_broken(services: list[dict[str, Any]], expected: str) -> None:
    assert target(listed("deployments", workload()), listed("services", *services)).service == expected


def test_a_service_of_another_workload_is_not_taken_for_broken() -> None:
    other = workload(
        "mlflow-proxy", {"app": "proxy"}, container(name="proxy", image="nginx:1", command=["nginx"], args=[], env=[])
    )
    services = listed("services", service("mlflow-proxy", selector={"app": "proxy"}))
    assert target(listed("deployments", workload(), other), services).service == ""


def test_named_ports_lead_to_the_container() -> None:
    named = container(ports=[{"name": "http", "containerPort": 5000}])
    ports = [{"port": 9, "targetPort": "metrics"}, {"port": 80, "targetPort": "http"}]
    found = target(listed("deployments", workload("mlflow", None, named)), listed("services", service(ports=ports)))
    assert found.service_port == 80


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"args": ["--port", "8080"]}, 8080),
        ({"args": [], "ports": [{"containerPort": 8080}]}, 5000),
        ({"command": [], "args": [], "ports": [{"containerPort": 8080}]}, 8080),
        ({"args": [], "env": [{"name": "MLFLOW_PORT", "value": "tcp://10.0.0.1:5000"}]}, 5000),
    ],
)
def test_port(fields: dict[str, Any], expected: int) -> None:
    assert target(listed("deployments", workload("mlflow", None, container(**fields)))).port == expected


@pytest.mark.parametrize(("prefix", "expected"), [("/ml", "/ml"), ("ml/", "/ml"), ("/a/b/", "/a/b")])
def test_static_prefix(prefix: str, expected: str) -> None:
    found = target(listed("deployments", workload("mlflow", None, container(args=["--static-prefix", prefix]))))
    assert found.static_prefix == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("mlflow:3.17.2", "3.17.2"),
        ("registry:5000/team/mlflow:v3.17.2-gpu", "3.17.2"),
        ("mlflow:3.17.2@sha256:0a1b", "3.17.2"),
        ("registry:5000/mlflow", ""),
        ("mlflow@sha256:0a1b", ""),
        ("mlflow:latest", ""),
    ],
)
def test_version_from_the_image(image: str, expected: str) -> None:
    assert target(listed("deployments", workload("mlflow", None, container(image=image)))).mlflow_version == expected


def test_what_the_pod_says_fills_the_gaps() -> None:
    backend = {"scheme": "postgresql", "host": "db.internal", "port": 5432, "user": "u", "database": "d"}
    seen = Evidence("probe.environment", POD, "", AT, State.OK, {"mlflow_version": "3.18.0", "backend": backend})
    found = target(listed("deployments", workload()), seen)
    assert found.mlflow_version == "3.18.0"
    assert found.backend["host"] == "db.internal"
    assert found.found["backend"] == "environment of the running pod"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"args": ["--artifacts-destination", "s3://b/p/q"]}, ("b", "p/q", True)),
        ({"args": ["--default-artifact-root", "s3://b", "--no-serve-artifacts"]}, ("b", "", False)),
        ({"args": [], "env": [{"name": "MLFLOW_ARTIFACTS_DESTINATION", "value": "s3://b"}]}, ("b", "", True)),
        ({"args": ["--artifacts-destination", "/mlartifacts"]}, ("", "", True)),
        ({"args": [], "env": [{"name": "MLFLOW_SERVE_ARTIFACTS", "value": "False"}]}, ("", "", False)),
    ],
)
def test_artifacts(fields: dict[str, Any], expected: tuple[str, str, bool]) -> None:
    found = target(listed("deployments", workload("mlflow", None, container(**fields))))
    assert (found.bucket, found.artifact_prefix, found.artifacts_proxied) == expected


def trainer(uri: str, namespace: str = "argo") -> Evidence:
    pod = {
        "metadata": {"name": "t"},
        "spec": {"containers": [{"env": [{"name": "MLFLOW_TRACKING_URI", "value": uri}]}]},
    }
    return listed("pods", pod, subject=namespace)


@pytest.mark.parametrize(
    ("uri", "selector", "expected"),
    [
        ("http://runs.mlflow.svc.cluster.local:80", {"app": "notebook"}, "runs"),
        ("http://runs.mlflow", {"app": "nobody"}, "runs"),
        ("https://user:pw@runs.mlflow.svc:443/prefix", {"app": "mlflow"}, "runs"),
        ("http://runs.elsewhere:80", {"app": "notebook"}, "mlflow"),
        ("http://runs.mlflow", {"app": "staging"}, "mlflow"),
        ("sqlite:///runs.mlflow", {"app": "notebook"}, "mlflow"),
    ],
)
def test_the_service_that_clients_use(uri: str, selector: dict[str, str], expected: str) -> None:
    """Clients know it, whatever it selects; but not when it is another tracking server's."""
    notebook = workload("notebook", {"app": "notebook"}, container(image="jupyter:1", command=["jupyter"], env=[]))
    staging = workload("staging", {"app": "staging"}, container())
    found = target(
        listed("deployments", workload(), notebook, staging),
        listed("services", service("runs", selector=selector), service("mlflow")),
        trainer(uri),
        deployment="mlflow",
    )
    assert found.service == expected


def test_a_service_of_its_own_name_that_selects_others() -> None:
    notebook = workload("notebook", {"app": "notebook"}, container(image="jupyter:1", command=["jupyter"], env=[]))
    services = listed("services", service("mlflow", selector={"app": "notebook"}))
    found = target(listed("deployments", workload("mlflow-deployment"), notebook), services)
    assert (found.service, found.found["service"]) == ("mlflow", "name of the Service")
