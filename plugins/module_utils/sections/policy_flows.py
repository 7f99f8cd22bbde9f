# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ends of every flow as network policies see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.discovery_service import matches
from ..core.evidence import SOURCE_PREFIX, Evidence
from ..core.findings import Context
from ..core.network_policy import INGRESS, Peer, decide
from ..core.workload import labels_of, server_pods, workload

OUR_LABEL = "mlflow-runbook.mlops/probe"
CLUSTER_DOMAIN = (".svc", ".svc.cluster.local")


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
    labels: Mapping[str, str] | None,
    *,
    address: str = "",
    ports: Mapping[str, int] | None = None,
) -> Peer:
    return Peer(namespace, labels, namespace_labels(context, namespace), address, ports or {})


def pod_peer(context: Context, namespace: str, pod: Mapping[str, Any]) -> Peer:
    return peer_of(
        context,
        namespace,
        labels_of(pod),
        address=str((pod.get("status") or {}).get("podIP") or ""),
        ports=port_names(pod["spec"]),
    )


def port_names(pod_spec: Mapping[str, Any]) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for container in pod_spec["containers"]
        for port in container.get("ports") or []
        if port.get("name")
    }


def server_peer(context: Context) -> Peer:
    """Return the server: one of its pods, or what its template would make."""
    pods = server_pods(context)
    if pods:
        return pod_peer(context, context.target.namespace, pods[0])
    found = workload(context)
    template = found["spec"]["template"] if found else {"metadata": {}, "spec": {"containers": []}}
    labels = template["metadata"].get("labels") or {}
    return peer_of(context, context.target.namespace, labels, ports=port_names(template["spec"]))


def sources(context: Context) -> list[str]:
    """Return the namespaces of clients that were looked at."""
    return sorted(
        {item.place[len(SOURCE_PREFIX) :] for item in context.evidence if item.place.startswith(SOURCE_PREFIX)}
    )


def stand_in_labels(context: Context, namespace: str) -> Mapping[str, str] | None:
    """Return the labels of the pod that stood for a source; ``None`` when none ran."""
    probe = context.evidence.first("probe.pod", SOURCE_PREFIX + namespace)
    if probe is None or not probe.seen or "labels" not in (probe.value or {}):
        return None
    return {key: value for key, value in probe.value["labels"].items() if key != OUR_LABEL}


def source_peer(context: Context, namespace: str) -> Peer:
    """Return the source as its probe pod stood for it, which carries a live client's labels when there is one.

    Without a live client nobody knows the labels that the next one will have.
    """
    running = [
        pod
        for pod in context.evidence.objects("kubernetes.pods", namespace)
        if (pod.get("status") or {}).get("phase") == "Running"
    ]
    labels = stand_in_labels(context, namespace)
    if labels is None and namespace != context.target.namespace:
        labels = next((labels_of(pod) for pod in running), None)
    alike = [pod for pod in running if labels and matches(labels, labels_of(pod))]
    address = next((pod["status"].get("podIP", "") for pod in [*alike, *running]), "")
    return peer_of(context, namespace, labels or None, address=str(address or ""))


def admitted_by_label(context: Context, namespace: str) -> bool:
    """Tell whether a client with the right labels could pass where our unlabelled stand-in is refused."""
    labels = stand_in_labels(context, namespace)
    if labels is None or labels:
        return False
    source, server = source_peer(context, namespace), server_peer(context)
    bare = peer_of(context, namespace, {}, address=source.address)
    known = policies(context)
    return (
        decide(known, INGRESS, server, source, context.target.port).allowed
        and not decide(known, INGRESS, server, bare, context.target.port).allowed
    )


def dns_peer(context: Context) -> Peer:
    known = context.evidence.value("kubernetes.dns", default={})
    address = next(iter(known.get("addresses") or []), "")
    selector = ((known.get("service") or {}).get("spec") or {}).get("selector") or {"k8s-app": "kube-dns"}
    return peer_of(context, "kube-system", selector, address=address)


def peer_behind(context: Context, host: str, address: str, port: int) -> tuple[Peer, int] | None:
    """Return who answers at an address: a pod behind a Service of the namespace, or an end outside of the cluster.

    ``None`` for Services elsewhere in the cluster, whose pods are not known.
    """
    for service in context.evidence.objects("kubernetes.services", context.target.namespace):
        spec = service["spec"]
        named = host.split(".", maxsplit=1)[0] == service["metadata"]["name"] and (
            "." not in host or f"{host}.".startswith(f"{service['metadata']['name']}.{context.target.namespace}.")
        )
        if not named and address not in (spec.get("clusterIPs") or [spec.get("clusterIP")]):
            continue
        pods = context.evidence.objects("kubernetes.pods", context.target.namespace)
        pod = next((item for item in pods if matches(spec.get("selector") or {}, labels_of(item))), None)
        entry = next((item for item in spec.get("ports") or [] if item["port"] == port), None)
        if pod is None or entry is None:
            return None
        peer = pod_peer(context, context.target.namespace, pod)
        wanted = entry.get("targetPort", port)
        number = int(wanted) if str(wanted).isdigit() else peer.ports.get(str(wanted), port)
        return peer, number
    if "." not in host or host.endswith(CLUSTER_DOMAIN):
        return None
    return Peer(address=address), port


def seen_address(attempts: list[Evidence]) -> str:
    """Return the first address that some attempts were made at."""
    found = [str(item.value["address"]) for item in attempts if item.value.get("address")]
    return found[0].split(",")[0].strip() if found else ""
