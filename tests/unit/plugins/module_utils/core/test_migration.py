# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a database may be migrated; from recorded evidence, in which single facts are changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core import migration
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.attempts import JUDGED, Attempt
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import DEBUG_COPY, EvidenceSet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.migration import Schema, decide
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings, from_variables

from tests.recorded import judged

OLD, HEAD = "b7e2c1a4d9f3", "dc11669786a5"
PAIR = f"{OLD}:{HEAD}"
Change = Callable[[Any], None]
EARLIER = Attempt(
    id="1",
    step=migration.STEP,
    cause=migration.CAUSE,
    cause_object="db",
    object="deployment/mlflow",
    plan=PAIR,
    at="2026-01-01T10:00:00Z",
    by="host:1:1:localhost",
    change={"from": OLD, "to": HEAD, "replicas": 3, "snapshot": "mlflow-db-1", "job": "mlflow-migrate-1"},
)


def settings(**more: Any) -> Settings:
    return from_variables({"mlflow_namespace": "mlflow", "mlflow_migrate_confirm": PAIR, **more})


def server(**changes: Change) -> Context:
    """Return a recorded server whose schema is older than its image, with some pieces of evidence changed.

    Args:
        changes: the piece's kind, with two underscores for its dot, and what to do with its value.
    """
    recorded = judged("database_schema_older_restarted")
    assert recorded.target is not None
    items = []
    for item in recorded.evidence:
        value = copy.deepcopy(item.value)
        if item.what == "probe.query" and item.place == DEBUG_COPY and value is not None:
            value |= {"table_locks": [], "long_transactions": [], "blocked": []}
        change = changes.get(item.what.replace(".", "__"))
        if change is not None and value is not None:
            change(value)
        items.append(replace(item, value=value))
    return Context(recorded.target, EvidenceSet(items), recorded.now)


def reasons(context: Context, busy: str = "", **more: Any) -> str:
    decision = decide(context, settings(**more), (), busy)
    assert decision.what == migration.REFUSED
    return "; ".join(decision.reasons)


def workloads(change: Change) -> Change:
    def every(value: Any) -> None:
        for item in value["items"]:
            change(item)

    return every


def set_in(*path: str, value: Any) -> Change:
    def change(obj: Any) -> None:
        for part in path[:-1]:
            obj = obj.setdefault(part, {})
        obj[path[-1]] = value

    return change


def test_what_was_confirmed_is_migrated() -> None:
    decision = decide(server(), settings(), (), "")
    assert (decision.what, decision.schema.pair, decision.replicas) == (migration.MIGRATE, PAIR, 1)


@pytest.mark.parametrize("confirmed", ["", f"{HEAD}:{OLD}", f"{OLD}:other", f"other:{HEAD}"])
def test_nothing_else_is(confirmed: str) -> None:
    assert reasons(server(), mlflow_migrate_confirm=confirmed).endswith(f"confirm with mlflow_migrate_confirm={PAIR}")


def test_an_equal_schema_leaves_nothing_to_do() -> None:
    context = server(probe__schema=lambda value: value.update(revision=HEAD, revisions=[HEAD]))
    assert decide(context, settings(), (), "somebody is busy").what == migration.NOTHING


HOLDER = {"pid": 7, "user": "reporting", "application": "nightly", "state": None, "seconds": None}


@pytest.mark.parametrize(
    ("what", "change", "said"),
    [
        ("probe__schema", lambda value: value.update(image_knows=False), "newer than dc11669786a5"),
        ("probe__schema", lambda value: value.update(revisions=[], revision=None), "holds no revision"),
        ("probe__schema", lambda value: value.update(revisions=[OLD, "x"]), "or more than one"),
        ("probe__schema", lambda value: value.update(image_head=None), "no migration scripts"),
        ("probe__query", lambda value: value.update(table_locks=[HOLDER]), "pid 7, user reporting, nightly"),
        ("probe__query", lambda value: value.update(long_transactions=[HOLDER | {"seconds": 99}]), "open for 99 s"),
        ("probe__query", lambda value: value.update(blocked=[{"pid": 1, "blocker": HOLDER}]), "pid 7"),
        ("probe__query", lambda value: value.pop("table_locks"), "could not be seen"),
        ("probe__query", lambda value: value.update(transaction_read_only=True), "read-only"),
        ("aws__db_instance", lambda value: value.update(DBInstanceStatus="modifying"), "RDS instance is modifying"),
        (
            "kubernetes__deployments",
            workloads(set_in("metadata", "annotations", "argocd.argoproj.io/tracking-id", value="ml")),
            "Argo CD (ml), which would scale it back",
        ),
        (
            "kubernetes__deployments",
            workloads(set_in("metadata", "labels", "kustomize.toolkit.fluxcd.io/name", value="ml")),
            "Flux (ml), which would scale it back",
        ),
        (
            "kubernetes__deployments",
            workloads(set_in("metadata", "annotations", "mlflow-runbook.mlops/pause", value="audit")),
            "paused by annotation: audit",
        ),
        (
            "kubernetes__namespace",
            set_in("metadata", "annotations", "mlflow-runbook.mlops/pause", value="audit"),
            "paused by annotation: audit",
        ),
    ],
)
def test_each_objection_refuses_alone(what: str, change: Change, said: str) -> None:
    told = reasons(server(**{what: change}))
    assert said in told
    assert ";" not in told.replace("; roll", "").replace("; restore", "")


def test_the_servers_own_short_transactions_are_none_of_others() -> None:
    own = HOLDER | {"user": "mlflow", "seconds": 1}
    assert (
        decide(server(probe__query=lambda value: value.update(table_locks=[own])), settings(), (), "").what == "migrate"
    )


