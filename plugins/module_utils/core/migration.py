# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a database may be migrated now, what that would do, and how to go back: pure over what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .attempts import Attempt, unfinished
from .evidence import CLOUD, DEBUG_COPY
from .findings import Context, parse_time
from .new_pod import login, query, rows, why_no_copy, witness
from .ownership import owner_of, pause_of
from .settings import Settings
from .workload import workload, workload_name

STEP = "migrate_database"
CAUSE = "database.schema_mismatch"
NOTHING, REFUSED, MIGRATE, FINISH = "nothing", "refused", "migrate", "finish"
SCALES_BACK = ("Argo CD", "Flux")
"""Owners that put the declared number of replicas back by themselves; Helm and Terraform wait for a person."""

CHECK_MODE = "check mode makes no pod that could look at the schema; a run without mlflow_migrate_confirm only looks"
SNAPSHOT_READY = "available"


@dataclass(frozen=True)
class Schema:
    """The schema as a copy of the server's pod sees it.

    Attributes:
        current: the recorded revision; empty when there is none, or more than one.
        head: the newest revision that the image has scripts for.
        known: whether the image knows the current one.
        problem: why it was not seen; empty when it was.
    """

    current: str = ""
    head: str = ""
    known: bool = False
    problem: str = ""

    @property
    def pair(self) -> str:
        return f"{self.current}:{self.head}"


@dataclass(frozen=True)
class Decision:
    """What is to be done.

    Attributes:
        what: ``nothing``, ``refused``, ``migrate``, or ``finish`` for what an earlier run has migrated and not given
            back its replicas.
        schema: what was seen of the schema.
        replicas: the number of replicas that the workload shall have at the end.
        reasons: why it is refused.
        earlier: the migration that an earlier run began and did not finish.
        waits: whether only the operator's confirmation is missing.
    """

    what: str
    schema: Schema
    replicas: int = 0
    reasons: tuple[str, ...] = ()
    earlier: Attempt | None = None
    waits: bool = False


def schema_of(context: Context) -> Schema:
    """Read the schema's revision and the image's newest one out of what a copy of the server's pod saw."""
    dummy, about = witness(context, context.target.image, "")
    if about is None:
        return Schema(problem=why_no_copy(context))
    pod = str(about.value.get("name") or "")
    for item in rows(context, "probe.schema", DEBUG_COPY, pod):
        value = item.value
        found = [str(name) for name in value.get("revisions") or []]
        head = str(value.get("image_head") or "")
        problem = "" if head else "the image has no migration scripts with one newest revision"
        return Schema(found[0] if len(found) == 1 else "", head, value.get("image_knows") is True, problem)
    reason = login(context, DEBUG_COPY, pod) or "the schema's revision was not seen"
    return Schema(problem=reason)


def decide(context: Context, settings: Settings, history: Iterable[Attempt], busy: str) -> Decision:
    """Decide what may be done with the database of a server.

    Args:
        context: the server and what was seen, with a copy of its pod.
        settings: the operator's variables.
        history: what was tried on this server before.
        busy: which other run has this server; empty when none has.
    """
    last = unfinished(history)
    earlier = last if last is not None and last.step == STEP else None
    schema, found = schema_of(context), workload(context)
    if settings.check_mode and schema.problem:
        return in_check_mode(context, settings, busy, int(found["spec"].get("replicas", 1)) if found else 0)
    now = int(found["spec"].get("replicas", 1)) if found else 0
    before = int(earlier.change.get("replicas") or 0) if earlier else 0
    replicas = now or before
    equal = bool(schema.current) and schema.current == schema.head
    if equal and earlier is None:
        return Decision(NOTHING, schema, replicas)
    what = FINISH if equal else MIGRATE
    wanted = earlier.plan if equal and earlier else schema.pair
    reasons = [
        *([] if equal else schema_reasons(context, schema)),
        *server_reasons(context, busy),
        *([f"{last.step} was begun at {last.at} and never judged: run verify or undo"] if last and not earlier else []),
    ]
    if reasons:
        return Decision(REFUSED, schema, replicas, tuple(reasons), earlier)
    if settings.migrate_confirm != wanted:
        given = f"mlflow_migrate_confirm is {settings.migrate_confirm}" if settings.migrate_confirm else "not confirmed"
        return Decision(
            REFUSED, schema, replicas, (f"{given}; confirm with mlflow_migrate_confirm={wanted}",), earlier, True
        )
    return Decision(what, schema, replicas, earlier=earlier)


