# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network policy blocking: what the policies say about each flow, held against what the probes saw."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any

from ..core.evidence import API, SOURCE_PREFIX, Evidence
from ..core.findings import (
    TO_DATABASE,
    TO_DNS,
    TO_IDENTITY,
    TO_OBJECT_STORAGE,
    Context,
    Finding,
    SectionResult,
    Unknown,
    keys,
    source_flow,
)
from ..core.network_policy import EGRESS, INGRESS, Decision, Peer, decide
from ..core.workload import probes_from_server, result_of, server_pods, template_spec, workload_name
from .policy_flows import (
    admitted_by_label,
    dns_peer,
    peer_behind,
    policies,
    seen_address,
    server_peer,
    source_peer,
    sources,
)
from .service import changed

BLOCKED = frozenset({"refused", "timeout", "reset"})
"""kube-router rejects, the AWS VPC CNI and Calico drop: both are seen in the field."""

DNS_PORT = 53
HTTP_PORT = 80
HTTPS_PORT = 443


def analyze(context: Context) -> SectionResult:
    """Judge every flow by all policies, and blame a policy only where the behaviour does not contradict it."""
    result = SectionResult()
    seen = context.evidence.first("kubernetes.networkpolicies", API, context.target.namespace)
    if seen is None or not seen.seen:
        return result
    for namespace in sources(context):
        from_source(context, namespace, result)
    to_dns(context, result)
    to_database(context, result)
    to_aws(context, result)
    return result


def blame(
    context: Context,
    identifier: str,
    decision: Decision,
    behaviour: list[Evidence],
    flow: str,
    summary: str,
    facts: Mapping[str, Any],
) -> Finding | None:
    """Build the finding, unless a probe got through: then the policy is not (yet) in force."""
    if any(result_of(item) == "ok" for item in behaviour):
        return None
    namespace = str(facts["policy_namespace"])
    objects = {
        item["metadata"]["name"]: item for item in policies(context) if item["metadata"]["namespace"] == namespace
    }
    newest = max(
        decision.isolating,
        key=lambda name: (changed(objects[name]) or objects[name]["metadata"].get("creationTimestamp", ""), name),
    )
    return Finding(
        identifier,
        f"networkpolicy/{newest}",
        summary,
        (*keys([context.evidence.first("kubernetes.networkpolicies", API, namespace)]), *keys(behaviour)),
        flow=flow,
        since=changed(objects[newest]) or objects[newest]["metadata"].get("creationTimestamp"),
        configured=True,
        measured=any(result_of(item) in BLOCKED for item in behaviour),
        facts={"policies": ", ".join(f"networkpolicy/{name}" for name in decision.isolating), **facts},
    )


def from_source(context: Context, namespace: str, result: SectionResult) -> None:
    port, server, source = context.target.port, server_peer(context), source_peer(context, namespace)
    behaviour = probes_of_source(context, namespace)
    lately = in_force(context, namespace, behaviour)
    direct = [item for item in behaviour if f".{context.target.namespace}" not in item.subject]
    facts = {"source": namespace, "port": port}
    ingress = decide(policies(context), INGRESS, server, source, port)
    if not ingress.allowed:
        summary = (
            f"no NetworkPolicy in {context.target.namespace} lets namespace {namespace} reach MLflow on port {port}"
        )
        found = blame(
            context,
            "network_policy.ingress_denied",
            ingress,
            lately,
            source_flow(namespace),
            summary,
            {**facts, "policy_namespace": context.target.namespace},
        )
        result.findings += [found] if found else []
    passes = source_egress(context, namespace, source, server, lately, result)
    if admitted_by_label(context, namespace):
        result.unknown.append(
            Unknown(
                f"whether clients in namespace {namespace} reach MLflow",
                "its NetworkPolicies admit clients by their labels, and none runs whose labels could be taken",
                f"a client that runs in namespace {namespace}",
            )
        )
    elif ingress.allowed and passes and direct and all(result_of(item) in BLOCKED for item in behaviour):
        result.unknown.append(
            Unknown(
                f"what stops packets from namespace {namespace} on their way to MLflow's pods",
                f"no NetworkPolicy does, and addresses of pods fail like the Service ({result_of(behaviour[0])})",
                "a person: the network plugin, the firewall of the nodes, the security groups of the pods",
            )
        )
    elif ingress.allowed and passes:
        proof = context.evidence.first("kubernetes.networkpolicies", API, context.target.namespace)
        result.rule_out(
            "network_policy.ingress_denied",
            *([proof] if proof else []),
            *[item for item in behaviour if result_of(item) == "ok"],
        )


def in_force(context: Context, namespace: str, behaviour: list[Evidence]) -> list[Evidence]:
    """Leave out what came through only before the policies reached the new pod: calls are made after connections."""
    host = f"{context.target.service}.{context.target.namespace}"
    asked = context.evidence.all("probe.http", SOURCE_PREFIX + namespace)
    made = [item for item in asked if item.seen and host in item.subject]
    if not made or any(result_of(item) == "ok" for item in made):
        return behaviour
    return [*(item for item in behaviour if result_of(item) != "ok"), *made]


