# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.server_command import driver_settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.items import Grade

from .conftest import Audited, container, patched

OK, WEAK, MISSING, UNKNOWN = Grade.OK, Grade.WEAK, Grade.MISSING, Grade.UNKNOWN
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
POOL = "MLFLOW_SQLALCHEMYSTORE_"


def template(audited: Audited, **change: Any) -> Audited:
    """Change MLflow's container; a value of None takes a field away."""

    def alter(value: Any) -> None:
        found = container(value)
        found.update(change)
        for name in [name for name, given in change.items() if given is None]:
            del found[name]

    return audited.change("kubernetes.deployments", alter)


def http(path: str, **more: Any) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 5, **more}


@pytest.mark.parametrize(
    ("probe", "grade", "words"),
    [
        (None, MISSING, "no readiness probe"),
        (http("/health"), WEAK, "/health"),
        (http("/version"), WEAK, "/version"),
        (http("/api/3.0/mlflow/server-info"), WEAK, "server-info"),
        ({"tcpSocket": {"port": 5000}}, WEAK, "open port"),
        (http(SEARCH, timeoutSeconds=1), WEAK, "only 1 s"),
        (http(SEARCH), OK, "uses the database"),
        (http("/prefix/ajax-api/2.0/mlflow/experiments/search?max_results=1"), OK, "uses the database"),
    ],
)
def test_readiness(audited: Audited, probe: Any, grade: Grade, words: str) -> None:
    item = template(audited, readinessProbe=probe)["pods.readiness"]
    assert (item.grade, words in item.summary) == (grade, True), item.summary
    assert bool(item.patches) == (grade is not OK)


def test_a_readiness_probe_replaces_one_of_another_kind_and_sends_an_allowed_host(audited: Audited) -> None:
    item = template(audited, readinessProbe={"tcpSocket": {"port": 5000}})["pods.readiness"]
    text = patched(item, "kubectl")
    assert "tcpSocket: null" in text
    assert "value: localhost" in text
    assert f"path: {SEARCH}" in text


def test_with_basic_authentication_only_health_is_open(audited: Audited) -> None:
    args = container(audited.evidence.value("kubernetes.deployments"))["args"]
    template(audited, args=[*args, "--app-name=basic-auth"], readinessProbe=http("/health"))
    assert audited["pods.readiness"].grade is OK


@pytest.mark.parametrize(
    ("probe", "grade"),
    [(None, MISSING), (http("/health"), OK), (http("/health", timeoutSeconds=1), WEAK), (http(SEARCH), WEAK)],
)
def test_liveness(audited: Audited, probe: Any, grade: Grade) -> None:
    assert template(audited, livenessProbe=probe)["pods.liveness"].grade is grade


@pytest.mark.parametrize(
    ("startup", "liveness", "grade"),
    [
        (http("/health", periodSeconds=10, failureThreshold=18), http("/health"), OK),
        (http("/health", periodSeconds=10, failureThreshold=17), http("/health"), WEAK),
        (None, http("/health"), MISSING),
        (None, http("/health", initialDelaySeconds=180), OK),
        (None, None, OK),
    ],
)
def test_startup(audited: Audited, startup: Any, liveness: Any, grade: Grade) -> None:
    assert template(audited, startupProbe=startup, livenessProbe=liveness)["pods.startup"].grade is grade


@pytest.mark.parametrize(
    ("requests", "limits", "grade", "words"),
    [
        ({}, {}, MISSING, "no CPU request, no memory request, no memory limit"),
        ({"cpu": "100m", "memory": "1Gi"}, {"memory": "1Gi"}, WEAK, "CPU request of 100m"),
        ({"cpu": "1", "memory": "1Gi"}, {}, WEAK, "no memory limit"),
        ({"cpu": "1", "memory": "100Mi"}, {"memory": "1Gi"}, WEAK, "memory request of 100Mi"),
        ({"cpu": "1", "memory": "1Gi"}, {"memory": "256Mi"}, WEAK, "memory limit of 256Mi"),
        ({"cpu": "1", "memory": "1Gi"}, {"memory": "1Gi"}, OK, "1 CPU"),
    ],
)
def test_resources(audited: Audited, requests: Any, limits: Any, grade: Grade, words: str) -> None:
    item = template(audited, resources={"requests": requests, "limits": limits})["pods.resources"]
    assert (item.grade, words in item.summary) == (grade, True), item.summary


