# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""High latency: where the time goes, layer by layer, and only then whose fault that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.evidence import API, CLOUD, POD, Evidence
from ..core.findings import (
    SERVER,
    TO_DATABASE,
    TO_DNS,
    TO_OBJECT_STORAGE,
    Context,
    Finding,
    SectionResult,
    Unknown,
    keys,
)
from ..core.quantity import cores
from ..core.workload import container_spec, current_pods, probes_from_server, result_of, workload_name
from . import web_workers
from .web_server import HONEST

SLOW_CALL_SECONDS = 2.0
"""An idle server answers the honest call in 0.1 s, one under twelve big searches in 2.6 s (field guide E28)."""

SLOW_ROUND_TRIP_SECONDS = 0.1
"""A round trip inside a region takes about 1 ms, to another region 70 ms (field guide L-12)."""

LOOPBACK = "127.0.0.1"
SLOW_LOOKUP_SECONDS = 1.0
"""A resolver that does not answer costs a client 5 s, an overloaded one whole seconds (field guide L-10)."""

THROTTLED_SHARE = 0.25
"""Share of throttled periods from which on latency triples (field guide L-01)."""

SLOW_STORAGE_SECONDS = 5.0
QUICK_SECONDS = 1.0
"""A listing takes 0.1 s; where everything else takes over a second too, the machine is slow and not S3 (L-09)."""

SMALL_LIMIT_CORES = 1.0
"""Below one core a single worker's own work is held back; a start takes twice to five times as long (L-01)."""

IDLE_SHARE = 0.5
"""Share of its CPU below which a container that does not answer waits for somebody."""

EXHAUSTED_PERCENT = 5.0
CREDITS = ("BurstBalance", "EBSIOBalance%", "EBSByteBalance%")
"""Balances that RDS publishes in percent (Amazon RDS user guide, CloudWatch instance-level metrics)."""


def analyze(context: Context) -> SectionResult:
    """Attribute slowness to the first layer that is slow by itself."""
    result = SectionResult()
    slow = slow_calls(context)
    database(context, slow, result)
    lookups(context, slow, result)
    if slow:
        symptom(context, slow, result)
        throttling(context, slow, result)
        workers(context, result)
    object_storage(context, result)
    quick = [item for trip, item in round_trips(context) if trip < SLOW_ROUND_TRIP_SECONDS]
    if quick and not slow:
        result.rule_out("latency.database_slow", *quick)
    return result


def calls(context: Context, fragment: str) -> list[Evidence]:
    return [item for item in context.evidence.all("probe.http", POD) if item.seen and fragment in item.subject]


def seconds(item: Evidence) -> float:
    return float(item.value.get("seconds") or 0.0)


def slow_calls(context: Context) -> list[Evidence]:
    """Return the honest calls from inside the pod that took long, whether they ended or not."""
    return [item for item in calls(context, HONEST) if seconds(item) >= SLOW_CALL_SECONDS]


def layers(context: Context) -> dict[str, float]:
    """Return the seconds of each layer as the pod measured them; a layer that was not measured is left out."""
    measured = {
        "name": probes_from_server(context, "probe.dns", str(context.target.backend.get("host"))),
        "/health": calls(context, "/health"),
        "database call": calls(context, HONEST),
        "artifact call": calls(context, "mlflow-artifacts/artifacts"),
    }
    found = {name: min(seconds(item) for item in items) for name, items in measured.items() if items}
    trips = [trip for trip, dummy in round_trips(context)]
    return {**found, **({"database round trip": min(trips)} if trips else {})}


def spelled(times: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f} s" for name, value in times.items())


def symptom(context: Context, slow: list[Evidence], result: SectionResult) -> None:
    result.findings.append(
        Finding(
            "latency.slow_calls",
            workload_name(context),
            f"an API call takes {seconds(slow[0]):.1f} s inside the pod ({spelled(layers(context))})",
            keys(slow),
            measured=True,
        )
    )


