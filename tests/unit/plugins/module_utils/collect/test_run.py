# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One collection from end to end, over an API and an AWS that never leave the process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import (
    CallFailed,
    Deadline,
    Observation,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect import logs, run
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.threads import together
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    DEBUG_COPY,
    POD,
    Evidence,
    EvidenceSet,
    State,
    source_place,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings

from .conftest import NOW, PASSWORD, FakeCluster, client_pod, metrics, secret, server_pod, workload

SETTINGS = Settings(namespace="mlflow", source_namespaces=("argo",))
SERVICE: dict[str, Any] = {
    "metadata": {"name": "mlflow"},
    "spec": {"selector": {"app": "mlflow"}, "ports": [{"port": 80, "targetPort": 5000}]},
}
OBJECTS: dict[str, Any] = {
    "/version": {"gitVersion": "v1.34.4"},
    "/api/v1/namespaces": [{"metadata": {"name": name, "uid": name}} for name in ("kube-system", "mlflow", "argo")],
    "/apis/apps/v1/namespaces/mlflow/deployments": [workload()],
    "/api/v1/namespaces/mlflow/services": [SERVICE],
    "/api/v1/namespaces/mlflow/pods": [server_pod()],
    "/api/v1/namespaces/argo/pods": [client_pod()],
    "/apis/metrics.k8s.io/v1beta1/namespaces/mlflow/pods": [metrics("400Mi")],
    "/api/v1/namespaces/mlflow/secrets/mlflow-db": secret(),
}


class NoCloud:
    """Stands for CloudReader without credentials."""

    region = ""

    def __init__(self, options: Any, deadline: Deadline, region: str = "") -> None:
        self.deadline = deadline
        self.calls = FakeCluster().calls

    def call(self, service: str, method: str, **given: Any) -> Observation:
        return Observation(State.UNREACHABLE, detail="no AWS credentials")

    def secrets(self) -> set[str]:
        return set()


def collect(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings = SETTINGS,
    changes: dict[str, Any] | None = None,
    answer: Callable[[str], Observation] | None = None,
) -> tuple[run.Collected, FakeCluster]:
    reader = FakeCluster({**OBJECTS, **(changes or {})})
    reader.answer = answer or reader.answer
    monkeypatch.setattr(run, "ClusterReader", lambda options, deadline: reader)
    monkeypatch.setattr(run, "CloudReader", NoCloud)
    return run.collect(settings, lambda: NOW), reader


def first(collected: run.Collected, what: str, place: str) -> Evidence:
    found = collected.evidence.first(what, place)
    assert found is not None
    return found


def test_a_healthy_server(monkeypatch: pytest.MonkeyPatch) -> None:
    collected, reader = collect(monkeypatch)
    assert collected.target is not None
    assert collected.target.db_instance_identifier == "db-1"
    assert first(collected, "probe.pod", POD).state is State.OK
    assert first(collected, "probe.pod", source_place("argo")).state is State.OK
    assert collected.evidence.first("probe.pod", DEBUG_COPY) is None
    assert reader.pods == {}
    assert PASSWORD in collected.secrets
    assert PASSWORD not in collected.evidence.to_json()
    assert first(collected, "aws.db_instance", "aws").detail == "no AWS credentials"
    assert collected.cluster == "lab"
    assert set(collected.seconds) == {"cluster", "probes", "collect"}
    assert [document["server"] for document in reader.documents].count(True) == 1


