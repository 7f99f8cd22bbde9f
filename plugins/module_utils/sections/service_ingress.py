# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ingress rules that name the server's Service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.discovery_service import stem_of
from ..core.evidence import API
from ..core.findings import FROM_INGRESS, Context, Finding, SectionResult, keys
from ..core.workload import changed, labels_of


def ingress(context: Context, service: Mapping[str, Any], result: SectionResult) -> None:
    """Find ingress backends in the namespace that name this server but not a port or Service that exists."""
    services = {
        item["metadata"]["name"]: item
        for item in context.evidence.objects("kubernetes.services", context.target.namespace)
    }
    for item in context.evidence.objects("kubernetes.ingresses", context.target.namespace):
        for backend in backends(item):
            wrong = backend_problem(backend, services)
            ours = backend["name"] == service["metadata"]["name"]
            if wrong and (ours or (backend["name"] not in services and is_ours(context, item, service))):
                name = item["metadata"]["name"]
                result.findings.append(
                    Finding(
                        "service.ingress_backend_wrong",
                        f"ingress/{name}",
                        f"ingress/{name}: {wrong}",
                        keys(
                            context.evidence.first(what, API)
                            for what in ("kubernetes.ingresses", "kubernetes.services")
                        ),
                        flow=FROM_INGRESS,
                        since=changed(item),
                        configured=True,
                        facts={"ingress": name, "reason": wrong},
                    )
                )


def is_ours(context: Context, item: Mapping[str, Any], service: Mapping[str, Any]) -> bool:
    """Tell whether an ingress with a backend that does not exist was made for this server."""
    hosts = [str(rule.get("host") or "") for rule in item["spec"].get("rules") or []]
    named = [item["metadata"]["name"], *hosts, *(backend["name"] for backend in backends(item))]
    words = {stem_of(context.target.deployment), stem_of(service["metadata"]["name"]), "mlflow"}
    alike = set(labels_of(item).items()) & set(context.target.selector.items())
    leads_here = any(backend["name"] == service["metadata"]["name"] for backend in backends(item))
    return leads_here or bool(alike) or any(word in name for word in words for name in named)


def backends(ingress_object: Mapping[str, Any]) -> list[dict[str, Any]]:
    spec = ingress_object["spec"]
    found = [(spec.get("defaultBackend") or {}).get("service")]
    found += [
        (path.get("backend") or {}).get("service")
        for rule in spec.get("rules") or []
        for path in (rule.get("http") or {}).get("paths") or []
    ]
    return [item for item in found if item]


def backend_problem(backend: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]) -> str:
    service = services.get(backend["name"])
    if service is None:
        return f"its backend Service {backend['name']} does not exist"
    port = backend.get("port") or {}
    known = service["spec"].get("ports") or []
    if port.get("number") and port["number"] not in [item["port"] for item in known]:
        return f"its backend port {port['number']} is not a port of service/{backend['name']}"
    if port.get("name") and port["name"] not in [item.get("name") for item in known]:
        return f"its backend port {port['name']} is not a port of service/{backend['name']}"
    return ""