def round_trips(context: Context) -> list[tuple[float, Evidence]]:
    """Return what a round trip to the database takes: a statement without work, or a connection if no login ended."""
    return [
        (float(item.value["round_trip_seconds"]), item)
        for item in probes_from_server(context, "probe.query")
        if isinstance(item.value.get("round_trip_seconds"), (int, float))
    ] or slow_connections(context)


def slow_connections(context: Context) -> list[tuple[float, Evidence]]:
    """Return what connecting to the database takes while connections elsewhere are quick and a login takes too long."""
    if not any(result_of(item) == "timeout" for item in probes_from_server(context, "probe.login")):
        return []
    made = [item for item in probes_from_server(context, "probe.tcp") if result_of(item) == "ok"]
    database_host = str(context.target.backend.get("host") or "")
    by_host = [(item.subject.rpartition(":")[0], item) for item in made]
    elsewhere = [item for host, item in by_host if host not in (database_host, LOOPBACK)]
    if not elsewhere or any(seconds(item) >= SLOW_ROUND_TRIP_SECONDS for item in elsewhere):
        return []
    to_database = [(seconds(item), item) for host, item in by_host if host == database_host]
    return [(trip, item) for trip, item in to_database if trip >= SLOW_ROUND_TRIP_SECONDS]


def database(context: Context, slow: list[Evidence], result: SectionResult) -> None:
    """A round trip without any work is slow only when the database or the way to it is."""
    late = [(trip, item) for trip, item in round_trips(context) if trip >= SLOW_ROUND_TRIP_SECONDS]
    trips = [item for dummy, item in late]
    balances = exhausted_credits(context)
    metrics = context.evidence.first("aws.metrics", CLOUD)
    name = context.target.db_instance_identifier or str(context.target.backend.get("host"))
    if balances and trips:
        result.findings.append(
            Finding(
                "latency.burst_credits_exhausted",
                name,
                f"{name} has used up its burst credits ({', '.join(balances)}), so its storage is slow",
                keys([metrics, *trips, *slow]),
                flow=TO_DATABASE,
                configured=True,
                measured=True,
                facts={"instance": name},
            )
        )
    if trips:
        trip, unseen = late[0][0], credits_unseen(context)
        if unseen:
            why = "whether its burst credits are used up, which would be the cause, could not be seen"
            result.unknown.append(Unknown(f"why {name} is slow", why, "cloudwatch:GetMetricData"))
        result.findings.append(
            Finding(
                "latency.round_trip_slow" if unseen else "latency.database_slow",
                name,
                f"one round trip to the database takes {trip:.2f} s, and each API call needs several",
                keys([*trips, *slow, metrics]),
                flow=TO_DATABASE,
                measured=True,
                facts={"instance": name, "seconds": f"{trip:.2f}"},
            )
        )


def credits_unseen(context: Context) -> bool:
    """Tell whether an RDS instance has balances that nobody could look at."""
    metrics = context.evidence.first("aws.metrics", CLOUD)
    return bool(context.target.db_instance_identifier) and not (metrics and metrics.conclusive)


def exhausted_credits(context: Context) -> list[str]:
    metrics: Mapping[str, Any] = context.evidence.value("aws.metrics", CLOUD, default={})
    found = []
    for name in CREDITS:
        points = (metrics.get(name) or {}).get("points") or []
        if points and float(points[-1][1]) < EXHAUSTED_PERCENT:
            found.append(f"{name} {float(points[-1][1]):.0f} %")
    return found


def lookups(context: Context, slow: list[Evidence], result: SectionResult) -> None:
    late = [
        item
        for item in probes_from_server(context, "probe.dns")
        if result_of(item) == "ok" and seconds(item) >= SLOW_LOOKUP_SECONDS
    ]
    asked = probes_from_server(context, "probe.dns")
    if late and slow and len(late) == len(asked):
        result.findings.append(
            Finding(
                "latency.dns_slow",
                "service/kube-dns",
                f"a name takes {seconds(late[0]):.1f} s to resolve in the pod",
                keys([*late, *slow]),
                flow=TO_DNS,
                measured=True,
            )
        )


