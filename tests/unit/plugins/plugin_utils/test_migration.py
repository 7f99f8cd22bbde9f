# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of a migration and what it leaves, from recorded evidence, over a fake API and a fake cloud."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import jsonpatch
import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.bookkeeper import Bookkeeper
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Observation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.workload import workload
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils import migration, migration_work

from tests.unit.plugins.module_utils.clients.test_bookkeeper import FakeApi
from tests.unit.plugins.module_utils.core.test_migration import HEAD, OLD, server, set_in, settings, workloads

SECRET = "the-password-of-mlflow"
NOW = "2026-01-01T12:00:00+00:00"
SNAPSHOT = {"DBSnapshotIdentifier": "s1", "Status": "available", "PercentProgress": 100}
COMPLETE, FAILED = ({"type": kind, "status": "True", "reason": "R", "message": "m"} for kind in ("Complete", "Failed"))


class FakeCluster(FakeApi):
    """An API server with one Deployment, whose pods come and go at once, and Jobs that end at once.

    Attributes:
        revision: what the database's schema is at.
        log: what a Job says; one that says ``done`` upgrades the schema.
        condition: how a Job ends.
        calls: what was written, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        context = server()
        self.target, found = context.target, workload(context)
        self.path = f"/apis/apps/v1/namespaces/{self.target.namespace}/deployments/{self.target.deployment}"
        self.objects[self.path] = {"kind": "Deployment", **copy.deepcopy(dict(found or {}))}
        self.revision, self.condition = OLD, COMPLETE
        self.log = [f'{migration_work.RESULT} {{"result": "done"}}']
        self.calls: list[str] = []

    def secrets(self) -> set[str]:
        return {SECRET}

    @property
    def replicas(self) -> int:
        return int(self.objects[self.path]["spec"]["replicas"])

    @property
    def jobs(self) -> Sequence[str]:
        return [path for path in self.objects if "/jobs/" in path]

    def get(self, path: str, resource: str, namespace: str = "") -> Observation:
        seen = super().get(path, resource, namespace)
        if path == self.path:
            seen.value["status"] = {"readyReplicas": self.replicas}
        return seen

    def list(self, path: str, resource: str, namespace: str, query: Mapping[str, Any] | None = None) -> Observation:
        if resource != "pods":
            return super().list(path, resource, namespace, query or {})
        spec = {"containers": [{"name": "upgrade"}]}
        if query:
            pods = [{"metadata": {"name": "job-pod"}, "spec": spec, "status": {}} for dummy in self.jobs]
        else:
            owner = {"kind": "ReplicaSet", "name": f"{self.target.deployment}-1"}
            metadata = {"name": "server-pod", "labels": {"pod-template-hash": "1"}, "ownerReferences": [owner]}
            pods = [{"metadata": metadata, "spec": spec} for dummy in range(self.replicas)]
        return Observation(State.OK, {"items": pods})

    def patch(self, path: str, resource: str, namespace: str, operations: Sequence[Mapping[str, Any]]) -> Observation:
        try:
            self.objects[path] = jsonpatch.apply_patch(self.objects[path], list(operations))
        except jsonpatch.JsonPatchException as error:
            return Observation(State.UNREACHABLE, detail=f"422 {error}")
        self.calls.append(f"scale to {self.replicas}")
        return Observation(State.OK, self.objects[path])

    def create(self, path: str, resource: str, namespace: str, body: Mapping[str, Any]) -> Observation:
        if resource != "jobs":
            return super().create(path, resource, namespace, body)
        if "jobs" in self.denied:
            return Observation(State.FORBIDDEN, detail="create jobs")
        if path.endswith("?dryRun=All"):
            self.calls.append("try the Job")
            return Observation(State.OK, body)
        self.calls.append("run the Job")
        self.objects[f"{path}/{body['metadata']['name']}"] = {**body, "status": {"conditions": [self.condition]}}
        self.revision = HEAD if '"done"' in self.log[-1] else self.revision
        return Observation(State.OK, body)

    def delete(self, path: str, resource: str, namespace: str) -> Observation:
        self.calls.append("remove the Job")
        self.objects.pop(path, None)
        return Observation(State.OK, {})

    def pod_log(self, namespace: str, pod: str, container: str, *, lines: int) -> Observation:
        return Observation(State.OK, "".join(f"{NOW} {line}\n" for line in self.log))

    def attempts(self) -> Any:
        """Return the list of what is recorded beside the server."""
        found = [item for item in self.objects.values() if item["kind"] == "ConfigMap"]
        texts = [text for item in found for text in item["data"].values()]
        return [row for text in texts for row in json.loads(text)]


class FakeCloud:
    """RDS with the snapshots of one instance."""

    def __init__(self, cluster: FakeCluster, *known: Mapping[str, Any]) -> None:
        self.cluster, self.known = cluster, list(known)

    def secrets(self) -> set[str]:
        return set()

    def call(self, service: str, method: str, **parameters: Any) -> Observation:
        if method == "create_db_snapshot":
            self.cluster.calls.append("take a snapshot")
            self.known.append({**SNAPSHOT, "DBSnapshotIdentifier": parameters["DBSnapshotIdentifier"]})
        return Observation(State.OK, {"DBSnapshots": self.known})


class Run:
    """One migration over fakes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *snapshots: Mapping[str, Any]) -> None:
        self.cluster, self.said = FakeCluster(), list[str]()
        self.cloud, self.status = FakeCloud(self.cluster, *snapshots), "healthy"
        monkeypatch.setattr(migration_work, "ClusterReader", lambda *dummy: self.cluster)
        monkeypatch.setattr(migration_work, "CloudReader", lambda *dummy: self.cloud)
        monkeypatch.setattr(migration_work, "PAUSE_SECONDS", 0.0)
        monkeypatch.setattr(migration, "diagnose", self.diagnose)
        monkeypatch.setattr(migration, "bookkeeper", self.keeper)

    def diagnose(self, *dummy: Any) -> Any:
        revision = self.cluster.revision
        context = server(
            kubernetes__deployments=workloads(set_in("spec", "replicas", value=self.cluster.replicas)),
            probe__schema=lambda value: value.update(revision=revision, revisions=[revision]),
        )
        return SimpleNamespace(
            analysis=SimpleNamespace(discovery=SimpleNamespace(target=context.target)),
            collected=SimpleNamespace(evidence=context.evidence, secrets=frozenset()),
            policy=SimpleNamespace(history=(), busy="", history_problem=""),
            report={"verdict": {"status": self.status, "impact": {}, "causes": []}},
        )

    def keeper(self, asked: Any, deployment: str, me: str) -> Bookkeeper:
        api: Any = self.cluster
        return Bookkeeper(api, asked.namespace, deployment, me, frozenset(), lambda: datetime.now(UTC))

    def migrate(self, *, check_mode: bool = False, **variables: Any) -> dict[str, Any]:
        asked = replace(settings(**variables), check_mode=check_mode, verify_seconds=0)
        return migration.Migration(asked, "me", self.said.append).run()

    @property
    def free(self) -> bool:
        """Whether another run could take the server."""
        return self.keeper(settings(), self.cluster.target.deployment, "other").take(60, "") == ""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


