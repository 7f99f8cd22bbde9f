# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check service, Test internal connectivity (also ingress)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..core.discovery import commands_of
from ..core.discovery_service import services_named, targets
from ..core.evidence import API, SOURCE_PREFIX, Evidence
from ..core.findings import Context, Finding, SectionResult, keys, source_flow
from ..core.signatures import BOUND
from ..core.workload import changed, ready_pods, result_of, server_pods, workload
from . import client_uris
from .pod_containers import log_of
from .policy_flows import admitted_by_label
from .service_endpoints import made_by_hand, replicas, selection
from .service_ingress import ingress

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
    if services.conclusive:
        lost_names(context, services, result)
    selection(context, service, result)
    tried = probes_of_service(context, "probe.tcp")
    made_by_hand(context, service, tried if all(result_of(item) in FAILED for item in tried) else [], result)
    ports(context, service, result)
    replicas(context, result)
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
        namespace = item.place[len(SOURCE_PREFIX) :]
        failures = item.value.get("failures") or []
        if admitted_by_label(context, namespace):
            continue
        if result_of(item) in FAILED:
            found, how = "service.unreachable", result_of(item)
            summary = f"from namespace {namespace} the Service cannot be reached: {how}"
        elif failures:
            found, how = "service.intermittent", ", ".join(sorted(set(failures)))
            summary = f"from namespace {namespace} {len(failures)} of {item.value['tries']} connections failed: {how}"
        else:
            continue
        result.findings.append(
            Finding(
                found,
                f"service/{context.target.service}",
                summary,
                (item.key,),
                flow=source_flow(namespace),
                measured=True,
                facts={"source": namespace, "result": how},
            )
        )
    for item in probes_of_service(context, "probe.dns"):
        if result_of(item) != "ok":
            result.findings.append(name_not_found(context.target.service, item))


def name_not_found(service: str, item: Evidence) -> Finding:
    namespace = item.place[len(SOURCE_PREFIX) :]
    return Finding(
        "service.name_not_found",
        f"service/{service}",
        f"from namespace {namespace} the name of service/{service} is not found",
        (item.key,),
        flow=source_flow(namespace),
        measured=True,
    )


def lost_names(context: Context, services: Evidence, result: SectionResult) -> set[str]:
    """Report Services that live clients name and that are not there; return their names."""
    aliases = {
        item["metadata"]["name"]: item["spec"].get("externalName", "")
        for item in services.value["items"]
        if item["spec"].get("type") == "ExternalName"
    }
    known = {item["metadata"]["name"] for item in services.value["items"]} - set(aliases)
    clients: dict[str, list[Evidence]] = {}
    for listed in context.evidence.all("kubernetes.pods", API):
        if not listed.seen or listed.subject in ("", context.target.namespace):
            continue
        for pod in listed.value["items"]:
            for name in services_named(pod, context.target.namespace):
                if name not in known:
                    clients.setdefault(name, []).append(listed)
    for name, proof in clients.items():
        looked = [
            item
            for item in context.evidence.all("probe.dns")
            if item.seen and item.subject.startswith(f"{name}.{context.target.namespace}.")
        ]
        lost = [item for item in looked if result_of(item) == "not_found"]
        if any(result_of(item) == "ok" for item in looked):
            continue
        users = ", ".join(sorted({item.subject for item in proof}))
        instead = f"; service/{context.target.service} is there" if context.target.service else ""
        if name in aliases and not lost:
            continue
        result.findings += [name_not_found(name, item) for item in lost]
        result.findings.append(
            Finding(
                "service.missing",
                f"service/{name}",
                f"clients in namespace {users} use service/{name}, which "
                + (
                    f"is only an alias of {aliases[name]}, a name that is not found{instead}"
                    if name in aliases
                    else f"namespace {context.target.namespace} does not have{instead}"
                ),
                keys([services, *proof, *lost]),
                configured=True,
                measured=bool(lost),
                facts={"service": name, "sources": sorted({item.subject for item in proof})},
            )
        )
    return set(clients)


def missing(context: Context, services: Evidence, result: SectionResult) -> None:
    """Report that the server has no Service, unless its clients have told the name already."""
    if lost_names(context, services, result):
        return
    name = context.target.service
    kind = context.target.kind.lower()
    result.findings.append(
        Finding(
            "service.missing",
            f"service/{name}" if name else f"{kind}/{context.target.deployment}",
            f"namespace {context.target.namespace} has no Service {name or 'for ' + context.target.deployment}",
            keys([services]),
            configured=True,
            facts={"service": name},
        )
    )


def ports(context: Context, service: Mapping[str, Any], result: SectionResult) -> None:
    """A Service port that leads to a port nobody listens on refuses, although endpoints exist."""
    found = workload(context)
    entries = service["spec"].get("ports") or []
    if found is None or not entries or any(targets(item, context.target.port, found) for item in entries):
        return
    if not port_is_known(context, found):
        return
    declared = {
        value
        for container in found["spec"]["template"]["spec"]["containers"]
        if container["name"] != context.target.container
        for item in container.get("ports") or []
        for value in (item.get("containerPort"), item.get("name"))
    }
    tried = probes_of_service(context, "probe.tcp")
    refused = [item for item in tried if result_of(item) in FAILED]
    meant = any(item.get("targetPort", item["port"]) in declared for item in entries)
    if meant and not (tried and all(result_of(item) == "refused" for item in tried) and ready_pods(context)):
        return
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
            facts={"port": context.target.port, "service": name, "patch": port_patch(context, entries)},
        )
    )


def port_is_known(context: Context, found: Mapping[str, Any]) -> bool:
    """Tell whether MLflow's port is given or was seen; a default alone may hide an option that is misspelt."""
    command = commands_of(found, context.evidence).get(context.target.container)
    if command and ("port" in command.options or "MLFLOW_PORT" in {*command.environment, *command.references}):
        return True
    wanted = f":{context.target.port}"
    heard = [item for item in context.evidence.all("probe.tcp") if item.seen and item.subject.endswith(wanted)]
    if any(result_of(item) == "ok" for item in heard):
        return True
    logs = [item for pod in server_pods(context) for item in log_of(context, pod, context.target.container)]
    said = [match["port"] for item in logs for line in item.value["lines"] if (match := BOUND.search(line["text"]))]
    return str(context.target.port) in said


def port_patch(context: Context, entries: list[dict[str, Any]]) -> str:
    """Return the change that lets the Service's port lead to MLflow, as a JSON patch."""
    index = next((i for i, item in enumerate(entries) if item["port"] == context.target.service_port), 0)
    return json.dumps([{"op": "replace", "path": f"/spec/ports/{index}/targetPort", "value": context.target.port}])
