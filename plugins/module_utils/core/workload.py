# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's pods, containers and events, read out of the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from .discovery_service import matches
from .evidence import DEBUG_COPY, POD, Evidence
from .findings import Context, parse_time

RECENT = timedelta(hours=1)
"""A termination or event older than this belongs to another incident."""

Object = Mapping[str, Any]


def labels_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def owned_by(obj: Object, kind: str, name: str) -> bool:
    return any(
        owner["kind"] == kind and owner["name"] == name for owner in obj["metadata"].get("ownerReferences") or []
    )


def workload_name(context: Context) -> str:
    """Name the server's workload as reports do, such as ``deployment/mlflow``."""
    return f"{context.target.kind.lower()}/{context.target.deployment}"


def replica_sets(context: Context) -> list[dict[str, Any]]:
    """Return the Deployment's ReplicaSets, newest revision first."""
    mine = [
        item
        for item in context.evidence.objects("kubernetes.replicasets", context.target.namespace)
        if owned_by(item, "Deployment", context.target.deployment)
    ]
    return sorted(mine, key=revision, reverse=True)


def revision(obj: Object) -> int:
    return int(obj["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision", "0"))


def workload(context: Context) -> dict[str, Any] | None:
    what = "kubernetes.deployments" if context.target.kind == "Deployment" else "kubernetes.statefulsets"
    for item in context.evidence.objects(what, context.target.namespace):
        if item["metadata"]["name"] == context.target.deployment:
            return item
    return None


def template_spec(context: Context) -> dict[str, Any]:
    """Return the pod specification of the workload's template; empty when the workload was not seen."""
    found = workload(context)
    return dict(found["spec"]["template"]["spec"]) if found else {}


def owned_pods(context: Context) -> list[dict[str, Any]]:
    """Return the pods that the workload owns, with those that are being deleted."""
    pods = context.evidence.objects("kubernetes.pods", context.target.namespace)
    if context.target.kind == "StatefulSet":
        return [pod for pod in pods if owned_by(pod, "StatefulSet", context.target.deployment)]
    names = {item["metadata"]["name"] for item in replica_sets(context)}
    return [
        pod
        for pod in pods
        if (
            any(owned_by(pod, "ReplicaSet", name) for name in names)
            if names
            else matches(context.target.selector, labels_of(pod))
        )
    ]


def server_pods(context: Context) -> list[dict[str, Any]]:
    """Return the pods that the workload owns, without those that are being deleted."""
    return [pod for pod in owned_pods(context) if not pod["metadata"].get("deletionTimestamp")]


def current_pods(context: Context) -> list[dict[str, Any]]:
    """Return the pods of the newest revision."""
    newest = next(iter(replica_sets(context)), None)
    if newest is None:
        return server_pods(context)
    return [pod for pod in server_pods(context) if owned_by(pod, "ReplicaSet", newest["metadata"]["name"])]


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def ready_pods(context: Context) -> list[dict[str, Any]]:
    return [pod for pod in server_pods(context) if is_ready(pod)]


def container_statuses(pod: Object) -> Iterator[tuple[Object, bool]]:
    """Yield every container status and whether it is an init container's."""
    status = pod.get("status", {})
    for item in status.get("initContainerStatuses") or []:
        yield item, True
    for item in status.get("containerStatuses") or []:
        yield item, False


def container_spec(pod: Object, name: str) -> Object:
    spec = pod["spec"]
    for item in [*spec["containers"], *(spec.get("initContainers") or [])]:
        if item["name"] == name:
            return item
    return {}


def last_end(status: Object) -> Object | None:
    """Return the most recent termination of a container, current state first."""
    return (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated")


def event_time(event: Object) -> str:
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def event_start(event: Object) -> str:
    return str(
        event.get("firstTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""
    )


def is_recent(moment: str, context: Context) -> bool:
    return bool(moment) and context.now - parse_time(moment) <= RECENT


def events_about(context: Context, *names: str) -> list[dict[str, Any]]:
    """Return recent events about objects of the given names."""
    return [
        event
        for event in context.evidence.objects("kubernetes.events", context.target.namespace)
        if event.get("involvedObject", {}).get("name") in names and is_recent(event_time(event), context)
    ]


def probes_from_server(context: Context, what: str, subject: str | None = None) -> list[Evidence]:
    """Return probe results as MLflow itself sees the world: the debug copy when there is one, and the pods."""
    return [
        item
        for place in (DEBUG_COPY, POD)
        for item in context.evidence.all(what, place, subject)
        if item.seen and isinstance(item.value, dict)
    ]


def result_of(item: Evidence) -> str:
    return str(item.value.get("result", ""))


def changed(obj: Object) -> str | None:
    """Return when a person or controller last changed the object's specification, as the API server recorded it."""
    moments = [item["time"] for item in obj["metadata"].get("lastChanged") or [] if item.get("time")]
    created = obj["metadata"].get("creationTimestamp")
    latest = max(moments, default=None)
    return latest if latest and latest != created else None
