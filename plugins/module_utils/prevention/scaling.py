# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many pods there are, how many there may be, and whether the database can bear them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ..core.connection_budget import Pool, most_replicas, read_pool
from ..core.discovery_stores import SERVERLESS, dialect
from ..core.evidence import API, POD, Evidence
from ..core.findings import Context, parse_time
from ..core.network_policy import selects
from ..core.workload import workload, workload_name
from .items import ENTRY, Item, Patch, container_patch, kubectl, missing, ok, unknown, unseen, weak, workload_patch
from .server import (
    LEAST_REPLICAS,
    Sizing,
    autoscaler_of,
    budget_of,
    container_of,
    database_look,
    jobs_on,
    pool_variables,
    replicas_of,
    sizing_of,
    surge_of,
    workers_of,
)

POOL_NAMES = ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW")
RECYCLE = "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE"
RECYCLE_SECONDS = 1800
TARGET_PERCENT = 70
CALM_SECONDS = 600
"""MLflow takes up to two minutes to start (field guide section 2.3), so that scaling down early costs twice."""
FIRST_MEASUREMENT = timedelta(minutes=5)
"""Pods and autoscalers that are younger have no metrics yet."""


def judge(context: Context) -> list[Item]:
    """Judge replicas, autoscaler, connection budget, pool options and disruption budget."""
    sizing = sizing_of(context)
    return [
        replicas(context),
        autoscaler(context, sizing),
        connection_budget_item(context, sizing),
        pool_options(context, sizing),
        disruption_budget(context),
    ]


def listing(context: Context, resource: str) -> Evidence | None:
    return context.evidence.first(f"kubernetes.{resource}", API, context.target.namespace)


def list_right(context: Context, resource: str) -> str:
    return f"list {resource} in namespace {context.target.namespace}"


def one_pod_only(context: Context) -> str:
    """Return why this server cannot have more than one pod; empty when it can."""
    kind = dialect(context.target.backend)
    if kind in SERVERLESS:
        return f"the backend store is a {kind} in the pod, so that a second pod would have other experiments"
    return ""


def replicas(context: Context) -> Item:
    id_ = "scaling.replicas"
    found, look = workload(context), listing(context, f"{context.target.kind.lower()}s")
    if found is None:
        return unseen(id_, look, list_right(context, f"{context.target.kind.lower()}s"))
    scaler = autoscaler_of(context)
    now = int(scaler["spec"].get("minReplicas", 1)) if scaler else replicas_of(context)
    what = f"{workload_name(context)} " + (f"is scaled to {now} at least" if scaler else f"wants {now}")
    if now >= LEAST_REPLICAS:
        return ok(id_, what, look)
    problem = one_pod_only(context)
    if problem:
        return weak(id_, f"{what}; {problem}", (), look)
    patch = workload_patch(context, f"spec:\n  replicas: {LEAST_REPLICAS}")
    if scaler:
        command = f"kubectl -n {context.target.namespace} patch hpa {scaler['metadata']['name']} --type=merge"
        patch = Patch("kubectl", f"""{command} -p '{{"spec": {{"minReplicas": {LEAST_REPLICAS}}}}}'""")
    return weak(id_, what, (patch,), look) if now else missing(id_, what, (patch,), look)


def autoscaler(context: Context, sizing: Sizing) -> Item:
    """An autoscaler helps when it can measure, has room to scale, and stops before the database is full."""
    id_, look = "scaling.autoscaler", listing(context, "horizontalpodautoscalers")
    if look is None or not look.seen:
        return unseen(id_, look, list_right(context, "horizontalpodautoscalers"))
    scaler, patches = autoscaler_of(context), (autoscaler_patch(context, sizing),)
    if scaler is None:
        problem = one_pod_only(context)
        if problem:
            return weak(id_, f"none, and none is possible: {problem}", (), look)
        if not look.conclusive:
            return unknown(id_, f"not all autoscalers could be read: {look.detail}", look.detail, look)
        return missing(id_, f"no HorizontalPodAutoscaler scales {workload_name(context)}", patches, look)
    problems = scaler_problems(context, scaler)
    name, spec = scaler["metadata"]["name"], scaler["spec"]
    span = f"{spec.get('minReplicas', 1)} to {spec['maxReplicas']} replicas"
    if problems:
        return weak(id_, f"{name} scales {span}, but {'; '.join(problems)}", patches, look, database_look(context))
    if unmeasured(scaler):
        return unknown(id_, f"{name} scales {span}, and has measured nothing yet", "a few minutes of metrics", look)
    return ok(id_, f"{name} scales {span}", look, database_look(context))


