# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Service belongs to a workload."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .evidence import EvidenceSet
from .server_command import read_command
from .settings import Settings

TRACKING_URI = "MLFLOW_TRACKING_URI"
SERVICE_HOST = re.compile(
    r"^(?:https?://)?(?:[^@/]*@)?(?P<service>[a-z0-9][a-z0-9-]*)\.(?P<namespace>[a-z0-9][a-z0-9-]*)"
    r"(?:\.svc(?:\.[a-z0-9.-]+)?)?\.?(?::\d+)?(?:/|$)",
    re.IGNORECASE,
)
"""A tracking URI with the name of a Service as it holds in other namespaces."""


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether equality based selector terms all hold; an empty selector matches nothing here."""
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def ready_endpoints(
    evidence: EvidenceSet, namespace: str, service: str
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield a Service's ready endpoints, each with the ports of its slice; an unknown readiness counts as ready."""
    for item in evidence.objects("kubernetes.endpointslices", namespace):
        if (item["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == service:
            for endpoint in item.get("endpoints") or []:
                if (endpoint.get("conditions") or {}).get("ready") is not False:
                    yield endpoint, item.get("ports") or []


def find_service(
    workload: Mapping[str, Any], port: int, evidence: EvidenceSet, settings: Settings
) -> tuple[str, int | None, str]:
    """Return the Service's name, its port that leads to MLflow, and how it was found.

    It is found by its name in the settings, by the name that live clients use, by its selector or, since that may be
    what is broken, by its likeness to the workload.
    """
    services = [
        item
        for item in evidence.objects("kubernetes.services", settings.namespace)
        if item["spec"].get("type") != "ExternalName"
    ]
    if settings.service:
        chosen = [item for item in services if item["metadata"]["name"] == settings.service]
        if not chosen:
            return settings.service, None, "mlflow_service"
        where = "mlflow_service"
    else:
        chosen, where = candidates(workload, services, evidence, settings.namespace, port)
    if not chosen:
        return "", None, ""
    service = min(chosen, key=lambda item: service_rank(item, workload, port))
    ports = service["spec"].get("ports") or []
    best = next((item for item in ports if targets(item, port, workload)), ports[0] if ports else None)
    return service["metadata"]["name"], best["port"] if best else None, where


def candidates(
    workload: Mapping[str, Any], services: list[dict[str, Any]], evidence: EvidenceSet, namespace: str, port: int
) -> tuple[list[dict[str, Any]], str]:
    """Return the Services that may be the server's, by the best reason that any has, and that reason."""
    labels = workload["spec"]["template"]["metadata"].get("labels", {})
    others = other_workloads(workload, evidence)
    rivals = [labels_of_pods(item) for item in others if is_tracking_server(item)]
    named = names_in_use(evidence, namespace)
    used = [
        item
        for item in services
        if item["metadata"]["name"] in named
        and (
            matches(selector_of(item), labels)
            or not any(matches(selector_of(item), rival_labels) for rival_labels in rivals)
        )
    ]
    selecting = [item for item in services if matches(selector_of(item), labels)]
    return next(
        (
            (found, reason)
            for found, reason in (
                (used, "tracking URI of live clients"),
                (selecting, "selector of the Service"),
                (orphans(workload, services, others, port), "name or port of a Service that selects no pod of another"),
                (namesakes(workload, services, others), "name of the Service"),
            )
            if found
        ),
        ([], ""),
    )


def selector_of(service: Mapping[str, Any]) -> Mapping[str, str]:
    return service["spec"].get("selector") or {}


def labels_of_pods(workload: Mapping[str, Any]) -> Mapping[str, str]:
    return workload["spec"]["template"]["metadata"].get("labels") or {}


def other_workloads(workload: Mapping[str, Any], evidence: EvidenceSet) -> list[dict[str, Any]]:
    listed = [*evidence.objects("kubernetes.deployments"), *evidence.objects("kubernetes.statefulsets")]
    return [item for item in listed if item["metadata"]["name"] != workload["metadata"]["name"]]


def is_tracking_server(workload: Mapping[str, Any]) -> bool:
    return any(read_command(container).is_server for container in workload["spec"]["template"]["spec"]["containers"])


def names_in_use(evidence: EvidenceSet, namespace: str) -> set[str]:
    """Return the Services of a namespace that live clients in other namespaces name in their tracking URI."""
    return {
        name
        for item in evidence.all("kubernetes.pods")
        if item.seen and item.subject not in ("", namespace)
        for pod in item.value["items"]
        for name in services_named(pod, namespace)
    }


def services_named(pod: Mapping[str, Any], namespace: str) -> list[str]:
    """Return the Services of a namespace that a pod's tracking URIs name."""
    values = [
        str(entry.get("value") or "")
        for container in pod["spec"]["containers"]
        for entry in container.get("env") or []
        if entry.get("name") == TRACKING_URI
    ]
    found = [SERVICE_HOST.match(value) for value in values]
    return [match["service"].lower() for match in found if match and match["namespace"].lower() == namespace]


def targets(service_port: Mapping[str, Any], port: int, workload: Mapping[str, Any]) -> bool:
    """Tell whether a Service port leads to the given container port, by number or by name."""
    target = service_port.get("targetPort", service_port["port"])
    if isinstance(target, int) or str(target).isdigit():
        return int(target) == port
    return any(
        item.get("name") == target and item.get("containerPort") == port
        for container in workload["spec"]["template"]["spec"]["containers"]
        for item in container.get("ports") or []
    )


def service_rank(service: Mapping[str, Any], workload: Mapping[str, Any], port: int) -> tuple[int, int, int, str]:
    name = service["metadata"]["name"]
    ports = service["spec"].get("ports") or []
    return (
        0 if any(targets(item, port, workload) for item in ports) else 1,
        1 if service["spec"].get("clusterIP") == "None" else 0,
        0 if name == workload["metadata"]["name"] else 1,
        name,
    )


def stem_of(name: str) -> str:
    return re.sub(r"-(deployment|server|tracking|service|svc)$", "", name)


def orphans(
    workload: Mapping[str, Any], services: list[dict[str, Any]], others: list[dict[str, Any]], port: int
) -> list[dict[str, Any]]:
    """Services that select no workload of the namespace and look as if they were meant for this one."""
    name = workload["metadata"]["name"]
    stem = stem_of(name)
    lonely = [
        item
        for item in services
        if selector_of(item) and not any(matches(selector_of(item), labels_of_pods(other)) for other in others)
    ]
    return [item for item in lonely if stem in item["metadata"]["name"] or item["metadata"]["name"] in name] or [
        item for item in lonely if any(targets(entry, port, workload) for entry in item["spec"].get("ports") or [])
    ]


def namesakes(
    workload: Mapping[str, Any], services: list[dict[str, Any]], others: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Services of the workload's own name that select other pods, unless those belong to a workload of that name."""
    stem = stem_of(workload["metadata"]["name"])
    taken = {stem_of(other["metadata"]["name"]) for other in others}
    return [item for item in services if stem_of(item["metadata"]["name"]) == stem and stem not in taken]
