# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layouts of the field, and stores that are no PostgreSQL and no AWS."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target, discover
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery_stores import dialect
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    API,
    Evidence,
    EvidenceSet,
    State,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings

AT = "2026-01-01T00:00:00Z"
NAMESPACE = "ml"
INSTANCE_HOST = "tracking.c1abc.us-west-2.rds.amazonaws.com"
OUTPUTS = {
    "db_host": ("db.internal.example", "rds_endpoint"),
    "db_instance_identifier": ("platform-db", "db_id"),
    "artifact_bucket": ("platform-artifacts", "bucket"),
    "role_arn": ("arn:aws:iam::123456789012:role/mlflow", "mlflow_role_arn"),
    "region": ("eu-west-1", "region"),
}


def listed(what: str, *items: dict[str, Any], subject: str = NAMESPACE) -> Evidence:
    return Evidence(f"kubernetes.{what}", API, subject, AT, State.OK, {"items": list(items)})


def workload(*containers: dict[str, Any], labels: dict[str, str] | None = None, name: str = "mlflow") -> dict[str, Any]:
    labels = labels or {"app": "mlflow"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": list(containers)}}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def server(**fields: Any) -> dict[str, Any]:
    return {"name": "mlflow", "image": "mlflow:3.17.2", "command": ["mlflow", "server"], **fields}


def target(*evidence: Evidence, **settings: Any) -> Target:
    found = discover(EvidenceSet(list(evidence)), Settings(namespace=NAMESPACE, **settings))
    assert found.target is not None, found.problem
    return found.target


def env(**values: str) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def from_secret(name: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def test_the_official_chart() -> None:
    labels = {"app.kubernetes.io/name": "mlflow", "app.kubernetes.io/instance": "tracking"}
    container = server(
        command=["mlflow", "server", "--host=0.0.0.0", "--port=5000", "--workers=2"],
        ports=[{"name": "http", "containerPort": 5000}],
        env=[from_secret("MLFLOW_BACKEND_STORE_URI", "backend", "uri"), *env(MLFLOW_ARTIFACTS_DESTINATION="s3://b/p")],
    )
    service = {
        "metadata": {"name": "tracking-mlflow"},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }
    found = target(
        listed("deployments", workload(container, labels=labels, name="tracking-mlflow")), listed("services", service)
    )
    assert (found.service, found.service_port, found.port) == ("tracking-mlflow", 80, 5000)
    assert (found.backend["secret"], found.backend["key"]) == ("backend", "uri")
    assert (found.bucket, found.artifact_prefix) == ("b", "p")


def test_the_community_chart() -> None:
    container = server(
        command=["mlflow"],
        args=["server", "--backend-store-uri=postgresql://", "--artifacts-destination=s3://runs/"],
        envFrom=[{"configMapRef": {"name": "x-env-configmap"}}, {"secretRef": {"name": "x-env-secret"}}],
    )
    config = {"metadata": {"name": "x-env-configmap"}, "data": {"PGHOST": INSTANCE_HOST, "PGPORT": "5433"}}
    keys = {"PGUSER": {"length": 6}, "PGPASSWORD": {"length": 12}}
    secret = listed("secrets", {"metadata": {"name": "x-env-secret"}, "keys": keys}, subject=f"{NAMESPACE}/x")
    found = target(listed("deployments", workload(container)), listed("configmaps", config), secret)
    assert (found.backend["host"], found.backend["port"]) == (INSTANCE_HOST, 5433)
    assert (found.backend["secret"], found.backend["key"]) == ("x-env-secret", "PGPASSWORD")
    assert found.found["backend"] == "variables of libpq in the pod template"
    assert found.db_instance_identifier == "tracking"
    assert found.secrets == ("x-env-secret",)
    assert found.config_maps == ("x-env-configmap",)


def test_the_bitnami_chart() -> None:
    labels = {"app.kubernetes.io/name": "mlflow", "app.kubernetes.io/part-of": "mlflow"}
    container = server(
        command=["mlflow"],
        args=[
            "server",
            f"--backend-store-uri=postgresql://bn_mlflow:$(MLFLOW_DATABASE_PASSWORD)@{INSTANCE_HOST}:5432/bitnami",
            "--artifacts-destination=s3://runs",
        ],
        env=[
            from_secret("MLFLOW_DATABASE_PASSWORD", "x-externaldb", "db-password"),
            *env(MLFLOW_S3_ENDPOINT_URL="http://minio.ml.svc:9000"),
        ],
    )
    run = workload(
        server(command=["python", "train.py"]), labels={**labels, "app.kubernetes.io/component": "run"}, name="x-run"
    )
    found = target(listed("deployments", workload(container, labels=labels, name="x-tracking"), run))
    assert found.deployment == "x-tracking"
    assert (found.backend["host"], found.backend["user"]) == (INSTANCE_HOST, "bn_mlflow")
    assert (found.backend["secret"], found.backend["key"]) == ("x-externaldb", "db-password")
    assert found.artifact_endpoint == "http://minio.ml.svc:9000"
    assert "S3-compatible" in found.remarks[0]


def test_an_entry_point_of_the_image_and_a_side_car_before_it() -> None:
    sidecar = {"name": "proxy", "image": "envoy:1", "ports": [{"containerPort": 5000}]}
    container = {"name": "web", "image": "team/tracking:1", "args": ["server", "--port", "8080"]}
    found = target(listed("deployments", workload(sidecar, container, labels={"app": "x"}, name="x")))
    assert (found.container, found.port) == ("web", 8080)


@pytest.mark.parametrize(
    ("uri", "kind", "remark"),
    [
        ("sqlite:////data/mlflow.db", "sqlite", "SQLite file"),
        ("/mnt/mlruns", "file", "a folder"),
        ("./mlruns", "file", "a folder"),
        ("file:///mnt/mlruns", "file", "a folder"),
        ("mysql+pymysql://u:p@db.internal.example/mlflow", "mysql", "is mysql"),
        ("mssql+pyodbc://u:p@db.internal.example/mlflow", "mssql", "is mssql"),
    ],
)
def test_other_backend_stores_are_named(uri: str, kind: str, remark: str) -> None:
    container = server(env=env(MLFLOW_BACKEND_STORE_URI=uri))
    found = target(listed("deployments", workload(container)), outputs=OUTPUTS)
    assert dialect(found.backend) == kind
    assert remark in found.remarks[0]
    assert (found.db_instance_identifier == "") is (kind in ("sqlite", "file"))


def test_aws_own_endpoint_is_aws() -> None:
    container = server(
        args=["--artifacts-destination=s3://runs"],
        env=env(MLFLOW_S3_ENDPOINT_URL="https://s3.us-west-2.amazonaws.com:443"),
    )
    found = target(listed("deployments", workload(container)))
    assert (found.bucket, found.artifact_endpoint, found.remarks) == ("runs", "", ())


def test_terraform_fills_what_is_missing() -> None:
    bare = server(env=[from_secret("MLFLOW_BACKEND_STORE_URI", "hidden", "uri")])
    found = target(listed("deployments", workload(bare)), outputs=OUTPUTS, terraform_outputs="out.json")
    assert (found.backend["host"], found.db_instance_identifier) == ("db.internal.example", "platform-db")
    assert (found.bucket, found.region, found.role_name) == ("platform-artifacts", "eu-west-1", "mlflow")
    assert found.found["bucket"] == "output bucket of out.json"
    assert found.found["backend"] == "output rds_endpoint of out.json"


def test_terraform_contradicts_nobody() -> None:
    container = server(
        args=[f"--backend-store-uri=postgresql://u:p@{INSTANCE_HOST}/m", "--artifacts-destination=s3://runs"]
    )
    account = listed("serviceaccounts", {"metadata": {"name": "default"}})
    found = target(listed("deployments", workload(container)), account, outputs=OUTPUTS, db_instance_identifier="named")
    assert (found.backend["host"], found.bucket, found.region) == (INSTANCE_HOST, "runs", "us-west-2")
    assert (found.role_arn, found.db_instance_identifier) == ("", "named")


def test_the_role_of_eks_pod_identity_is_the_running_pods_own() -> None:
    account = listed("serviceaccounts", {"metadata": {"name": "default"}})
    given = Evidence("probe.identity", "pod", "", AT, State.OK, {"result": "ok", "pod_identity": True})
    arn = "arn:aws:sts::123456789012:assumed-role/tracking/eks-cluster-mlflow"
    caller = Evidence("probe.sts", "pod", "", AT, State.OK, {"result": "ok", "arn": arn})
    found = target(listed("deployments", workload(server())), account, given, caller)
    assert found.role_arn == "arn:aws:iam::123456789012:role/tracking"
    assert "Pod Identity" in found.found["role_arn"]
    node = Evidence("probe.identity", "pod", "", AT, State.OK, {"result": "ok", "pod_identity": False})
    assert target(listed("deployments", workload(server())), account, node, caller).role_arn == ""