def test_memory_for_four_workers_and_jobs_is_what_was_measured(audited: Audited) -> None:
    audited.drop("probe.environment")
    template(audited, args=["server"], env=[], resources=None)
    text = patched(audited["pods.resources"], "kubectl")
    assert "memory: 2368Mi" in text
    assert "memory: 3200Mi" in text


@pytest.mark.parametrize(
    ("image", "grade"),
    [
        ("registry:5000/mlflow", MISSING),
        ("registry/mlflow:latest", MISSING),
        ("registry/mlflow:stable", WEAK),
        ("registry/mlflow:3", WEAK),
        ("registry/mlflow:3.17.2", OK),
        ("registry/mlflow:v3.17.2-full", OK),
        (f"registry/mlflow@sha256:{'a' * 64}", OK),
    ],
)
def test_image(audited: Audited, image: str, grade: Grade) -> None:
    assert template(audited, image=image)["pods.image_pinned"].grade is grade


def test_the_running_digest_is_what_an_image_is_pinned_to(audited: Audited) -> None:
    digest = f"registry/mlflow@sha256:{'b' * 64}"

    def run(value: Any) -> None:
        for pod in value["items"]:
            for status in pod["status"].get("containerStatuses") or []:
                status["imageID"] = f"docker-pullable://{digest}"

    template(audited, image="registry/mlflow:latest").change("kubernetes.pods", run)
    assert f"mlflow={digest}" in patched(audited["pods.image_pinned"], "kubectl")


def scaler(audited: Audited, **change: Any) -> Audited:
    return audited.change("kubernetes.horizontalpodautoscalers", lambda value: value["items"][0]["spec"].update(change))


def without_scaler(audited: Audited) -> Audited:
    return audited.change("kubernetes.horizontalpodautoscalers", lambda value: value.update(items=[]))


def test_an_autoscaler_that_would_empty_the_database(audited: Audited) -> None:
    item = scaler(audited, maxReplicas=10)["scaling.autoscaler"]
    assert item.grade is WEAK
    assert "connections of 57" in item.summary
    assert audited["scaling.connection_budget"].grade is WEAK


def test_an_autoscaler_without_room(audited: Audited) -> None:
    assert scaler(audited, minReplicas=4)["scaling.autoscaler"].grade is WEAK


def test_an_autoscaler_of_another_workload_is_none(audited: Audited) -> None:
    scaler(audited, scaleTargetRef={"kind": "Deployment", "name": "notebook"})
    assert audited["scaling.autoscaler"].grade is MISSING


