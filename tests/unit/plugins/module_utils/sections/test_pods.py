# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod's state means, and what it does not mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence, EvidenceSet, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import pods, web_workers

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
TARGET = Target("mlflow", "ml", "Deployment", "mlflow", "1", "mlflow", "mlflow:3", 5000, {"app": "mlflow"})
PROBE = {"httpGet": {"path": "/health", "port": 5000}}


def pod(ready: bool, *, restarts: int = 0, last: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    container = {"name": "mlflow", "readinessProbe": PROBE, "resources": {"limits": {"memory": "1Gi"}}, **spec}
    status = {
        "name": "mlflow",
        "ready": ready,
        "started": True,
        "restartCount": restarts,
        "state": {"running": {"startedAt": "2026-11-22T09:00:00Z"}},
        "lastState": {"terminated": last} if last else {},
    }
    return {
        "metadata": {
            "name": "mlflow-1",
            "namespace": "ml",
            "labels": {"app": "mlflow"},
            "creationTimestamp": "2026-11-22T08:00:00Z",
        },
        "spec": {"containers": [container]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-11-22T11:00:00Z"}],
            "containerStatuses": [status],
        },
    }


def context(*more: tuple[str, str, str, Any]) -> Context:
    rows = [("kubernetes.replicasets", "api", "ml", {"items": []}), *more]
    evidence = [
        Evidence(what, place, subject, "2026-11-22T12:00:00Z", State.OK, value) for what, place, subject, value in rows
    ]
    return Context(TARGET, EvidenceSet(evidence), NOW)


def found(*more: tuple[str, str, str, Any]) -> list[str]:
    return [finding.id for finding in pods.analyze(context(*more)).findings]


def listed(*items: dict[str, Any]) -> tuple[str, str, str, Any]:
    return "kubernetes.pods", "api", "ml", {"items": list(items)}


def events(*messages: tuple[str, str]) -> tuple[str, str, str, Any]:
    items = [
        {
            "metadata": {"creationTimestamp": "2026-11-22T11:58:00Z"},
            "involvedObject": {"name": "mlflow-1", "fieldPath": "spec.containers{mlflow}"},
            "reason": reason,
            "message": message,
        }
        for reason, message in messages
    ]
    return "kubernetes.events", "api", "ml", {"items": items}


def log(run: str, *lines: tuple[str, str]) -> tuple[str, str, str, Any]:
    rows = [{"at": f"2026-11-22T{at}Z", "text": text} for at, text in lines]
    return "kubernetes.pod_log", "api", f"mlflow-1/mlflow/{run}", {"lines": rows, "truncated": False}


def end(reason: str, code: int, finished: str, started: str = "08:00:00") -> dict[str, Any]:
    return {
        "reason": reason,
        "exitCode": code,
        "startedAt": f"2026-11-22T{started}Z",
        "finishedAt": f"2026-11-22T{finished}Z",
    }


@pytest.mark.parametrize(
    ("restarts", "finished", "expected"),
    [
        (1, "09:00:00", []),
        (1, "11:30:00", []),
        (1, "11:55:00", ["pods.out_of_memory"]),
        (3, "11:30:00", ["pods.out_of_memory"]),
    ],
)
def test_an_end_that_is_over_is_history(restarts: int, finished: str, expected: list[str]) -> None:
    item = pod(True, restarts=restarts, last=end("OOMKilled", 137, finished))
    assert [name for name in found(listed(item)) if name == "pods.out_of_memory"] == expected


def test_exit_code_137_alone_is_not_a_lack_of_memory() -> None:
    assert found(listed(pod(False, restarts=1, last=end("Error", 137, "11:59:00")))) == [
        "pods.restarted",
        "pods.not_ready",
    ]


KILLED = end("Error", 137, "11:59:00", "11:58:40")
TIGHT = {"livenessProbe": {**PROBE, "initialDelaySeconds": 5, "periodSeconds": 5, "failureThreshold": 3}}


def test_a_probe_that_does_not_wait_kills_the_server() -> None:
    told = events(("Killing", "Container mlflow failed liveness probe, will be restarted"))
    quiet = log("previous", ("11:58:45", "INFO mlflow.store.db.utils: starting"))
    assert "pods.liveness_too_tight" in found(listed(pod(False, restarts=4, last=KILLED, **TIGHT)), told, quiet)


@pytest.mark.parametrize(
    ("restarts", "started", "killed", "expected"),
    [
        (2, "11:59:50", "11:59:00", True),
        (1, "11:59:50", "11:59:00", False),
        (2, "11:59:30", "11:59:00", False),
        (2, "11:59:30", "11:59:55", True),
        (1, "11:59:30", "11:59:55", False),
    ],
)
def test_a_server_that_is_ready_for_a_moment_between_two_kills(
    restarts: int, started: str, killed: str, expected: bool
) -> None:
    told = events(("Killing", "Container mlflow failed liveness probe, will be restarted"))
    told[3]["items"][0]["lastTimestamp"] = f"2026-11-22T{killed}Z"
    quiet = log("previous", ("11:58:45", "INFO mlflow.store.db.utils: starting"))
    item = pod(True, restarts=restarts, last=KILLED, **TIGHT)
    item["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = f"2026-11-22T{started}Z"
    assert ("pods.liveness_too_tight" in found(listed(item), told, quiet)) is expected


def test_a_server_that_waits_for_its_database_is_not_killed_by_its_probe_alone() -> None:
    told = events(("Killing", "Container mlflow failed liveness probe, will be restarted"))
    waiting = log("previous", ("11:58:45", "WARNING mlflow.store.db.utils: Operation will be retried in 3.1 seconds"))
    item = pod(False, restarts=4, last=KILLED, **TIGHT)
    assert "pods.liveness_too_tight" not in found(listed(item), told, waiting)
    assert "pods.liveness_too_tight" not in found(listed(item), told)


def test_kills_under_load_need_an_api_that_works() -> None:
    killed = end("Error", 137, "11:59:00", "09:00:00")
    item = pod(True, restarts=2, last=killed, livenessProbe=PROBE)
    told = events(
        ("Unhealthy", 'Liveness probe failed: Get "http://10.0.0.1:5000/health": context deadline exceeded'),
        ("Killing", "Container mlflow failed liveness probe, will be restarted"),
    )
    quiet = log("previous", ("11:58:45", "INFO:     Application startup complete."))
    works = (
        "probe.http",
        "pod",
        "http://127.0.0.1:5000/api/2.0/mlflow/experiments/search",
        {"result": "ok", "status": 200},
    )
    assert "pods.liveness_too_tight" in found(listed(item), told, quiet, works)
    assert "pods.liveness_too_tight" not in found(listed(item), told, quiet)


@pytest.mark.parametrize(
    ("text", "probe"),
    [
        ("HTTP probe failed with statuscode: 404", {"httpGet": {"path": "/healthz", "port": 5000}}),
        ("HTTP probe failed with statuscode: 403", {"httpGet": {"path": "/", "port": 5000}}),
        (
            "Get https://10.0.0.1:5000/health: http: server gave HTTP response to HTTPS client",
            {"httpGet": {"path": "/health", "port": 5000, "scheme": "HTTPS"}},
        ),
    ],
)
def test_a_probe_that_asks_the_wrong_thing(text: str, probe: dict[str, Any]) -> None:
    names = found(listed(pod(False, readinessProbe=probe)), events(("Unhealthy", f"Readiness probe failed: {text}")))
    assert "pods.probe_misconfigured" in names


def test_health_that_answers_503_is_no_mistake_of_the_probe() -> None:
    failed = events(("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"))
    assert "pods.probe_misconfigured" not in found(listed(pod(False)), failed)


DEATHS = log(
    "current", ("11:57:00", "INFO:     Child process [17] died"), ("11:58:00", "INFO:     Child process [18] died")
)


def counted(kills: int) -> tuple[str, str, str, Any]:
    return "probe.environment", "pod", "", {"probe_pod": "mlflow-1", "memory": {"oom_kills": kills}}


def used(memory: str) -> tuple[str, str, str, Any]:
    rows = [{"metadata": {"name": "mlflow-1"}, "containers": [{"name": "mlflow", "usage": {"memory": memory}}]}]
    return "kubernetes.pod_metrics", "api", "ml", {"items": rows}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([DEATHS, counted(2)], True),
        ([DEATHS, used("1000Mi")], True),
        ([DEATHS, counted(0), used("300Mi")], False),
        ([counted(2), used("1000Mi")], False),
        ([DEATHS, used("1000Mi"), log("current", ("11:58:01", "ModuleNotFoundError: No module named 'x'"))], False),
    ],
)
def test_workers_that_the_kernel_kills(more: list[tuple[str, str, str, Any]], expected: bool) -> None:
    result = pods.SectionResult()
    web_workers.judge(context(listed(pod(True)), *more), result)
    assert ("pods.worker_out_of_memory" in [finding.id for finding in result.findings]) is expected


