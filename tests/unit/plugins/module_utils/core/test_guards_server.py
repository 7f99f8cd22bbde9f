# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards that look at the server: each refuses by itself, for its own reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core import guards_server, new_pod
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import DEBUG_COPY, POD, Evidence, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context, Finding
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.kubernetes_patch import edit, patch_change
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plan import Plan
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.step import Situation, Step, StepClass
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.verdict import Cause
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.workload import workload

from ..sections.conftest import AT, deployment, listed, make_context, server_pod, service

IMAGE = "mlflow:3.17.2"
COPY = "mlflow-runbook-1"
Make = Callable[..., Context]


@pytest.fixture
def context() -> Make:
    return make_context


def step_on(context: Context, **fields: Any) -> Step:
    found = workload(context)
    assert found is not None
    change, undo = patch_change(found, "Deployment", [edit(found, ("spec", "replicas"), 2)])
    usual = Step("scale_out", "latency", "x.y", "deployment/mlflow", StepClass.DECLARED_STATE, change, undo)
    return replace(usual, starts_pods=True, **fields)


def plan_of(context: Context, *causes: str, baseline: dict[str, Any] | None = None) -> Plan:
    made = tuple(Cause(Finding(name, "object", "", ()), (), None, (), ()) for name in causes)
    return Plan("d", (), {}, made, Situation(context, baseline or {}, Settings()))


def labelled(**metadata: Any) -> dict[str, Any]:
    found = deployment()
    found["metadata"] |= metadata
    return found


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ([], ""),
        ([listed("deployments", labelled(annotations={"mlflow-runbook.mlops/pause": "freeze"}))], "freeze"),
        ([listed("deployments", labelled(annotations={"mlflow-runbook.mlops/pause": ""}))], "no reason is given"),
        (
            [
                Evidence(
                    "kubernetes.namespace",
                    "api",
                    "ml",
                    AT,
                    State.OK,
                    {"metadata": {"name": "ml", "annotations": {"mlflow-runbook.mlops/pause": "audit"}}},
                )
            ],
            "audit",
        ),
    ],
)
def test_a_pause_is_respected(context: Make, evidence: list[Evidence], words: str) -> None:
    made = context(*evidence)
    told = guards_server.paused(step_on(made), plan_of(made))
    assert words in told
    assert bool(told) == bool(words)


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        ({}, ""),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "app:apps/Deployment:ml/mlflow"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "ml"}}, "Flux"),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "Helm"),
        ({"lastChanged": [{"manager": "Terraform", "time": AT}]}, "Terraform"),
        ({"ownerReferences": [{"kind": "MLflow", "name": "x", "controller": True}]}, "MLflow x"),
        ({"lastChanged": [{"manager": "kubectl-edit", "time": AT}]}, ""),
    ],
)
def test_declared_state_belongs_to_its_owner(context: Make, metadata: dict[str, Any], owner: str) -> None:
    made = context(listed("deployments", labelled(**metadata)))
    told = guards_server.owned(step_on(made), plan_of(made))
    assert owner in told
    assert bool(told) == bool(owner)
    assert guards_server.owned(step_on(made, step_class=StepClass.OPERATING), plan_of(made)) == ""


@pytest.mark.parametrize(
    ("manager", "time", "refuses"),
    [
        ("kubectl-edit", "2026-01-01T11:50:00Z", True),
        ("Mozilla", "2026-01-01T11:50:00Z", True),
        ("kubectl-edit", "2026-01-01T11:44:00Z", False),
        ("kube-controller-manager", "2026-01-01T11:59:00Z", False),
        ("OpenAPI-Generator", "2026-01-01T11:59:00Z", False),
    ],
)
def test_a_person_at_work_is_left_alone(context: Make, manager: str, time: str, refuses: bool) -> None:
    made = context(listed("deployments", labelled(lastChanged=[{"manager": manager, "time": time}])))
    told = guards_server.touched(step_on(made), plan_of(made), made.now, timedelta(minutes=15))
    assert bool(told) == refuses


@pytest.mark.parametrize(
    ("cause", "shared", "refuses"),
    [
        ("database.instance_stopped", "", True),
        ("network_policy.dns_failing", "", True),
        ("database.instance_stopped", "db-1", False),
        ("database.credentials_stale", "", False),
    ],
)
def test_a_shared_dependency_that_is_down_stops_repairs_of_one_server(
    context: Make, cause: str, shared: str, refuses: bool
) -> None:
    made = context()
    told = guards_server.circuit_breaker(step_on(made, shared=shared), plan_of(made, cause))
    assert bool(told) == refuses


def rolling(updated: int, observed: int = 2, reason: str = "", *, paused: bool = False) -> dict[str, Any]:
    found = deployment(1, updatedReplicas=updated, observedGeneration=observed)
    found["metadata"]["generation"] = 2
    found["spec"]["paused"] = paused
    found["status"]["conditions"] = [{"type": "Progressing", "reason": reason}] if reason else []
    return found


def waiting(reason: str) -> dict[str, Any]:
    pod = server_pod()
    pod["status"]["containerStatuses"] = [{"name": "c", "state": {"waiting": {"reason": reason}}}]
    return pod


def restarted(times: int, *, ready: bool = False) -> dict[str, Any]:
    pod = server_pod()
    status = {"name": "c", "ready": ready, "restartCount": times, "state": {"running": {}}}
    pod["status"]["containerStatuses"] = [{**status, "lastState": {"terminated": {"exitCode": 1}}}]
    return pod


