# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check service, Test internal connectivity (also ingress)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..core.discovery_service import matches, targets
from ..core.evidence import API, Evidence
from ..core.findings import FROM_INGRESS, Context, Finding, SectionResult, keys, source_flow
from ..core.workload import labels_of, result_of, workload
from . import client_uris

SOURCE_PREFIX = "source:"
FAILED = frozenset({"refused", "timeout", "reset", "error"})


def analyze(context: Context) -> SectionResult:
    """Judge the way from the clients to the pods: Service, endpoints, name, ports, ingress."""
    result = SectionResult()
    reachability(context, result)
    services = context.evidence.first("kubernetes.services", API, context.target.namespace)
    if services is None or not services.seen:
        return result
    service = find(context)
    if service is None:
        if services.conclusive:
            missing(context, services, result)
        return result
    selection(context, service, result)
    ports(context, service, result)
    ingress(context, service, result)
    client_uris.analyze(context, service, result)
    reached = [item for item in probes_of_service(context, "probe.tcp") if result_of(item) == "ok"]
    if reached and not result.findings:
        for what in ("service.selector_matches_nothing", "service.port_mismatch", "service.no_endpoints"):
            result.rule_out(what, *reached)
    return result


def find(context: Context) -> dict[str, Any] | None:
    for item in context.evidence.objects("kubernetes.services", context.target.namespace):
        if item["metadata"]["name"] == context.target.service:
            return item
    return None


def probes_of_service(context: Context, what: str) -> list[Evidence]:
    """Return what the source places saw of the Service's name."""
    host = f"{context.target.service}.{context.target.namespace}"
    return [
        item
        for item in context.evidence.all(what)
        if item.place.startswith(SOURCE_PREFIX) and item.seen and host in item.subject
    ]


def reachability(context: Context, result: SectionResult) -> None:
    """Report each source namespace whose packets or names fail on the way to the Service."""
    if not context.target.service:
        return
    for item in probes_of_service(context, "probe.tcp"):
        if result_of(item) not in FAILED:
            continue
        namespace = item.place[len(SOURCE_PREFIX) :]
        result.findings.append(
            Finding(
                "service.unreachable",
                f"service/{context.target.service}",
                f"from namespace {namespace} the Service cannot be reached: {result_of(item)}",
                (item.key,),
                flow=source_flow(namespace),
                measured=True,
                facts={"source": namespace, "result": result_of(item)},
            )
        )
    for item in probes_of_service(context, "probe.dns"):
        if result_of(item) == "ok":
            continue
        namespace = item.place[len(SOURCE_PREFIX) :]
        result.findings.append(
            Finding(
                "service.name_not_found",
                f"service/{context.target.service}",
                f"from namespace {namespace} the Service's name is not found",
                (item.key,),
                flow=source_flow(namespace),
                measured=True,
            )
        )


def missing(context: Context, services: Evidence, result: SectionResult) -> None:
    name = context.target.service
    result.findings.append(
        Finding(
            "service.missing",
            f"service/{name}" if name else f"{context.target.kind.lower()}/{context.target.deployment}",
            f"namespace {context.target.namespace} has no Service {name or 'for ' + context.target.deployment}",
            keys([services]),
            configured=True,
        )
    )