def source_egress(
    context: Context, namespace: str, source: Peer, server: Peer, behaviour: list[Evidence], result: SectionResult
) -> bool:
    """Judge the policies of the clients' namespace: the way to MLflow, and to DNS before it."""
    port = context.target.port
    lookups = probes_of_source(context, namespace, "probe.dns")
    failed = [item for item in lookups if result_of(item) in ("try_again", "timeout", "not_found")]
    refused = f"the NetworkPolicies of namespace {namespace} do not let its pods"
    facts = {"source": namespace, "port": port, "policy_namespace": namespace}
    egress = decide(policies(context), EGRESS, source, server, port)
    names = decide(policies(context), EGRESS, source, dns_peer(context), DNS_PORT, "UDP")
    found = None
    if not egress.allowed:
        summary = f"{refused} reach MLflow on port {port}"
        found = blame(
            context,
            "network_policy.source_egress_denied",
            egress,
            [*behaviour, *failed],
            source_flow(namespace),
            summary,
            {**facts, "destination": f"namespace {context.target.namespace} on TCP {port}"},
        )
    elif not names.allowed and failed:
        found = blame(
            context,
            "network_policy.source_egress_denied",
            names,
            failed,
            source_flow(namespace),
            f"{refused} ask DNS (UDP {DNS_PORT})",
            {**facts, "destination": f"DNS on UDP and TCP {DNS_PORT}"},
        )
    result.findings += [found] if found else []
    return egress.allowed and (names.allowed or not failed)


def probes_of_source(context: Context, namespace: str, what: str = "probe.tcp") -> list[Evidence]:
    """Return what a source's place saw of the Service's name and of the server's pods."""
    host = f"{context.target.service}.{context.target.namespace}"
    addresses = {(pod.get("status") or {}).get("podIP") for pod in server_pods(context)}
    return [
        item
        for item in context.evidence.all(what, SOURCE_PREFIX + namespace)
        if item.seen and (host in item.subject or item.subject.rpartition(":")[0] in addresses)
    ]


def egress_to(context: Context, other: Peer, port: int, protocol: str = "TCP") -> Decision:
    return decide(policies(context), EGRESS, server_peer(context), other, port, protocol)


def denying(context: Context) -> str:
    return f"the NetworkPolicies of namespace {context.target.namespace} do not let"


def to_dns(context: Context, result: SectionResult) -> None:
    lookups = probes_from_server(context, "probe.dns")
    failing = [item for item in lookups if result_of(item) in ("try_again", "timeout")]
    decision = egress_to(context, dns_peer(context), DNS_PORT, "UDP")
    if not decision.allowed and (failing or not lookups):
        summary = f"{denying(context)} MLflow ask DNS (UDP {DNS_PORT})"
        found = blame(
            context,
            "network_policy.egress_denied",
            decision,
            failing,
            TO_DNS,
            summary,
            {"destination": f"DNS on UDP and TCP {DNS_PORT}", "policy_namespace": context.target.namespace},
        )
        result.findings += [found] if found else []
    if failing:
        error = failing[0].value.get("error", "")
        own_resolver(context, failing, result)
        result.findings.append(
            Finding(
                "network_policy.dns_failing",
                "service/kube-dns",
                f"MLflow's pods cannot resolve names: {error}",
                keys(failing),
                flow=TO_DNS,
                measured=True,
                facts={"error": error},
            )
        )


def own_resolver(context: Context, failing: list[Evidence], result: SectionResult) -> None:
    """Report a pod template that asks DNS servers of its own: then the cluster's may be well (field guide N-02)."""
    spec = template_spec(context)
    servers = ", ".join((spec.get("dnsConfig") or {}).get("nameservers") or [])
    if spec.get("dnsPolicy") != "None" or not servers:
        return
    result.findings.append(
        Finding(
            "network_policy.own_dns_failing",
            workload_name(context),
            f"{workload_name(context)} asks its own DNS servers ({servers}), and names do not resolve",
            keys([context.evidence.first("kubernetes.deployments", API), *failing]),
            flow=TO_DNS,
            configured=True,
            measured=True,
            facts={"servers": servers},
        )
    )


def to_database(context: Context, result: SectionResult) -> None:
    backend = context.target.backend
    host, port = str(backend.get("host") or ""), backend.get("port")
    attempts = probes_from_server(context, "probe.tcp", f"{host}:{port}")
    to_store(context, result, TO_DATABASE, "its database", host, int(port or 0), attempts)


def to_aws(context: Context, result: SectionResult) -> None:
    attempts = probes_from_server(context, "probe.tcp")
    own = urllib.parse.urlsplit(context.target.artifact_endpoint)
    if own.hostname:
        port = own.port or (HTTPS_PORT if own.scheme == "https" else HTTP_PORT)
        tried = [item for item in attempts if item.subject == f"{own.hostname}:{port}"]
        to_store(context, result, TO_OBJECT_STORAGE, "its artifact store", own.hostname, port, tried)
        return
    for flow, service in ((TO_OBJECT_STORAGE, "s3"), (TO_IDENTITY, "sts")):
        tried = [item for item in attempts if service in item.subject.split(".")[:2] and ".amazonaws." in item.subject]
        to_store(context, result, flow, service.upper(), f"{service}.amazonaws.com", HTTPS_PORT, tried)


def to_store(
    context: Context, result: SectionResult, flow: str, name: str, host: str, port: int, attempts: list[Evidence]
) -> None:
    """Judge the way from MLflow to something that it stores in, where the address was tried."""
    address = seen_address(attempts)
    behind = peer_behind(context, host, address, port) if address and port else None
    if behind is None:
        return
    decision = egress_to(context, *behind)
    if decision.allowed:
        return
    summary = f"{denying(context)} MLflow reach {name} at {address}:{port}"
    facts = {"destination": f"{name} ({address}) on TCP {port}", "policy_namespace": context.target.namespace}
    found = blame(context, "network_policy.egress_denied", decision, attempts, flow, summary, facts)
    result.findings += [found] if found else []
