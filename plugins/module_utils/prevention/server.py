# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's size as several items need it: its processes and pools, its replicas, its database's connections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.connection_budget import Budget, Pool, connection_budget, fitting_pool, read_pool
from ..core.discovery import commands_of
from ..core.evidence import DEBUG_COPY, POD, Evidence
from ..core.findings import Context
from ..core.server_command import DEFAULT_WORKERS, ServerCommand
from ..core.server_setting import JOBS_SINCE, runs_jobs
from ..core.workload import workload

LEAST_REPLICAS = 2
MOST_REPLICAS = 4
"""What is proposed where nobody has said a maximum: enough for a burst, little enough for a small database."""
LEAST_POOL = 4
"""With fewer connections for each engine, a burst of calls waits for the pool."""
Object = Mapping[str, Any]


def environment_look(context: Context) -> Evidence | None:
    return context.evidence.first("probe.environment", POD)


def command_of(context: Context) -> ServerCommand | None:
    found = workload(context)
    return commands_of(found, context.evidence).get(context.target.container) if found else None


def container_of(context: Context) -> Object:
    """Return MLflow's container in the pod template; empty when the workload was not seen."""
    found = workload(context)
    containers = found["spec"]["template"]["spec"]["containers"] if found else []
    return next((item for item in containers if item["name"] == context.target.container), {})


def pool_variables(context: Context) -> dict[str, str]:
    """Return the ``MLFLOW_SQLALCHEMYSTORE_*`` variables of the template, and those of the running pod over them."""
    command = command_of(context)
    names = dict(command.environment) if command else {}
    look = environment_look(context)
    running = look.value.get("pool") or {} if look is not None and look.seen else {}
    names |= {f"MLFLOW_SQLALCHEMYSTORE_{key.upper()}": str(value) for key, value in running.items()}
    return {key: value for key, value in names.items() if key.startswith("MLFLOW_SQLALCHEMYSTORE_")}


def workers_of(context: Context) -> int:
    command, look = command_of(context), environment_look(context)
    said = command.setting("workers") if command else ""
    running = str(look.value.get("workers") or "") if look is not None and look.seen else ""
    return next((int(text) for text in (running, said) if text.isdigit() and int(text)), DEFAULT_WORKERS)


def jobs_on(context: Context) -> bool:
    """Job execution is on unless the server says otherwise (default since 3.9); older servers have none."""
    command = command_of(context)
    if command and not runs_jobs(command):
        return False
    version = context.target.mlflow_version.split(".")
    numbers = [int(part) for part in version[:2] if part.isdigit()]
    return len(numbers) < 2 or tuple(numbers) >= JOBS_SINCE


def replicas_of(context: Context) -> int:
    found = workload(context)
    return int(found["spec"].get("replicas", 1)) if found else 1


def surge_of(context: Context, replicas: int) -> int:
    """Return how many pods a rolling update adds (Kubernetes: 25 % of the replicas, rounded up, unless it is said)."""
    found = workload(context)
    if found is None or context.target.kind != "Deployment":
        return 0
    strategy = found["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0
    said = (strategy.get("rollingUpdate") or {}).get("maxSurge", "25%")
    if str(said).endswith("%"):
        return math.ceil(replicas * int(str(said)[:-1]) / 100)
    return int(said)


def autoscaler_of(context: Context) -> dict[str, Any] | None:
    """Return the HorizontalPodAutoscaler that scales the server."""
    target = context.target
    for item in context.evidence.objects("kubernetes.horizontalpodautoscalers", target.namespace):
        scaled = item["spec"].get("scaleTargetRef") or {}
        if scaled.get("kind") == target.kind and scaled.get("name") == target.deployment:
            return item
    return None


def database_look(context: Context) -> Evidence | None:
    """Return the look at the database from inside a pod, or else the look at the pod itself."""
    for what in ("probe.query", "probe.login", "probe.pod"):
        for place in (POD, DEBUG_COPY):
            look = context.evidence.first(what, place)
            if look is not None and (what == "probe.query" or not look.seen):
                return look
    return None


@dataclass(frozen=True)
class Sizing:
    """One set of figures for all proposals, so that autoscaler, pool and budget agree with each other.

    Attributes:
        lowest: replicas at least.
        highest: replicas at most, without those of a rolling update.
        pool: the pool with which they fit; ``None`` when none does.
    """

    lowest: int
    highest: int
    pool: Pool | None


def limits_of(look: Evidence) -> tuple[int | None, int | None]:
    return look.value.get("role_connection_limit"), look.value.get("database_connection_limit")


def budget_of(context: Context, look: Evidence, replicas: int) -> Budget:
    """Hold so many replicas, and what a rolling update adds, against what the database was seen to have."""
    return connection_budget(
        replicas=replicas + surge_of(context, replicas),
        workers=workers_of(context),
        pool=read_pool(pool_variables(context)),
        max_connections=int(look.value["max_connections"]),
        reserved=int(look.value["reserved"]),
        jobs=jobs_on(context),
        limits=limits_of(look),
    )


def sizing_of(context: Context) -> Sizing:
    """Propose replicas and a pool: what is there is kept where it fits, and is made smaller where it does not."""
    scaler = autoscaler_of(context)
    lowest = max(LEAST_REPLICAS, replicas_of(context) if scaler is None else 0)
    wanted = int(scaler["spec"].get("maxReplicas") or 0) if scaler else MOST_REPLICAS
    wanted = max(wanted, lowest + 1)
    look = database_look(context)
    if look is None or not look.seen or "max_connections" not in look.value:
        return Sizing(lowest, wanted, None)
    available = budget_of(context, look, 1).available
    for highest in range(wanted, lowest - 1, -1):
        pods = highest + surge_of(context, highest)
        pool = fitting_pool(available, pods, workers_of(context), jobs=jobs_on(context))
        if pool is not None and (highest == lowest or (pool.most or 0) >= LEAST_POOL):
            return Sizing(lowest, highest, pool)
    return Sizing(lowest, lowest, None)
