# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network policy blocking: what the policies say about each flow, held against what the probes saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.evidence import API, Evidence
from ..core.findings import (
    TO_DATABASE,
    TO_DNS,
    TO_IDENTITY,
    TO_OBJECT_STORAGE,
    Context,
    Finding,
    SectionResult,
    keys,
    source_flow,
)
from ..core.network_policy import EGRESS, INGRESS, Decision, Peer, decide
from ..core.workload import labels_of, probes_from_server, result_of, server_pods, workload
from .service import SOURCE_PREFIX, changed, probes_of_service

BLOCKED = frozenset({"refused", "timeout", "reset"})
"""kube-router rejects, the AWS VPC CNI and Calico drop: both are seen in the field."""

DNS_PORT = 53
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


def policies(context: Context) -> list[dict[str, Any]]:
    return context.evidence.objects("kubernetes.networkpolicies")


def namespace_labels(context: Context, name: str) -> Mapping[str, str]:
    for item in context.evidence.objects("kubernetes.namespaces"):
        if item["metadata"]["name"] == name:
            return labels_of(item)
    return {"kubernetes.io/metadata.name": name}


def peer_of(
    context: Context,
    namespace: str,
    labels: Mapping[str, str],
    *,
    address: str = "",
    ports: Mapping[str, int] | None = None,
) -> Peer:
    return Peer(namespace, labels, namespace_labels(context, namespace), address, ports or {})


def server_peer(context: Context) -> Peer:
    found = workload(context)
    template = found["spec"]["template"] if found else {"metadata": {}, "spec": {"containers": []}}
    pods = server_pods(context)
    labels = labels_of(pods[0]) if pods else template["metadata"].get("labels") or {}
    ports = {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports") or []
        if port.get("name")
    }
    address = pods[0].get("status", {}).get("podIP", "") if pods else ""
    return peer_of(context, context.target.namespace, labels, address=address, ports=ports)


def sources(context: Context) -> list[str]:
    return sorted(
        {item.place[len(SOURCE_PREFIX) :] for item in context.evidence if item.place.startswith(SOURCE_PREFIX)}
    )


def source_peer(context: Context, namespace: str) -> Peer:
    """Return the source as its probe pod stood for it, which carries a live client's labels when there is one."""
    probe = context.evidence.first("probe.pod", SOURCE_PREFIX + namespace)
    labels = (probe.value or {}).get("labels") if probe is not None and probe.seen else None
    if labels is None:
        labels = next(
            (
                labels_of(pod)
                for pod in context.evidence.objects("kubernetes.pods", namespace)
                if pod.get("status", {}).get("phase") == "Running"
            ),
            {},
        )
    return peer_of(context, namespace, labels)


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
            behaviour,
            source_flow(namespace),
            summary,
            {**facts, "policy_namespace": context.target.namespace},
        )
        result.findings += [found] if found else []
    egress = decide(policies(context), EGRESS, source, server, port)
    if not egress.allowed:
        summary = f"the NetworkPolicies of namespace {namespace} do not let its pods reach MLflow on port {port}"
        found = blame(
            context,
            "network_policy.source_egress_denied",
            egress,
            behaviour,
            source_flow(namespace),
            summary,
            {**facts, "policy_namespace": namespace},
        )
        result.findings += [found] if found else []
    if ingress.allowed and egress.allowed:
        proof = context.evidence.first("kubernetes.networkpolicies", API, context.target.namespace)
        result.rule_out(
            "network_policy.ingress_denied",
            *([proof] if proof else []),
            *[item for item in behaviour if result_of(item) == "ok"],
        )


def probes_of_source(context: Context, namespace: str) -> list[Evidence]:
    return [item for item in probes_of_service(context, "probe.tcp") if item.place == SOURCE_PREFIX + namespace]


def egress_to(context: Context, other: Peer, port: int, protocol: str = "TCP") -> Decision:
    return decide(policies(context), EGRESS, server_peer(context), other, port, protocol)


def denying(context: Context) -> str:
    return f"the NetworkPolicies of namespace {context.target.namespace} do not let"


def to_dns(context: Context, result: SectionResult) -> None:
    lookups = probes_from_server(context, "probe.dns")
    failing = [item for item in lookups if result_of(item) in ("try_again", "timeout")]
    kube_dns = peer_of(context, "kube-system", {"k8s-app": "kube-dns"})
    decision = egress_to(context, kube_dns, DNS_PORT, "UDP")
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


def to_database(context: Context, result: SectionResult) -> None:
    backend = context.target.backend
    attempts = probes_from_server(context, "probe.tcp", f"{backend.get('host')}:{backend.get('port')}")
    address = next((item.value["address"] for item in attempts if item.value.get("address")), "")
    if not address or not backend.get("port"):
        return
    decision = egress_to(context, Peer(address=str(address)), int(backend["port"]))
    if decision.allowed:
        return
    summary = f"{denying(context)} MLflow reach its database at {address}:{backend['port']}"
    facts = {"destination": f"{address} on TCP {backend['port']}", "policy_namespace": context.target.namespace}
    found = blame(context, "network_policy.egress_denied", decision, attempts, TO_DATABASE, summary, facts)
    result.findings += [found] if found else []


def to_aws(context: Context, result: SectionResult) -> None:
    for flow, prefix in ((TO_OBJECT_STORAGE, "s3"), (TO_IDENTITY, "sts")):
        attempts = [
            item
            for item in probes_from_server(context, "probe.tcp")
            if prefix in item.subject.split(".")[:2] or item.subject.startswith(f"{prefix}.")
        ]
        address = next((item.value["address"] for item in attempts if item.value.get("address")), "")
        if not address:
            continue
        decision = egress_to(context, Peer(address=str(address)), HTTPS_PORT)
        if decision.allowed:
            continue
        summary = f"{denying(context)} MLflow reach {prefix.upper()} at {address}:{HTTPS_PORT}"
        facts = {"destination": f"{prefix.upper()} on TCP {HTTPS_PORT}", "policy_namespace": context.target.namespace}
        found = blame(context, "network_policy.egress_denied", decision, attempts, flow, summary, facts)
        result.findings += [found] if found else []