def scaler_problems(context: Context, scaler: dict[str, Any]) -> list[str]:
    """Return what keeps an autoscaler from helping."""
    spec, problems = scaler["spec"], []
    lowest, highest = int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])
    if lowest >= highest:
        problems.append("it has no room to scale")
    by_resource = [item["resource"]["name"] for item in spec.get("metrics") or [] if item.get("type") == "Resource"]
    requests = (container_of(context).get("resources") or {}).get("requests") or {}
    problems += [f"the container requests no {name} to measure by" for name in by_resource if name not in requests]
    failed = unmeasured(scaler)
    since = str((failed or {}).get("lastTransitionTime") or "")
    if failed and since and context.now - parse_time(since) > FIRST_MEASUREMENT:
        problems.append(f"it cannot measure: {failed.get('reason', '')}")
    look = database_look(context)
    if look is not None and look.seen and "max_connections" in look.value:
        budget = budget_of(context, look, highest)
        if not budget.fits:
            needed = budget.needed if budget.needed is not None else "any number of"
            problems.append(f"at {highest} it may open {needed} connections of {budget.available}")
    return problems


def unmeasured(scaler: dict[str, Any]) -> dict[str, Any] | None:
    """Return the condition that says that an autoscaler has no metrics, when one says so."""
    conditions: list[dict[str, Any]] = (scaler.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item["type"] == "ScalingActive" and item["status"] == "False"), None)


def autoscaler_patch(context: Context, sizing: Sizing) -> Patch:
    target = context.target
    scaler = autoscaler_of(context)
    name = scaler["metadata"]["name"] if scaler else target.deployment
    return kubectl(f"""
        apiVersion: autoscaling/v2
        kind: HorizontalPodAutoscaler
        metadata:
          name: {name}
          namespace: {target.namespace}
        spec:
          scaleTargetRef:
            apiVersion: apps/v1
            kind: {target.kind}
            name: {target.deployment}
          minReplicas: {sizing.lowest}
          maxReplicas: {sizing.highest}
          metrics:
            - type: Resource
              resource:
                name: cpu
                target:
                  type: Utilization
                  averageUtilization: {TARGET_PERCENT}
          behavior:
            scaleDown:
              stabilizationWindowSeconds: {CALM_SECONDS}
        """)


def connection_budget_item(context: Context, sizing: Sizing) -> Item:
    """Hold the most pods that there may be, a rolling update's among them, against the database."""
    id_, look = "scaling.connection_budget", database_look(context)
    if one_pod_only(context):
        return unknown(id_, f"no database server: {one_pod_only(context)}", "a PostgreSQL database")
    if look is None and context.evidence.value("probe.pod", POD):
        return unknown(id_, "the server's pod does not reach its database", ENTRY)
    if look is None or not look.seen or "max_connections" not in look.value:
        return unseen(id_, look, f"create pods/exec in namespace {context.target.namespace}")
    scaler = autoscaler_of(context)
    highest = int(scaler["spec"]["maxReplicas"]) if scaler else max(1, replicas_of(context))
    budget = budget_of(context, look, highest)
    pods = highest + surge_of(context, highest)
    pool = read_pool(pool_variables(context))
    each = f"{workers_of(context)} worker{'s' * (workers_of(context) != 1)}, {pool.size} + {pool.overflow} per engine"
    summary = (
        f"{pods} pod{'s' * (pods != 1)} (a rolling update's among them; {each}) may open "
        f"{'any number of' if budget.needed is None else budget.needed} connections of {budget.available}"
    )
    if budget.fits:
        return ok(id_, summary, look)
    room = most_replicas(budget, pods)
    advice = f"; the database bears {room} such pod{'s' * (room != 1)}" if budget.needed else ""
    patches = (pool_patch(context, sizing.pool),) if sizing.pool else larger_database(context)
    return weak(id_, summary + advice, patches, look)


