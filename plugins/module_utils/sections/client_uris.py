# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live clients whose tracking URI does not fit the server, seen in their pods and tried as they try it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from ..core.client_uri import ClientUri, namespaces_named, strays_of, uris_of
from ..core.evidence import API, Evidence, source_place
from ..core.findings import Context, Finding, SectionResult, keys, source_flow
from ..core.workload import labels_of, result_of

WORKS = frozenset({200, 401})
NOT_FOUND = 404
UNNAMED = frozenset({"not_found", "try_again"})
FAILED = frozenset({"refused", "timeout", "reset", "error"})


def analyze(context: Context, service: Mapping[str, Any], result: SectionResult) -> None:
    """Judge every live client that names this server.

    Args:
        context: the evidence.
        service: the Service that the clients name.
        result: where findings go.
    """
    strays(context, service, result)
    for namespace, client, uri in live_clients(context):
        tried = context.evidence.first("probe.client", source_place(namespace), uri.text)
        if tried is not None and tried.seen and tried.value.get("status") in WORKS:
            continue
        problem = judge(context, service, uri, tried)
        if problem is None:
            continue
        identifier, why = problem
        result.findings.append(
            Finding(
                identifier,
                f"{namespace}/{client}",
                f"{client} in namespace {namespace} uses {uri.text or 'an address'} as tracking URI: {why}",
                keys(
                    [
                        context.evidence.first("kubernetes.pods", API, namespace),
                        context.evidence.first("kubernetes.services", API, context.target.namespace),
                        tried,
                    ]
                ),
                flow=source_flow(namespace),
                configured=True,
                measured=tried is not None and tried.seen,
                facts={"client": f"{namespace}/{client}", "uri": right_uri(context, service)},
            )
        )


def strays(context: Context, service: Mapping[str, Any], result: SectionResult) -> None:
    """Report clients that mean this server by a name which is not found where they run (field guide N-04)."""
    listed = context.evidence.first("kubernetes.namespaces", API)
    names = {item["metadata"]["name"] for item in listed.value["items"]} if listed and listed.seen else set()
    for namespace, pod, item in pods_of_sources(context):
        for uri in strays_of(pod, context.target, names):
            tried = context.evidence.first("probe.client", source_place(namespace), uri.text)
            if tried is None or not tried.seen or result_of(tried) not in UNNAMED:
                continue
            client = owner_of(pod)
            where = uri.host.partition(".")[2].partition(".")[0]
            why = f"there is no namespace {where}" if where else f"that name does not hold in namespace {namespace}"
            result.findings.append(
                Finding(
                    "service.client_host_wrong" if means_us(context, where, names) else "service.stray_client",
                    f"{namespace}/{client}",
                    f"{client} in namespace {namespace} uses {uri.text} as tracking URI: {why}",
                    keys([item, listed, tried]),
                    flow=source_flow(namespace),
                    configured=True,
                    measured=True,
                    facts={"client": f"{namespace}/{client}", "uri": right_uri(context, service)},
                )
            )


def means_us(context: Context, where: str, namespaces: Collection[str]) -> bool:
    """Tell whether a client that names a Service like ours can mean no other server.

    Args:
        context: the evidence.
        where: the namespace that the client names; empty for a short name.
        namespaces: all that exist.
    """
    ours = context.target.namespace
    others = {
        named
        for dummy, pod, item in pods_of_sources(context)
        for named in namespaces_named(pod, context.target.service)
        if named != ours and named in namespaces
    }
    return not others or (bool(where) and get_close_matches(where, [ours, *others], 1) == [ours])


def pods_of_sources(context: Context) -> Iterator[tuple[str, dict[str, Any], Evidence]]:
    """Yield namespace, pod and evidence of everything that runs in the clients' namespaces."""
    for item in context.evidence.all("kubernetes.pods", API):
        if item.seen and item.subject not in ("", context.target.namespace):
            for pod in item.value["items"]:
                yield item.subject, pod, item


def live_clients(context: Context) -> Iterator[tuple[str, str, ClientUri]]:
    """Yield namespace, workload and URI of the clients that name this server, each workload's URI once."""
    seen = set()
    for namespace, pod, dummy in pods_of_sources(context):
        for uri in uris_of(pod, context.target).values():
            entry = (namespace, owner_of(pod), uri)
            if entry not in seen:
                seen.add(entry)
                yield entry


def owner_of(pod: Mapping[str, Any]) -> str:
    """Name what a person would edit: the Deployment behind a ReplicaSet, the owner, or the pod itself."""
    for owner in pod["metadata"].get("ownerReferences") or []:
        name, kind = str(owner["name"]), str(owner["kind"])
        suffix = labels_of(pod).get("pod-template-hash")
        if kind == "ReplicaSet" and suffix and name.endswith(f"-{suffix}"):
            return f"deployment/{name.removesuffix(f'-{suffix}')}"
        return f"{kind.lower()}/{name}"
    return f"pod/{pod['metadata']['name']}"


def ports_of(service: Mapping[str, Any]) -> list[int]:
    return [int(item["port"]) for item in service["spec"].get("ports") or []]


def judge(
    context: Context, service: Mapping[str, Any], uri: ClientUri, tried: Evidence | None
) -> tuple[str, str] | None:
    """Return the kind of mistake and its explanation; nothing when there is none or it is not proven."""
    ports = ports_of(service)
    name = f"service/{context.target.service}"
    if not uri.scheme:
        return "service.client_scheme_wrong", "without http:// MLflow takes it for a folder"
    outcome = result_of(tried) if tried is not None and tried.seen else ""
    headless = service["spec"].get("clusterIP") == "None"
    if uri.port not in ports and not headless and outcome in ("", *FAILED):
        return "service.client_port_wrong", f"{name} has port {', '.join(map(str, ports))} and not {uri.port}"
    if uri.scheme == "https" and outcome == "error" and plain_http(tried):
        return "service.client_scheme_wrong", f"{name} speaks http there and not https"
    status = tried.value.get("status") if tried is not None and tried.seen else None
    prefix = context.target.static_prefix
    if status == NOT_FOUND and uri.path != prefix:
        if prefix and not prefix_in_use(context, prefix):
            return None  # then it is the server that left its clients
        return "service.client_path_wrong", f"MLflow answers below {prefix or '/'} and not below {uri.path or '/'}"
    return None


def prefix_in_use(context: Context, prefix: str) -> bool:
    """Tell whether an ingress of the namespace or a live client leads to a static prefix."""
    paths = [
        path.get("path") or ""
        for item in context.evidence.objects("kubernetes.ingresses", context.target.namespace)
        for rule in item["spec"].get("rules") or []
        for path in (rule.get("http") or {}).get("paths") or []
    ]
    published = any(path.rstrip("/").startswith(prefix) for path in paths)
    return published or any(uri.path == prefix for *dummy, uri in live_clients(context))


def plain_http(tried: Evidence | None) -> bool:
    text = str(tried.value.get("error", "")) if tried is not None else ""
    return any(word in text for word in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"))


def right_uri(context: Context, service: Mapping[str, Any]) -> str:
    """Return an address that would fit."""
    target = context.target
    port = target.service_port or next(iter(ports_of(service)), "")
    return f"http://{target.service}.{target.namespace}.svc.cluster.local:{port}{target.static_prefix}"