def in_check_mode(context: Context, settings: Settings, busy: str, replicas: int) -> Decision:
    """Decide without a look at the schema, for which check mode makes no pod: what was confirmed would be done."""
    current, dummy, head = (settings.migrate_confirm or "CURRENT:TARGET").partition(":")
    reasons = (*instance_reasons(context), *server_reasons(context, busy))
    return Decision(REFUSED if reasons else MIGRATE, Schema(current, head, problem=CHECK_MODE), replicas, reasons)


def schema_reasons(context: Context, schema: Schema) -> list[str]:
    """Say why the schema cannot be migrated, whoever else is there."""
    scheme = str(context.target.backend.get("scheme") or "")
    if not scheme.startswith("postgres"):
        return [f"the backend store is {scheme or 'unknown'}, and only PostgreSQL is migrated here"]
    if schema.problem:
        return [schema.problem]
    if not schema.current:
        told = "alembic_version holds no revision, or more than one"
        return [f"{told}: what the tables are is not known; restore or stamp it with the database team"]
    if not schema.known:
        told = f"the schema is at {schema.current}, which the image does not know: it is newer than {schema.head}"
        return [f"{told}; roll the image forward, never the schema back"]
    return [*session_reasons(context), *instance_reasons(context)]


def session_reasons(context: Context) -> list[str]:
    """Name the sessions of others that a migration would wait for, or would block."""
    dummy, about = witness(context, context.target.image, "")
    pod = str(about.value.get("name") or "") if about else ""
    problem = query(context, DEBUG_COPY, pod)
    if problem:
        return [problem]
    found: dict[int, str] = {}
    for item in rows(context, "probe.query", DEBUG_COPY, pod):
        value = item.value
        if value.get("long_transactions") is None or value.get("table_locks") is None:
            return [f"open transactions could not be seen: {value.get('errors') or 'no connection was free'}"]
        for row in value["long_transactions"]:
            found[row["pid"]] = session(row)
        for row in value["table_locks"]:
            if row["user"] != context.target.backend.get("user"):
                found[row["pid"]] = session(row)
        for row in value.get("blocked") or []:
            found[row["blocker"]["pid"]] = session(row["blocker"])
    return [f"open transaction: {text}" for dummy, text in sorted(found.items())]


def session(row: Mapping[str, Any]) -> str:
    """Name a session as a person looks for it."""
    age = f"open for {row['seconds']} s" if row.get("seconds") is not None else "of an age that this role cannot see"
    application = f", {row['application']}" if row.get("application") else ""
    return f"pid {row['pid']}, user {row.get('user')}{application}, {age}"


def instance_reasons(context: Context) -> list[str]:
    """Say why the RDS instance is in no state to be migrated; one that is not described says nothing."""
    instance = context.evidence.value("aws.db_instance", CLOUD) or {}
    status = str(instance.get("DBInstanceStatus") or SNAPSHOT_READY)
    return [] if status == SNAPSHOT_READY else [f"the RDS instance is {status}"]


def server_reasons(context: Context, busy: str) -> list[str]:
    """Say why the server may not be stopped for a while."""
    found = workload(context)
    if found is None:
        return ["the workload was not seen"]
    told = []
    namespace = context.evidence.value("kubernetes.namespace", subject=context.target.namespace)
    paused = pause_of(namespace, found)
    if paused:
        told.append(f"paused by annotation: {paused}")
    owner = owner_of(found)
    controller = any(item.get("controller") for item in found["metadata"].get("ownerReferences") or [])
    if controller or owner.startswith(SCALES_BACK):
        told.append(f"{workload_name(context)} is applied by {owner}, which would scale it back during the migration")
    told += [f"{text}, which would scale the server up during the migration" for text in restless_scalers(context)]
    return told + ([busy] if busy else [])


def scalers(context: Context) -> list[dict[str, Any]]:
    """Return the HorizontalPodAutoscalers of the workload."""
    return [
        item
        for item in context.evidence.objects("kubernetes.horizontalpodautoscalers", context.target.namespace)
        if item["spec"]["scaleTargetRef"].get("kind") == context.target.kind
        and item["spec"]["scaleTargetRef"]["name"] == context.target.deployment
    ]


def restless_scalers(context: Context) -> list[str]:
    """Name the autoscalers that do not rest at 0 replicas (Kubernetes, HPA: implicit maintenance-mode deactivation)."""
    told = []
    for item in scalers(context):
        name = item["metadata"]["name"]
        owners = [owner for owner in item["metadata"].get("ownerReferences") or [] if owner["kind"] == "ScaledObject"]
        if owners:
            told.append(f"KEDA's scaledobject/{owners[0]['name']} scales from zero")
        elif item["spec"].get("minReplicas") == 0:
            told.append(f"horizontalpodautoscaler/{name} has minReplicas 0 and scales from zero")
    return told