def throttling(context: Context, slow: list[Evidence], result: SectionResult) -> None:
    """A CPU limit below one core that holds MLflow back whenever it is asked something."""
    limit = cpu_limit(context)
    if limit is None or limit >= SMALL_LIMIT_CORES:
        return
    for item in context.evidence.all("probe.throttling", POD):
        periods, throttled = (item.value["periods"], item.value["throttled"]) if item.seen else (0, 0)
        if not periods or throttled / periods < THROTTLED_SHARE:
            continue
        share = f"{throttled / periods:.0%}"
        result.findings.append(
            Finding(
                "latency.cpu_throttled",
                workload_name(context),
                f"its CPU limit of {limit:g} cores holds MLflow back in {share} of all periods in which it works",
                keys([context.evidence.first("kubernetes.deployments", API), item, *slow]),
                configured=True,
                measured=True,
                facts={"limit": f"{limit:g}", "share": share, "enough": f"{SMALL_LIMIT_CORES:g}"},
            )
        )
        return


def cpu_limit(context: Context) -> float | None:
    limits = [
        container_spec(pod, context.target.container).get("resources", {}).get("limits", {}).get("cpu")
        for pod in current_pods(context)
    ]
    return cores(str(limits[0])) if limits and limits[0] is not None else None


def workers(context: Context, result: SectionResult) -> None:
    """Sync workers that are all held by slow peers: even ``/health`` waits, while the container does nothing."""
    asked = [*calls(context, "/health"), *calls(context, HONEST)]
    waiting = [item for item in asked if result_of(item) == "timeout"]
    if context.target.web_server != "gunicorn" or not waiting or len(waiting) != len(asked):
        return  # an answer that is merely late comes from a worker that is free, on a machine that is busy
    if web_workers.kills_lately(context):
        return
    usage, limit = cpu_usage(context), cpu_limit(context)
    if usage is None or usage > IDLE_SHARE * (limit or 1.0):
        return
    result.findings.append(
        Finding(
            "latency.workers_blocked",
            workload_name(context),
            f"all gunicorn workers are taken: /health waits, while the container uses {usage:.2f} cores",
            keys([*waiting, context.evidence.first("kubernetes.pod_metrics", API)]),
            flow=SERVER,
            configured=True,
            measured=True,
        )
    )


def cpu_usage(context: Context) -> float | None:
    """Return the cores that the server's containers use, as the metrics API saw them last."""
    names = {pod["metadata"]["name"] for pod in current_pods(context)}
    used = [
        cores(container["usage"]["cpu"])
        for item in context.evidence.objects("kubernetes.pod_metrics", context.target.namespace)
        if item["metadata"]["name"] in names
        for container in item.get("containers") or []
        if container["name"] == context.target.container
    ]
    return max(used) if used else None


def object_storage(context: Context, result: SectionResult) -> None:
    """Artifacts are slow and S3 itself takes the time: every other way out of the pod is quick, so nothing else is."""
    late = [
        item
        for item in probes_from_server(context, "probe.s3_list")
        if result_of(item) == "ok" and seconds(item) >= SLOW_STORAGE_SECONDS
    ]
    listings = [item for item in calls(context, "mlflow-artifacts/artifacts") if seconds(item) >= SLOW_STORAGE_SECONDS]
    others = [
        *probes_from_server(context, "probe.sts"),
        *probes_from_server(context, "probe.login"),
        *calls(context, HONEST),
    ]
    if late and listings and others and all(seconds(item) < QUICK_SECONDS for item in others):
        result.findings.append(
            Finding(
                "latency.object_storage_slow",
                context.target.bucket,
                f"listing bucket {context.target.bucket} takes {seconds(late[0]):.1f} s",
                keys([*late, *listings]),
                flow=TO_OBJECT_STORAGE,
                measured=True,
            )
        )