def test_another_run_and_another_store_refuse() -> None:
    assert "works on it" in reasons(server(), "host:1 works on it until noon")
    context = server()
    other = replace(context.target, backend={**context.target.backend, "scheme": "mysql+pymysql"})
    assert "only PostgreSQL" in reasons(replace(context, target=other))


def scaler(**more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "mlflow", **more.pop("metadata", {})},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": server().target.deployment}, **more},
    }


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (scaler(minReplicas=0), "minReplicas 0"),
        (scaler(metadata={"ownerReferences": [{"kind": "ScaledObject", "name": "s"}]}), "scaledobject/s"),
    ],
)
def test_an_autoscaler_that_does_not_rest_refuses(item: dict[str, Any], said: str) -> None:
    context = server(kubernetes__horizontalpodautoscalers=lambda value: value["items"].append(item))
    assert said in reasons(context)


def test_an_autoscaler_that_rests_is_named_in_the_plan() -> None:
    context = server(kubernetes__horizontalpodautoscalers=lambda value: value["items"].append(scaler(minReplicas=2)))
    decision = decide(context, settings(), (), "")
    assert "horizontalpodautoscaler/mlflow rests" in " ".join(migration.plan_lines(context, decision, settings(), "s"))


def test_without_a_copy_nothing_is_known() -> None:
    context = server()
    left = EvidenceSet([item for item in context.evidence if item.place != DEBUG_COPY])
    assert "no copy of the server's pod" in reasons(replace(context, evidence=left))


def test_check_mode_needs_no_copy() -> None:
    context = server()
    blind = replace(context, evidence=EvidenceSet([item for item in context.evidence if item.place != DEBUG_COPY]))
    checked = replace(settings(), check_mode=True)
    assert decide(blind, checked, (), "").schema.pair == PAIR
    assert decide(blind, checked, (), "somebody is busy").what == migration.REFUSED


def test_what_a_killed_run_left_is_taken_up() -> None:
    at_zero = workloads(set_in("spec", "replicas", value=0))
    half = server(kubernetes__deployments=at_zero)
    decision = decide(half, settings(), [EARLIER], "")
    assert (decision.what, decision.replicas, decision.earlier) == (migration.MIGRATE, 3, EARLIER)
    done = server(
        kubernetes__deployments=at_zero,
        probe__schema=lambda value: value.update(revision=HEAD, revisions=[HEAD]),
    )
    decision = decide(done, settings(), [EARLIER], "")
    assert (decision.what, decision.replicas) == (migration.FINISH, 3)
    assert len(migration.plan_lines(done, decision, settings(), "snapshot")) == 1
    asked = decide(done, settings(mlflow_migrate_confirm=""), [EARLIER], "")
    assert asked.reasons == (f"not confirmed; confirm with mlflow_migrate_confirm={PAIR}",)
    assert decide(done, settings(), [replace(EARLIER, state=JUDGED)], "").what == migration.NOTHING
    told = "\n".join(migration.earlier_lines(EARLIER, decision.schema, 0))
    assert "0 replicas, 3 before" in told
    assert "mlflow-db-1" in told


def test_another_step_that_nobody_judged_comes_first() -> None:
    other = replace(EARLIER, step="restart")
    assert "run verify or undo" in "; ".join(decide(server(), settings(), [other], "").reasons)


@pytest.mark.parametrize(
    ("seen", "may"),
    [
        (Schema(HEAD, HEAD, True), True),
        (Schema(OLD, HEAD, True), False),
        (Schema("between", HEAD, True), False),
        (Schema("", HEAD), False),
        (Schema(problem="not seen"), False),
    ],
)
def test_replicas_come_back_only_where_the_schema_is_known_to_fit(seen: Schema, may: bool) -> None:
    assert migration.may_restore(seen) is may


def test_only_a_finished_snapshot_of_the_last_minutes_counts() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    rows = [
        {"DBSnapshotIdentifier": "old", "Status": "available", "SnapshotCreateTime": "2026-01-01T11:44:00Z"},
        {"DBSnapshotIdentifier": "a", "Status": "available", "SnapshotCreateTime": "2026-01-01T11:46:00Z"},
        {"DBSnapshotIdentifier": "b", "Status": "available", "SnapshotCreateTime": "2026-01-01T11:50:00Z"},
        {"DBSnapshotIdentifier": "c", "Status": "creating", "SnapshotCreateTime": "2026-01-01T11:59:00Z"},
        {"DBSnapshotIdentifier": "d", "Status": "creating"},
    ]
    found = migration.recent_snapshot(rows, now, 15)
    assert found is not None
    assert found["DBSnapshotIdentifier"] == "b"
    assert migration.recent_snapshot(rows[:1], now, 15) is None


def test_how_a_job_ends() -> None:
    def job(kind: str, status: str = "True") -> dict[str, Any]:
        row = {"type": kind, "status": status, "reason": "DeadlineExceeded", "message": "too long"}
        return {"status": {"conditions": [row]}}

    assert migration.job_end({}) is None
    assert migration.job_end(job("Complete")) == ""
    assert migration.job_end(job("Failed")) == "DeadlineExceeded: too long"
    assert migration.job_end(job("Failed", "False")) is None


def test_the_way_back_names_snapshot_and_replicas() -> None:
    told = migration.way_back("ml", "deployment/mlflow", 2, "snap-1", "db")
    assert "--db-snapshot-identifier snap-1" in told[0]
    assert told[1] == "server: kubectl scale -n ml deployment/mlflow --replicas=2"
    assert "no snapshot was taken" in migration.way_back("ml", "deployment/mlflow", 2, "", "db")[0]