def at_rest(scaler: Mapping[str, Any]) -> bool:
    """Tell whether the controller says that an autoscaler leaves the workload alone."""
    conditions = (scaler.get("status") or {}).get("conditions") or []
    return any(
        item["type"] == "ScalingActive" and item["status"] == "False" and item.get("reason") == "ScalingDisabled"
        for item in conditions
    )


def recent_snapshot(snapshots: Iterable[Mapping[str, Any]], now: datetime, minutes: int) -> Mapping[str, Any] | None:
    """Return the newest finished snapshot that is no older than some minutes."""
    fit = [
        item
        for item in snapshots
        if item.get("Status") == SNAPSHOT_READY
        and item.get("SnapshotCreateTime")
        and now - parse_time(item["SnapshotCreateTime"]) <= timedelta(minutes=minutes)
    ]
    return max(fit, key=lambda item: str(item["SnapshotCreateTime"]), default=None)


def job_end(job: Mapping[str, Any]) -> str | None:
    """Return how a Job ended: empty when it completed, else why it failed; None while it runs."""
    for item in (job.get("status") or {}).get("conditions") or []:
        if item["status"] == "True" and item["type"] == "Complete":
            return ""
        if item["status"] == "True" and item["type"] == "Failed":
            return f"{item.get('reason', 'Failed')}: {item.get('message', '')}".strip(": ")
    return None


def may_restore(seen: Schema) -> bool:
    """Tell whether replicas may come back: only to the schema that the image expects.

    On an older one a pod exits, or where a table is missing migrates by itself, without anybody who looks (field guide,
    D-24 and D-27).
    """
    return not seen.problem and bool(seen.current) and seen.current == seen.head


def plan_lines(context: Context, decision: Decision, settings: Settings, snapshot: str) -> list[str]:
    """Say in order what a migration does."""
    name = workload_name(context)
    if decision.what == FINISH or decision.schema.current == decision.schema.head:
        return [f"scale {name} back to {decision.replicas}, and wait until the server answers"]
    suspended = [f"horizontalpodautoscaler/{item['metadata']['name']}" for item in scalers(context)]
    rest = f" ({', '.join(suspended)} rests at 0 replicas)" if suspended else ""
    return [
        snapshot,
        f"scale {name} to 0{rest}, and wait until no pod and no session of its role is left",
        f"upgrade the schema from {decision.schema.current} to {decision.schema.head} in a Job of"
        f" {context.target.image}, for {settings.migrate_minutes} minutes at most, once",
        "read the schema's revision with a copy of the server's pod",
        f"scale {name} back to {decision.replicas}, and wait until the server answers",
    ]


def snapshot_line(settings: Settings, instance: str) -> str:
    """Say what becomes of the snapshot."""
    if settings.snapshot == "none":
        return "no snapshot is taken: mlflow_snapshot=none; the only way back is a backup of your own"
    recent = f"an RDS snapshot of {instance} that is no older than {settings.snapshot_minutes} minutes"
    return f"want {recent}" if settings.snapshot == "require" else f"use {recent}, or take one and wait for it"


def earlier_lines(attempt: Attempt, schema: Schema, replicas: int) -> list[str]:
    """Say where a migration stands whose run ended before it was done."""
    change = attempt.change
    began = f"an earlier run began to migrate {change.get('from')} to {change.get('to')} at {attempt.at}"
    told = [f"{began} and did not come to its end ({attempt.by})"]
    told.append(
        f"the schema is at {schema.current or schema.problem}; {replicas} replicas, {change.get('replicas')} before"
    )
    if change.get("snapshot"):
        told.append(f"its snapshot is {change['snapshot']}")
    return told


def way_back(namespace: str, workload: str, replicas: int, snapshot: str, instance: str) -> list[str]:
    """Return the commands that lead back to the state before the migration."""
    restore = (
        f"aws rds restore-db-instance-from-db-snapshot --db-snapshot-identifier {snapshot}"
        f" --db-instance-identifier {instance}-restored, then let the backend store's address name it"
        if snapshot
        else "restore your own backup: no snapshot was taken"
    )
    return [f"database: {restore}", f"server: kubectl scale -n {namespace} {workload} --replicas={replicas}"]