def test_a_worker_that_gunicorn_itself_killed_did_not_lack_memory() -> None:
    lines = log(
        "current",
        ("11:57:00", "[1] [CRITICAL] WORKER TIMEOUT (pid:7)"),
        ("11:57:01", "[1] [ERROR] Worker (pid:7) was sent SIGKILL! Perhaps out of memory?"),
        ("11:58:00", "[1] [CRITICAL] WORKER TIMEOUT (pid:8)"),
        ("11:58:01", "[1] [ERROR] Worker (pid:8) was sent SIGKILL! Perhaps out of memory?"),
    )
    result = pods.SectionResult()
    web_workers.judge(context(listed(pod(True)), lines, used("1000Mi")), result)
    assert "pods.worker_out_of_memory" not in [finding.id for finding in result.findings]


@pytest.mark.parametrize(("times", "expected"), [(1, False), (2, True)])
def test_pods_that_are_evicted_one_after_the_other(times: int, expected: bool) -> None:
    gone = []
    for number in range(times):
        item = pod(False)
        item["metadata"] |= {"name": f"mlflow-{number + 2}", "creationTimestamp": f"2026-11-22T11:5{number}:00Z"}
        item["status"] = {"phase": "Failed", "reason": "Evicted", "message": "ephemeral local storage exceeds"}
        gone.append(item)
    assert ("pods.evicted" in found(listed(pod(True), *gone))) is expected