def test_the_order_of_a_migration_over_a_fake_api(run: Run) -> None:
    result = run.migrate()
    assert run.cluster.calls == [
        "take a snapshot",
        "try the Job",
        "scale to 0",
        "run the Job",
        "remove the Job",
        "scale to 1",
    ]
    assert (result["state"], result["outcome"], result["failed"]) == ("migrated", "fixed", False)
    assert (result["current"], result["target"], result["status"]) == (OLD, HEAD, "healthy")
    assert result["snapshot"] == run.cloud.known[-1]["DBSnapshotIdentifier"]
    assert [(row["state"], row["outcome"]) for row in run.cluster.attempts()] == [("judged", "fixed")]
    assert run.free


def test_the_undo_is_recorded_before_anything_is_changed_over_a_fake_api(run: Run) -> None:
    run.cluster.denied.add("configmaps")
    result = run.migrate()
    assert result["state"] == "refused"
    assert "nothing was changed" in result["msg"]
    assert (run.cluster.calls, run.cluster.replicas, run.free) == ([], 1, True)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"mlflow_migrate_confirm": ""}, "not confirmed"),
        ({"mlflow_snapshot": "require"}, "no snapshot of .* is younger"),
    ],
)
def test_a_refusal_changes_nothing_over_a_fake_api(run: Run, variables: dict[str, Any], words: str) -> None:
    result = run.migrate(**variables)
    assert (result["state"], result["failed"]) == ("refused", True)
    assert re.search(words, result["msg"])
    assert any(line.startswith("refused: ") for line in run.said)
    assert (run.cluster.calls, run.cluster.attempts(), run.free) == ([], [], True)