@pytest.mark.parametrize("settings", [replace(SETTINGS, check_mode=True), replace(SETTINGS, probe_pods=False)])
def test_no_pod_is_made_or_entered(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    collected, reader = collect(monkeypatch, settings)
    assert reader.verbs() == {"list", "get", "log"}
    for place in (POD, DEBUG_COPY, source_place("argo")):
        assert first(collected, "probe.pod", place).state is State.SKIPPED


def test_a_source_namespace_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    collected, reader = collect(monkeypatch, replace(SETTINGS, source_namespaces=("nosuch",)))
    found = first(collected, "probe.pod", source_place("nosuch"))
    assert (found.state, found.detail) == (State.SKIPPED, "namespace nosuch does not exist")
    assert first(collected, "probe.pod", source_place(SETTINGS.namespace)).state is State.OK
    assert reader.pods == {}


def test_one_source_namespace_that_does_not_exist_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    collected, _reader = collect(monkeypatch, replace(SETTINGS, source_namespaces=("nosuch", "argo")))
    assert first(collected, "probe.pod", source_place("argo")).state is State.OK
    assert not collected.evidence.all("probe.pod", source_place(SETTINGS.namespace))


def test_a_server_that_does_not_run_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = server_pod("mlflow-1", {"waiting": {"reason": "CrashLoopBackOff"}})
    collected, reader = collect(monkeypatch, changes={"/api/v1/namespaces/mlflow/pods": [crashed]})
    assert first(collected, "probe.pod", POD).detail == "no container of the server runs"
    assert first(collected, "probe.pod", DEBUG_COPY).state is State.OK
    assert reader.pods == {}


PODS = "/api/v1/namespaces/mlflow/pods"


def young(state: dict[str, Any], made: str = "2026-11-22T11:59:50Z") -> dict[str, Any]:
    pod = server_pod("mlflow-2", state)
    pod["metadata"]["creationTimestamp"] = made
    return pod


def looked_at_again(monkeypatch: pytest.MonkeyPatch, *answers: list[dict[str, Any]]) -> EvidenceSet:
    """Return the evidence when the pods are different ones each time; another question after the last is an error."""
    each = iter(answers)
    collected, _dummy = collect(monkeypatch, changes={PODS: lambda: next(each)})
    assert next(each, None) is None
    return collected.evidence


def test_pods_that_were_only_being_made_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = young({"waiting": {"reason": "CreateContainerConfigError"}})
    for before in ([], [young({"waiting": {"reason": "ContainerCreating"}})]):
        assert looked_at_again(monkeypatch, before, [failed]).objects("kubernetes.pods", "mlflow") == [failed]


INITIALIZING, FAILED = ({"waiting": {"reason": reason}} for reason in ("PodInitializing", "CreateContainerError"))
LEAVING = young({"terminated": {"exitCode": 0}})
LEAVING["metadata"]["deletionTimestamp"] = NOW


@pytest.mark.parametrize("second", [young(INITIALIZING, NOW), LEAVING])
def test_a_pod_that_is_made_around_the_second_look_gets_a_moment(
    monkeypatch: pytest.MonkeyPatch, second: dict[str, Any]
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(run.time, "sleep", waited.append)
    evidence = looked_at_again(monkeypatch, [], [second], [young(FAILED, NOW)])
    assert evidence.objects("kubernetes.pods", "mlflow") == [young(FAILED, NOW)]
    assert len(waited) == 1


def test_a_second_look_reads_the_logs_of_what_crashed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = looked_at_again(monkeypatch, [], [young({"terminated": {"exitCode": 1}})])
    assert [item.subject for item in evidence.all("kubernetes.pod_log")] == ["mlflow-2/mlflow/current"]


def test_a_pod_that_became_ready_meanwhile_is_not_judged_by_what_was_tried_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evidence = looked_at_again(monkeypatch, [], [server_pod()])
    assert evidence.objects("kubernetes.pods", "mlflow") == []


def test_a_pod_that_had_its_time_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looped = server_pod("mlflow-1", {"waiting": {"reason": "CrashLoopBackOff"}})
    _collected, reader = collect(monkeypatch, changes={PODS: [looped]})
    assert reader.asked.count(("list", PODS)) == 1


def test_a_pod_that_dies_while_it_is_entered_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Observation(State.UNREACHABLE, detail="command terminated with exit code 137")
    answer = FakeCluster().answer
    collected, reader = collect(monkeypatch, answer=lambda pod: ended if pod == "mlflow-1" else answer(pod))
    assert first(collected, "probe.pod", POD).state is State.UNREACHABLE
    assert first(collected, "probe.pod", DEBUG_COPY).state is State.OK
    assert reader.pods == {}


def test_a_newer_secret_is_tried_in_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = secret()
    newer["metadata"]["managedFields"][0]["time"] = "2026-11-22T11:30:00Z"
    collected, _dummy = collect(monkeypatch, changes={"/api/v1/namespaces/mlflow/secrets/mlflow-db": newer})
    assert first(collected, "probe.pod", POD).state is State.OK
    assert first(collected, "probe.pod", DEBUG_COPY).state is State.OK


def test_no_copy_that_would_get_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    service: dict[str, Any] = {**SERVICE, "spec": {**SERVICE["spec"], "publishNotReadyAddresses": True}}
    changes = {
        "/api/v1/namespaces/mlflow/services": [service],
        "/apis/metrics.k8s.io/v1beta1/namespaces/mlflow/pods": [metrics("1000Mi")],
    }
    collected, _dummy = collect(monkeypatch, changes=changes)
    assert first(collected, "probe.pod", POD).detail == "mlflow-1 uses 1000 of 1024 MiB"
    assert first(collected, "probe.pod", DEBUG_COPY).detail == "service/mlflow publishes pods that are not ready"


def test_no_image_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = server_pod("mlflow-1", {"waiting": {"reason": "ErrImagePull"}})
    collected, reader = collect(monkeypatch, changes={"/api/v1/namespaces/mlflow/pods": [waiting]})
    assert "cannot be pulled" in first(collected, "probe.pod", DEBUG_COPY).detail
    assert first(collected, "probe.pod", source_place("argo")).state is State.SKIPPED
    assert "create" not in reader.verbs()


def test_the_database_that_only_the_pod_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = {
        "scheme": "postgresql",
        "host": "db-7.abc.us-west-2.rds.amazonaws.com",
        "port": 5432,
        "user": "u",
        "database": "m",
    }
    row = {"what": "probe.environment", "subject": "", "state": "ok", "value": {"result": "ok", "backend": backend}}

    class Telling(FakeCluster):
        def exec_python(self, *given: Any) -> Observation:
            return Observation(State.OK, {"out": json.dumps({"rows": [row]}), "error": "", "problem": ""})

    forbidden = Observation(State.FORBIDDEN, detail="get secrets in namespace mlflow")
    reader = Telling({**OBJECTS, "/api/v1/namespaces/mlflow/secrets/mlflow-db": forbidden})
    monkeypatch.setattr(run, "ClusterReader", lambda options, deadline: reader)
    monkeypatch.setattr(run, "CloudReader", NoCloud)
    collected = run.collect(SETTINGS, lambda: NOW)
    assert first(collected, "aws.db_instance", "aws").subject == "db-7"


def test_an_api_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Observation(State.UNREACHABLE, detail="API server: timed out")
    collected, reader = collect(monkeypatch, changes={"/version": silent})
    assert collected.target is None
    assert "timed out" in collected.discovery.problem
    assert len(reader.asked) == 1


def test_no_connection_options(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(options: Any, deadline: Deadline) -> Any:
        raise CallFailed(Observation(State.UNREACHABLE, detail="no usable connection options"))

    monkeypatch.setattr(run, "ClusterReader", refuse)
    monkeypatch.setattr(run, "CloudReader", NoCloud)
    collected = run.collect(SETTINGS, lambda: NOW)
    assert "no usable connection options" in collected.discovery.problem
    assert first(collected, "aws.caller_identity", "aws").state is State.UNREACHABLE


def test_pods_are_removed_when_something_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(logs, "jobs", broken)
    reader = FakeCluster(OBJECTS)
    monkeypatch.setattr(run, "ClusterReader", lambda options, deadline: reader)
    monkeypatch.setattr(run, "CloudReader", NoCloud)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        run.collect(SETTINGS, lambda: NOW)
    assert "create" in reader.verbs()
    assert reader.pods == {}


def test_together_leaves_the_late_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.threads.GRACE_SECONDS", 0.1
    )
    item = Evidence("a", "b", "c", NOW, State.OK)

    def slow() -> list[Evidence]:
        time.sleep(5)
        return [item]

    assert together([lambda: [item], slow], Deadline(0.2)) == [item]