def larger_database(context: Context) -> tuple[Patch, ...]:
    """No pool is small enough: fewer workers, or more connections."""
    name = context.target.db_instance_identifier or "the database"
    patch = Patch("terraform", f"# no pool fits: in the aws_db_instance {name}, the next larger\ninstance_class = ...")
    if "workers" in context.target.options:  # the option overrides the variable
        return (patch,)
    return patch, container_patch(context, "env:\n  - name: MLFLOW_WORKERS\n    value: '1'")


def pool_patch(context: Context, pool: Pool) -> Patch:
    """Set the pool's options; an overflow of 0 would be taken for unset (MLflow 3.17.2, store/db/utils.py)."""
    pairs = ((POOL_NAMES[0], pool.size), (POOL_NAMES[1], pool.overflow), (RECYCLE, RECYCLE_SECONDS))
    rows = "\n".join(f"  - name: {name}\n    value: '{value}'" for name, value in pairs)
    return container_patch(context, f"env:\n{rows}")


def pool_options(context: Context, sizing: Sizing) -> Item:
    id_ = "scaling.pool_options"
    look = listing(context, f"{context.target.kind.lower()}s")
    if workload(context) is None:
        return unseen(id_, look, list_right(context, f"{context.target.kind.lower()}s"))
    given = pool_variables(context)
    unset = [name for name in POOL_NAMES if given.get(name, "0") in ("", "0")]
    pool = read_pool(given)
    patches = (pool_patch(context, sizing.pool or pool),)
    if len(unset) == len(POOL_NAMES):
        jobs = " and a job runner" * jobs_on(context)
        summary = f"no pool option is set: {pool.size} + {pool.overflow} connections for every engine{jobs}"
        return missing(id_, summary, patches, look)
    if pool.most is None:
        return weak(id_, "the pool has no limit", patches, look)
    if unset:
        note = " (MLflow takes 0 for unset)" if given.get(unset[0]) == "0" else ""
        return weak(id_, f"{unset[0]} is not set{note}", patches, look)
    return ok(id_, f"each engine has {pool.size} + {pool.overflow} connections", look)


def disruption_budget(context: Context) -> Item:
    """A budget protects when it keeps a pod, and lets a node be drained all the same."""
    id_, look = "scaling.disruption_budget", listing(context, "poddisruptionbudgets")
    found = workload(context)
    if look is None or not look.seen or found is None:
        return unseen(id_, look, list_right(context, "poddisruptionbudgets"))
    labels = found["spec"]["template"]["metadata"].get("labels") or {}
    mine = [
        item
        for item in context.evidence.objects("kubernetes.poddisruptionbudgets", context.target.namespace)
        if item["spec"].get("selector") is not None and selects(item["spec"]["selector"], labels)
    ]
    name = mine[0]["metadata"]["name"] if mine else context.target.deployment
    command = f"kubectl -n {context.target.namespace} patch poddisruptionbudget {name} --type=merge"
    change = """{"spec": {"minAvailable": null, "maxUnavailable": 1}}"""
    patches = (Patch("kubectl", f"{command} -p '{change}'") if mine else disruption_patch(context, name),)
    if not mine:
        if not look.conclusive:
            return unknown(id_, f"not all budgets could be read: {look.detail}", look.detail, look)
        return missing(id_, f"no PodDisruptionBudget selects the pods of {workload_name(context)}", patches, look)
    spec, pods = mine[0]["spec"], replicas_of(context)
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if str(most) in ("100%", str(pods)) or (least is not None and str(least) in ("0", "0%")):
        return weak(id_, f"{name} lets all {pods} pods be evicted at once", patches, look)
    if str(most) in ("0", "0%") or str(least) in ("100%", str(pods)):
        what = f"{name} lets no pod be evicted: a node cannot be drained"
        return weak(id_, what + (" while there is one replica" if pods == 1 else ""), patches, look)
    return ok(id_, f"{name} protects the pods ({disruptions(least, most)})", look)


def disruptions(least: Any, most: Any) -> str:
    return f"at least {least} available" if least is not None else f"at most {most} unavailable"


def disruption_patch(context: Context, name: str) -> Patch:
    rows = "".join(f"\n              {key}: {value!r}" for key, value in sorted(context.target.selector.items()))
    return kubectl(f"""
        apiVersion: policy/v1
        kind: PodDisruptionBudget
        metadata:
          name: {name}
          namespace: {context.target.namespace}
        spec:
          maxUnavailable: 1
          selector:
            matchLabels:{rows}
        """)