def test_check_mode_shows_the_plan_over_a_fake_api(run: Run) -> None:
    result = run.migrate(check_mode=True)
    assert (result["state"], result["changed"], result["failed"]) == ("planned", True, False)
    assert (run.cluster.calls, list(run.cluster.objects)) == ([], [run.cluster.path])


def test_a_schema_that_fits_is_left_alone_over_a_fake_api(run: Run) -> None:
    run.cluster.revision = HEAD
    assert run.migrate()["state"] == "current"
    assert (run.cluster.calls, run.free) == ([], True)


def test_a_recent_snapshot_is_used_over_a_fake_api(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, {**SNAPSHOT, "SnapshotCreateTime": datetime.now(UTC).isoformat()})
    assert run.migrate(mlflow_snapshot="require")["snapshot"] == "s1"
    assert "take a snapshot" not in run.cluster.calls


def test_without_the_right_to_make_a_job_the_server_is_not_stopped_over_a_fake_api(run: Run) -> None:
    run.cluster.denied.add("jobs")
    result = run.migrate(mlflow_snapshot="none")
    assert (result["state"], result["failed"]) == ("failed", True)
    assert "needs create jobs; the server was not touched" in result["msg"]
    assert (run.cluster.calls, run.cluster.replicas) == ([], 1)
    assert [(row["state"], row["outcome"]) for row in run.cluster.attempts()] == [("judged", "abandoned")]
    assert run.free


def test_a_server_stays_down_on_a_schema_that_it_does_not_expect_over_a_fake_api(run: Run) -> None:
    session = {"pid": 7, "user": "mlflow", "application": "old", "address": "10.0.0.1", "seconds": 87}
    told = {"result": "failed", "error": f"others are there, {SECRET}", "sessions": [session]}
    run.cluster.log, run.cluster.condition = [f"{migration_work.RESULT} {json.dumps(told)}"], FAILED
    result = run.migrate()
    assert (result["state"], result["failed"], result["outcome"]) == ("stopped", True, "unknown")
    assert run.cluster.calls[-2:] == ["run the Job", "remove the Job"]
    assert run.cluster.replicas == 0
    assert "pid 7, user mlflow, old from 10.0.0.1, 87 s" in result["msg"]
    assert "--replicas=1" in result["msg"]
    assert result["snapshot"] in result["msg"]
    assert [(row["state"], row["outcome"]) for row in run.cluster.attempts()] == [("written", "")]
    assert SECRET not in json.dumps(result) + "\n".join(run.said)
    assert run.free


def test_a_job_that_failed_after_its_upgrade_brings_the_server_back_over_a_fake_api(run: Run) -> None:
    run.cluster.condition = FAILED
    result = run.migrate()
    assert (run.cluster.calls[-1], run.cluster.replicas) == ("scale to 1", 1)
    assert (result["state"], result["outcome"]) == ("migrated", "fixed")


def test_a_server_that_is_still_ill_is_told_with_the_way_back_over_a_fake_api(run: Run) -> None:
    run.status = "down"
    result = run.migrate()
    assert (result["state"], result["failed"], result["outcome"]) == ("migrated", True, "improved")
    assert "but the server is down" in result["msg"]
    assert any("way back: " in line for line in run.said)


def test_somebody_who_scales_up_again_ends_it_over_a_fake_api(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = run.cluster.patch

    def and_up_again(*arguments: Any) -> Observation:
        seen = patch(*arguments)
        run.cluster.objects[run.cluster.path]["spec"]["replicas"] = 2
        return seen

    monkeypatch.setattr(run.cluster, "patch", and_up_again)
    result = run.migrate()
    assert "was scaled up to 2 again" in result["msg"]
    assert "run the Job" not in run.cluster.calls
    assert result["failed"]


def test_another_run_has_the_server_over_a_fake_api(run: Run) -> None:
    assert run.keeper(settings(), run.cluster.target.deployment, "other").take(60, "") == ""
    result = run.migrate()
    assert result["state"] == "refused"
    assert "other works on it until" in result["msg"]
    assert run.cluster.calls == []