@pytest.mark.parametrize(
    ("found", "pods", "words"),
    [
        (rolling(0), [restarted(1)], "under way"),
        (rolling(0), [restarted(2)], ""),
        (rolling(0), [restarted(2, ready=True)], "under way"),
        (rolling(1), [server_pod()], ""),
        (rolling(0), [server_pod()], "under way"),
        (rolling(1, observed=1), [server_pod()], "under way"),
        (rolling(0), [waiting("ImagePullBackOff")], ""),
        (rolling(0), [waiting("CrashLoopBackOff")], ""),
        (rolling(0, reason="ProgressDeadlineExceeded"), [server_pod()], ""),
        (rolling(1, paused=True), [server_pod()], "paused"),
    ],
)
def test_a_rollout_that_gets_on_is_left_alone(
    context: Make, found: dict[str, Any], pods: list[dict[str, Any]], words: str
) -> None:
    made = context(listed("deployments", found), listed("pods", *pods))
    told = guards_server.rollout(step_on(made), plan_of(made))
    assert words in told
    assert bool(told) == bool(words)


@pytest.mark.parametrize(
    ("ready", "unavailable", "refuses"), [(1, 0, False), (1, 1, True), (2, 1, False), (2, 2, True), (0, 1, False)]
)
def test_one_ready_replica_stays_ready(context: Make, ready: int, unavailable: int, refuses: bool) -> None:
    made = context(listed("pods", *[server_pod(f"mlflow-{number}") for number in range(ready)]))
    told = guards_server.availability(step_on(made, unavailable=unavailable), plan_of(made))
    assert bool(told) == refuses


def seen(what: str, place: str = DEBUG_COPY, pod: str = COPY, **value: Any) -> Evidence:
    return Evidence(f"probe.{what}", place, "", AT, State.OK, {"result": "ok", "probe_pod": pod, **value})


LIVES = {
    "pod": seen("pod", name=COPY, image=IMAGE, image_id="sha256:a"),
    "login": seen("login"),
    "query": seen("query", transaction_read_only=False, in_recovery=False, can_write={"insert_runs": True}),
    "schema": seen("schema", revision="r1", image_head="r1"),
}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"pod": None}, "no copy"),
        ({"pod": seen("pod", name=COPY, image="mlflow:2.0.0", image_id="sha256:a")}, "no copy"),
        ({"login": seen("login", result="denied", error="password authentication failed")}, "password authentication"),
        ({"login": None}, "no login was tried"),
        ({"query": seen("query", transaction_read_only=True)}, "read-only"),
        ({"query": seen("query", transaction_read_only=False, can_write={"insert_runs": False})}, "insert_runs"),
        ({"query": None}, "was not seen"),
        ({"schema": seen("schema", revision="r2", image_head="r1")}, "the schema is at r2"),
        ({"schema": None}, "not both seen"),
        ({"pod": seen("pod", name=COPY, image=IMAGE, image_id="sha256:b")}, "its tag was moved"),
        ({"pod": seen("pod", name=COPY, image=IMAGE)}, "was not seen"),
    ],
)
def test_a_new_pod_is_known_to_live_or_does_not_start(
    context: Make, changed: dict[str, Evidence | None], words: str
) -> None:
    made = context(*[item for item in (LIVES | changed).values() if item is not None])
    told = new_pod.problems(made, IMAGE, {"image_ids": ["sha256:a"]})
    assert words in "; ".join(told)
    assert bool(told) == bool(words)


def test_without_a_known_digest_only_a_pinned_image_is_the_same(context: Make) -> None:
    made = context(*LIVES.values())
    assert "is not known" in "; ".join(new_pod.problems(made, IMAGE, {}))
    pinned = f"mlflow@sha256:{'0' * 64}"
    copy = seen("pod", name=COPY, image=pinned, image_id="sha256:a")
    assert new_pod.problems(context(*(LIVES | {"pod": copy}).values()), pinned, {}) == []


def test_another_store_cannot_be_proven(context: Make) -> None:
    made = context(*LIVES.values(), backend={"scheme": "sqlite"})
    assert new_pod.problems(made, IMAGE, {}) == ["a login to a store of the scheme sqlite cannot be proven"]


def test_a_diagnosis_leaves_the_proof_to_the_write(context: Make) -> None:
    made = context()
    assert guards_server.new_pod(step_on(made), plan_of(made), proven_later=True) == ""
    assert guards_server.new_pod(step_on(made), plan_of(made), proven_later=False) != ""


def sessions(most: int, others: int = 0, **limits: int) -> Evidence:
    rows = [{"user": "reporting", "count": others}, {"user": "mlflow", "count": 3}]
    return seen("query", POD, "mlflow-1", max_connections=most, reserved=3, connections=rows, **limits)


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ([], "was not seen"),
        ([sessions(1000)], ""),
        ([sessions(100)], "the database has 97"),
        ([sessions(1000, others=900)], "the database has 97"),
        ([sessions(1000, role_connection_limit=50)], "the database has 50"),
    ],
)
def test_more_replicas_need_more_sessions_than_there_are(context: Make, evidence: list[Evidence], words: str) -> None:
    backend = {"scheme": "postgresql", "host": "db", "user": "mlflow"}
    made = context(*evidence, backend=backend)
    told = guards_server.connection_budget(step_on(made, replicas=2), plan_of(made))
    assert words in told
    assert bool(told) == bool(words)
    assert guards_server.connection_budget(step_on(made), plan_of(made)) == ""


def test_a_service_belongs_to_somebody_as_well(context: Make) -> None:
    helm = service()
    helm["metadata"] |= {"namespace": "ml", "annotations": {"meta.helm.sh/release-name": "tracking"}}
    made = context(listed("services", helm))
    change, undo = patch_change(helm, "Service", [edit(helm, ("spec", "selector"), {"app": "x"})])
    step = Step("repair_service", "service", "x.y", "service/mlflow", StepClass.DECLARED_STATE, change, undo)
    assert "Helm (tracking)" in guards_server.owned(step, plan_of(made))