@pytest.mark.parametrize(
    ("phase", "reason", "expected"),
    [("Succeeded", "Evicted", True), ("Succeeded", "Killing", False), ("Running", "Evicted", False)],
)
def test_an_evicted_pod_whose_server_ended_with_0(phase: str, reason: str, expected: bool) -> None:
    ended = pod(False)
    ended["status"] |= {"phase": phase}
    told = events((reason, 'Usage of EmptyDir volume "scratch" exceeds the limit "4Mi".'))
    assert ("pods.evicted" in found(listed(ended), told)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('MountVolume.SetUp failed for volume "data" : mount failed: exit status 32', ["pods.volume_not_mounted"]),
        ('MountVolume.SetUp failed for volume "ca" : configmap "corporate-ca" not found', ["pods.config_missing"]),
        (
            'MountVolume.SetUp failed for volume "kube-api-access-ksqpj" : failed to fetch token: serviceaccounts "ml" '
            'is forbidden: User "system:node:node0" cannot create resource "serviceaccounts/token" in the '
            "namespace \"ml\": no relationship found between node 'node0' and this object",
            [],
        ),
    ],
)
def test_a_volume_that_cannot_be_mounted(text: str, expected: list[str]) -> None:
    pending = pod(False)
    pending["status"] = {"phase": "Pending", "conditions": []}
    ids = found(listed(pending), events(("FailedMount", text)))
    assert [one for one in ids if one in ("pods.volume_not_mounted", "pods.config_missing")] == expected


REFUSED = 'Error creating: pods "mlflow-1" is forbidden: maximum memory usage per Container is 512Mi, but limit is 1Gi'


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": REFUSED}], True),
        ([], False),
    ],
)
def test_a_replica_set_that_may_create_pods_again(conditions: list[dict[str, Any]], expected: bool) -> None:
    replica_set = {
        "metadata": {
            "name": "mlflow-1",
            "namespace": "ml",
            "annotations": {"deployment.kubernetes.io/revision": "1"},
            "ownerReferences": [{"kind": "Deployment", "name": "mlflow"}],
        },
        "spec": {"template": {"metadata": {"labels": {"app": "mlflow"}}}},
        "status": {"conditions": conditions},
    }
    ids = found(
        ("kubernetes.replicasets", "api", "ml", {"items": [replica_set]}),
        listed(),
        events(("FailedCreate", REFUSED)),
    )
    assert ("pods.admission_denied" in ids) is expected