@pytest.mark.parametrize(("minutes", "grade"), [(1, UNKNOWN), (10, WEAK)])
def test_an_autoscaler_that_cannot_measure(audited: Audited, minutes: int, grade: Grade) -> None:
    since = (audited.now - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {
        "type": "ScalingActive",
        "status": "False",
        "reason": "FailedGetResourceMetric",
        "lastTransitionTime": since,
    }
    audited.change(
        "kubernetes.horizontalpodautoscalers", lambda value: value["items"][0]["status"].update(conditions=[condition])
    )
    assert audited["scaling.autoscaler"].grade is grade


def test_an_autoscaler_needs_what_it_measures_by(audited: Audited) -> None:
    item = template(audited, resources={"limits": {"memory": "1Gi"}})["scaling.autoscaler"]
    assert item.grade is WEAK
    assert "requests no cpu" in item.summary


@pytest.mark.parametrize(("replicas", "grade"), [(0, MISSING), (1, WEAK), (2, OK)])
def test_replicas(audited: Audited, replicas: int, grade: Grade) -> None:
    without_scaler(audited).change(
        "kubernetes.deployments", lambda value: value["items"][0]["spec"].update(replicas=replicas)
    )
    assert audited["scaling.replicas"].grade is grade


def test_a_file_in_the_pod_allows_no_second_one(audited: Audited) -> None:
    without_scaler(audited).drop("probe.environment", "kubernetes.secrets")
    template(audited, args=["server", "--backend-store-uri=sqlite:///mlflow.db"], env=[])
    audited.change("kubernetes.deployments", lambda value: value["items"][0]["spec"].update(replicas=1))
    assert audited["scaling.replicas"].patches == ()
    assert audited["scaling.autoscaler"].patches == ()
    assert audited["scaling.connection_budget"].grade is UNKNOWN
    assert audited["connections.uri_timeouts"].grade is UNKNOWN


@pytest.mark.parametrize(
    ("pool", "grade", "words"),
    [
        ({}, MISSING, "5 + 10"),
        ({"POOL_SIZE": "3"}, WEAK, "MAX_OVERFLOW is not set"),
        ({"POOL_SIZE": "3", "MAX_OVERFLOW": "0"}, WEAK, "takes 0 for unset"),
        ({"POOL_SIZE": "3", "MAX_OVERFLOW": "-1"}, WEAK, "no limit"),
        ({"POOL_SIZE": "3", "MAX_OVERFLOW": "2"}, OK, "3 + 2"),
    ],
)
def test_pool_options(audited: Audited, pool: dict[str, str], grade: Grade, words: str) -> None:
    env = [
        row
        for row in container(audited.evidence.value("kubernetes.deployments"))["env"]
        if not row["name"].startswith(POOL)
    ]
    env += [{"name": POOL + name, "value": value} for name, value in pool.items()]
    audited.drop("probe.environment")
    item = template(audited, env=env)["scaling.pool_options"]
    assert (item.grade, words in item.summary) == (grade, True), item.summary


def test_what_is_proposed_fits(audited: Audited) -> None:
    """The pool that is printed for a server without one is one with which the printed autoscaler fits."""
    env = [
        row
        for row in container(audited.evidence.value("kubernetes.deployments"))["env"]
        if not row["name"].startswith(POOL)
    ]
    template(without_scaler(audited).drop("probe.environment"), env=env)
    items = audited.items()
    assert "maxReplicas: 4" in patched(items["scaling.autoscaler"], "kubectl")
    assert f"{POOL}POOL_SIZE\n              value: '2'" in patched(items["scaling.pool_options"], "kubectl")


def test_no_pool_is_small_enough(audited: Audited) -> None:
    audited.change("probe.query", lambda value: value.update(max_connections=12))
    item = audited["scaling.connection_budget"]
    assert item.grade is WEAK
    assert "instance_class" in patched(item, "terraform")


def test_a_role_limit_counts(audited: Audited) -> None:
    audited.change("probe.query", lambda value: value.update(role_connection_limit=20))
    assert "connections of 20" in audited["scaling.connection_budget"].summary


@pytest.mark.parametrize(
    ("spec", "grade"),
    [
        ({"maxUnavailable": 1}, OK),
        ({"minAvailable": 1}, OK),
        ({"maxUnavailable": "100%"}, WEAK),
        ({"maxUnavailable": 2}, WEAK),
        ({"minAvailable": 0}, WEAK),
        ({"minAvailable": 2}, WEAK),
        ({"maxUnavailable": 0}, WEAK),
    ],
)
def test_disruption_budget(audited: Audited, spec: dict[str, Any], grade: Grade) -> None:
    def alter(value: Any) -> None:
        value["items"][0]["spec"] = {"selector": value["items"][0]["spec"]["selector"], **spec}

    audited.change("kubernetes.deployments", lambda value: value["items"][0]["spec"].update(replicas=2))
    assert audited.change("kubernetes.poddisruptionbudgets", alter)["scaling.disruption_budget"].grade is grade


def test_a_disruption_budget_for_other_pods_is_none(audited: Audited) -> None:
    audited.change(
        "kubernetes.poddisruptionbudgets",
        lambda value: value["items"][0]["spec"].update(selector={"matchLabels": {"app": "other"}}),
    )
    assert audited["scaling.disruption_budget"].grade is MISSING


def test_driver_settings_keep_time_outs_and_nothing_else() -> None:
    query = (
        "sslmode=require&password=hush&options=-c%20statement_timeout%3D60s%20-c%20search_path%3Dx&connect_timeout=5"
    )
    assert driver_settings(query) == {"sslmode": "require", "connect_timeout": "5", "statement_timeout": "60s"}


def uri(audited: Audited, **change: Any) -> Audited:
    def alter(value: Any) -> None:
        for key in value["items"][0]["keys"].values():
            if key["uri"]:
                key["uri"].update(change)

    return audited.change("kubernetes.secrets", alter)


@pytest.mark.parametrize(
    ("settings", "grade", "words"),
    [
        ({}, MISSING, "no connect_timeout, no keepalives_idle, no statement_timeout"),
        ({"connect_timeout": "5"}, WEAK, "no keepalives_idle, no statement_timeout"),
        ({"connect_timeout": "0", "keepalives_idle": "30", "statement_timeout": "1min"}, WEAK, "no connect_timeout"),
        ({"connect_timeout": "5", "keepalives_idle": "30", "statement_timeout": "1min"}, OK, "statement_timeout 1min"),
    ],
)
def test_uri_timeouts(audited: Audited, settings: dict[str, str], grade: Grade, words: str) -> None:
    item = uri(audited, settings=settings, query_keys=["sslmode"])["connections.uri_timeouts"]
    assert (item.grade, words in item.summary) == (grade, True), item.summary


def test_a_role_may_have_the_statement_timeout(audited: Audited) -> None:
    uri(audited, settings={"connect_timeout": "5", "keepalives_idle": "30"})
    audited.change("probe.query", lambda value: value.update(settings=["statement_timeout=30s"]))
    assert audited["connections.uri_timeouts"].grade is OK


@pytest.mark.parametrize(("keys", "sign"), [(["sslmode"], "\\&"), ([], "?")])
def test_time_outs_are_added_without_showing_the_address(audited: Audited, keys: list[str], sign: str) -> None:
    text = patched(uri(audited, settings={}, query_keys=keys)["connections.uri_timeouts"], "kubectl")
    assert f"s/$/{sign}connect_timeout=5\\&keepalives_idle=30" in text
    assert "base64decode" in text


def test_the_age_of_the_secret_is_that_of_its_last_change(audited: Audited) -> None:
    assert audited.at(audited.now + timedelta(days=89))["connections.secret_age"].grade is OK
    old = audited.at(audited.now + timedelta(days=2))["connections.secret_age"]
    assert old.grade is WEAK
    assert "password" in patched(old, "kubectl")


@pytest.mark.parametrize(
    ("strategy", "pods", "grade"),
    [
        ({}, 5, WEAK),
        ({"rollingUpdate": {"maxSurge": "50%"}}, 6, WEAK),
        ({"rollingUpdate": {"maxSurge": 0}}, 4, OK),
        ({"type": "Recreate"}, 4, OK),
    ],
)
def test_the_pods_that_a_rolling_update_adds_count(
    audited: Audited, strategy: dict[str, Any], pods: int, grade: Grade
) -> None:
    """Four pods may open 44 connections, which fit in 47, and five 55, which do not."""
    audited.change("probe.query", lambda value: value.update(max_connections=50))
    audited.change("kubernetes.deployments", lambda value: value["items"][0]["spec"].update(strategy=strategy))
    item = audited["scaling.connection_budget"]
    assert item.grade is grade
    assert item.summary.startswith(f"{pods} pods")
    assert audited["scaling.autoscaler"].grade is grade