def selection(context: Context, service: Mapping[str, Any], result: SectionResult) -> None:
    name = service["metadata"]["name"]
    selector = service["spec"].get("selector") or {}
    template_labels = template_of(context)
    slices = [
        item
        for item in context.evidence.objects("kubernetes.endpointslices", context.target.namespace)
        if item["metadata"].get("labels", {}).get("kubernetes.io/service-name") == name
    ]
    ready = [
        endpoint
        for item in slices
        for endpoint in item.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready") is not False
    ]
    proof = keys(
        context.evidence.first(what, API, context.target.namespace)
        for what in ("kubernetes.services", "kubernetes.endpointslices", "kubernetes.pods")
    )
    if selector and not matches(selector, template_labels):
        others = [
            item
            for item in context.evidence.objects("kubernetes.pods", context.target.namespace)
            if matches(selector, labels_of(item))
        ]
        wrong = {key: value for key, value in selector.items() if template_labels.get(key) != value}
        patch = json.dumps({"spec": {"selector": dict(repaired(selector, template_labels, context.target.selector))}})
        result.findings.append(
            Finding(
                "service.selector_matches_others" if others else "service.selector_matches_nothing",
                f"service/{name}",
                f"the selector of service/{name} ({spell(selector)}) matches {'other pods' if others else 'no pod'}; "
                f"the server's pods differ in {', '.join(sorted(wrong))}",
                proof,
                since=changed(service),
                configured=True,
                measured=not ready or bool(others),
                facts={"patch": patch, "service": name},
            )
        )
    if selector and not ready and was_seen(context, "kubernetes.endpointslices"):
        summary = f"service/{name} has no ready endpoint"
        result.findings.append(Finding("service.no_endpoints", f"service/{name}", summary, proof, measured=True))


def was_seen(context: Context, what: str) -> bool:
    item = context.evidence.first(what, API, context.target.namespace)
    return item is not None and item.seen


def spell(selector: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))


def repaired(
    selector: Mapping[str, str], labels: Mapping[str, str], deployment_selector: Mapping[str, str]
) -> Mapping[str, str | None]:
    """Return the change that lets a selector match again: wrong terms removed, the workload's own terms put in."""
    change: dict[str, str | None] = {key: None for key, value in selector.items() if labels.get(key) != value}
    change.update({key: value for key, value in deployment_selector.items() if selector.get(key) != value})
    return change


def template_of(context: Context) -> Mapping[str, str]:
    found = workload(context)
    return (found["spec"]["template"]["metadata"].get("labels") or {}) if found else context.target.selector


def changed(obj: Mapping[str, Any]) -> str | None:
    """Return when a person or controller last changed the object's specification, as the API server recorded it."""
    moments = [item["time"] for item in obj["metadata"].get("lastChanged") or [] if item.get("time")]
    created = obj["metadata"].get("creationTimestamp")
    latest = max(moments, default=None)
    return latest if latest and latest != created else None


def ports(context: Context, service: Mapping[str, Any], result: SectionResult) -> None:
    """A Service port that leads to a port nobody listens on refuses, although endpoints exist."""
    found = workload(context)
    entries = service["spec"].get("ports") or []
    if found is None or not entries or any(targets(item, context.target.port, found) for item in entries):
        return
    declared = {
        item.get("containerPort")
        for container in found["spec"]["template"]["spec"]["containers"]
        if container["name"] != context.target.container
        for item in container.get("ports") or []
    }
    if any(item.get("targetPort") in declared for item in entries):
        return
    refused = [item for item in probes_of_service(context, "probe.tcp") if result_of(item) in FAILED]
    name = service["metadata"]["name"]
    wanted = ", ".join(str(item.get("targetPort", item["port"])) for item in entries)
    result.findings.append(
        Finding(
            "service.port_mismatch",
            f"service/{name}",
            f"service/{name} leads to port {wanted}, MLflow listens on {context.target.port}",
            (*keys([context.evidence.first("kubernetes.services", API)]), *keys(refused)),
            since=changed(service),
            configured=True,
            measured=bool(refused),
            facts={"port": context.target.port, "service": name},
        )
    )


def ingress(context: Context, service: Mapping[str, Any], result: SectionResult) -> None:
    """Find ingress backends in the namespace that name this server but not a port or Service that exists."""
    services = {
        item["metadata"]["name"]: item
        for item in context.evidence.objects("kubernetes.services", context.target.namespace)
    }
    for item in context.evidence.objects("kubernetes.ingresses", context.target.namespace):
        for backend in backends(item):
            wrong = backend_problem(backend, services)
            related = backend.get("name") == service["metadata"]["name"] or (
                backend.get("name") not in services and context.target.name in item["metadata"]["name"]
            )
            if wrong and related:
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
