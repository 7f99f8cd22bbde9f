# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Service belongs to a workload."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .evidence import EvidenceSet
from .settings import Settings


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether equality based selector terms all hold; an empty selector matches nothing here."""
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def find_service(
    workload: Mapping[str, Any], port: int, evidence: EvidenceSet, settings: Settings
) -> tuple[str, int | None]:
    """Return the Service by name, by selector, or (when a selector may be broken) by name or port likeness."""
    services = [
        item
        for item in evidence.objects("kubernetes.services", settings.namespace)
        if item["spec"].get("type") != "ExternalName"
    ]
    labels = workload["spec"]["template"]["metadata"].get("labels", {})
    if settings.service:
        chosen = [item for item in services if item["metadata"]["name"] == settings.service]
        if not chosen:
            return settings.service, None
    else:
        chosen = [item for item in services if matches(item["spec"].get("selector") or {}, labels)] or orphans(
            workload, services, evidence, port
        )
    if not chosen:
        return "", None
    service = min(chosen, key=lambda item: service_rank(item, workload, port))
    ports = service["spec"].get("ports") or []
    best = next((item for item in ports if targets(item, port, workload)), ports[0] if ports else None)
    return service["metadata"]["name"], best["port"] if best else None


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


def orphans(
    workload: Mapping[str, Any], services: list[dict[str, Any]], evidence: EvidenceSet, port: int
) -> list[dict[str, Any]]:
    """Services that select no workload of the namespace and look as if they were meant for this one."""
    others = [
        item["spec"]["template"]["metadata"].get("labels", {}) for item in evidence.objects("kubernetes.deployments")
    ]
    name = workload["metadata"]["name"]
    stem = re.sub(r"-(deployment|server|tracking)$", "", name)
    lonely = [
        item
        for item in services
        if item["spec"].get("selector") and not any(matches(item["spec"]["selector"], labels) for labels in others)
    ]
    return [item for item in lonely if stem in item["metadata"]["name"] or item["metadata"]["name"] in name] or [
        item for item in lonely if any(targets(entry, port, workload) for entry in item["spec"].get("ports") or [])
    ]
