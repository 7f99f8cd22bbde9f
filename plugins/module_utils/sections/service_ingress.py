# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ingress objects that lead to the server: class, backends, paths, certificates, and the hosts that MLflow admits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from ..core.discovery_service import stem_of
from ..core.evidence import API, POD, Evidence, State
from ..core.findings import Context, Finding, SectionResult, keys, parse_time
from ..core.workload import changed, labels_of
from ..probes.web import rejects_host
from .logs import matches

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
REWRITING = ("rewrite", "strip", "middleware", "prefix", "snippet", "transform")
"""Words in the annotations by which controllers change a path on its way (nginx, Traefik, HAProxy, Kong, Azure)."""

PUBLISHED_WITHIN = timedelta(minutes=10)
"""A controller gives an ingress its address within minutes, a cloud's load balancer within ten."""


def ingress(context: Context, service: Mapping[str, Any], result: SectionResult) -> None:
    """Judge every ingress of the namespace that was made for this server."""
    services = {
        item["metadata"]["name"]: item
        for item in context.evidence.objects("kubernetes.services", context.target.namespace)
    }
    name = service["metadata"]["name"]
    for item in context.evidence.objects("kubernetes.ingresses", context.target.namespace):
        for backend in backends(item):
            wrong = backend_problem(context, backend, services, name)
            if wrong and (backend["name"] == name or is_ours(context, item, service)):
                report(context, item, "service.ingress_backend_wrong", wrong, result, "kubernetes.services")
        if any(backend["name"] == name for backend in backends(item)):
            ingress_class(context, item, result)
            certificates(context, item, result)
            paths(context, item, name, result)
            hosts(context, item, result)


def report(
    context: Context,
    item: Mapping[str, Any],
    identifier: str,
    wrong: str,
    result: SectionResult,
    *proof: str | Evidence | None,
    measured: bool = False,
) -> None:
    """Add a finding about an ingress; ``proof`` is evidence, or the kind of something that the API listed."""
    name = item["metadata"]["name"]
    more = [context.evidence.first(one, API) if isinstance(one, str) else one for one in proof]
    result.findings.append(
        Finding(
            identifier,
            f"ingress/{name}",
            f"ingress/{name}: {wrong}",
            keys([context.evidence.first("kubernetes.ingresses", API, context.target.namespace), *more]),
            since=changed(item),
            configured=True,
            measured=measured,
            facts={"ingress": name, "reason": wrong},
        )
    )


def is_ours(context: Context, item: Mapping[str, Any], service: Mapping[str, Any]) -> bool:
    """Tell whether an ingress with a backend that does not exist was made for this server."""
    named = [item["metadata"]["name"], *rule_hosts(item), *(backend["name"] for backend in backends(item))]
    words = {stem_of(context.target.deployment), stem_of(service["metadata"]["name"]), "mlflow"}
    alike = set(labels_of(item).items()) & set(context.target.selector.items())
    leads_here = any(backend["name"] == service["metadata"]["name"] for backend in backends(item))
    return leads_here or bool(alike) or any(word in name for word in words for name in named)


def rules(item: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield host and path entry of every rule; a default backend counts as the root of every host."""
    default = item["spec"].get("defaultBackend")
    if default:
        yield "", {"path": "/", "pathType": "Prefix", "backend": default}
    for rule in item["spec"].get("rules") or []:
        for path in (rule.get("http") or {}).get("paths") or []:
            yield str(rule.get("host") or ""), path


def rule_hosts(item: Mapping[str, Any]) -> list[str]:
    return [str(rule["host"]) for rule in item["spec"].get("rules") or [] if rule.get("host")]


def backends(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [(path.get("backend") or {}).get("service") for dummy, path in rules(item)]
    return [backend for backend in found if backend]


def published(item: Mapping[str, Any]) -> bool:
    """Tell whether a controller has given the ingress an address."""
    return bool(((item.get("status") or {}).get("loadBalancer") or {}).get("ingress"))


def backend_problem(
    context: Context, backend: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]], ours: str
) -> str:
    service = services.get(backend["name"])
    if service is None:
        return f"its backend Service {backend['name']} does not exist"
    port = backend.get("port") or {}
    known = service["spec"].get("ports") or []
    if port.get("number") and port["number"] not in [item["port"] for item in known]:
        return f"its backend port {port['number']} is not a port of service/{backend['name']}"
    if port.get("name") and port["name"] not in [item.get("name") for item in known]:
        return f"its backend port {port['name']} is not a port of service/{backend['name']}"
    if backend["name"] != ours and service["spec"].get("selector") and selects_nobody(context, backend["name"]):
        return f"its backend service/{backend['name']} selects no pod"
    return ""


def selects_nobody(context: Context, name: str) -> bool:
    """Tell whether a Service has no endpoint, not even one that is not ready."""
    listed = context.evidence.first("kubernetes.endpointslices", API, context.target.namespace)
    return (
        listed is not None
        and listed.conclusive
        and not any(
            item.get("endpoints")
            for item in listed.value["items"]
            if labels_of(item).get("kubernetes.io/service-name") == name
        )
    )


def ingress_class(context: Context, item: Mapping[str, Any], result: SectionResult) -> None:
    """An ingress whose class nobody has is served by nobody; without a class it needs a default one (I-01)."""
    listed = context.evidence.first("kubernetes.ingressclasses", API)
    if listed is None or not listed.conclusive or published(item):
        return
    classes = {entry["metadata"]["name"]: entry for entry in listed.value["items"]}
    wanted = item["spec"].get("ingressClassName") or ""
    if wanted and wanted not in classes:
        there = f"the cluster has {', '.join(sorted(classes))}" if classes else "the cluster has none"
        wrong = f"no controller serves it: its class {wanted} does not exist ({there})"
        report(context, item, "service.ingress_class_missing", wrong, result, listed, measured=True)
        return
    annotations = item["metadata"].get("annotations") or {}
    marked = [entry["metadata"].get("annotations") or {} for entry in classes.values()]
    if (
        not wanted
        and CLASS_ANNOTATION not in annotations
        and not any(row.get(DEFAULT_CLASS) == "true" for row in marked)
    ):
        wrong = "it has no class and the cluster has no default one; no controller has given it an address"
    else:
        moment = changed(item) or item["metadata"].get("creationTimestamp")
        if not moment or context.now - parse_time(moment) < PUBLISHED_WITHIN:
            return
        wrong = "no controller has given it an address"
    report(context, item, "service.ingress_not_published", wrong, result, listed)


def certificates(context: Context, item: Mapping[str, Any], result: SectionResult) -> None:
    """Report a certificate that is not there, has expired, or holds for other hosts (field guide I-09)."""
    for entry in item["spec"].get("tls") or []:
        name = entry.get("secretName")
        seen = context.evidence.first("kubernetes.tls_secrets", API, f"{context.target.namespace}/{name}")
        if not name or seen is None:
            continue
        wrong = certificate_problem(context, name, seen, entry.get("hosts") or rule_hosts(item))
        if wrong:
            report(context, item, "service.ingress_certificate_broken", wrong, result, seen, measured=True)


def certificate_problem(context: Context, name: str, seen: Evidence, hosts_of_entry: list[str]) -> str:
    if seen.state is State.ABSENT:
        return f"its certificate secret/{name} does not exist"
    if not seen.seen:
        return ""
    if "tls.crt" not in seen.value["keys"] or "tls.key" not in seen.value["keys"]:
        return f"secret/{name} holds no certificate with its key (tls.crt, tls.key)"
    certificate = seen.value["certificate"]
    if not certificate:
        return ""
    if parse_time(certificate["not_after"]) <= context.now:
        return f"the certificate in secret/{name} expired at {certificate['not_after']}"
    foreign = [host for host in hosts_of_entry if not any(covers(known, host) for known in certificate["names"])]
    if certificate["names"] and foreign:
        return f"the certificate in secret/{name} holds for {', '.join(certificate['names'])} and not for {foreign[0]}"
    return ""


def covers(name: str, host: str) -> bool:
    """Tell whether a name of a certificate holds for a host; a star stands for one label (RFC 6125, section 6.4.3)."""
    name, host = name.lower(), host.lower()
    return name == host or (name.startswith("*.") and name[1:] == host[host.find(".") :] and "." in host)


def paths(context: Context, item: Mapping[str, Any], service: str, result: SectionResult) -> None:
    """Requests arrive with the path that the rule names, unless the controller rewrites it (C-05, I-12)."""
    annotations = item["metadata"].get("annotations") or {}
    if any(word in f"{key} {value}".lower() for key, value in annotations.items() for word in REWRITING):
        return
    mine = [path for dummy, path in rules(item) if (path["backend"].get("service") or {}).get("name") == service]
    prefix = context.target.static_prefix
    if not mine or any(leads(path, prefix) for path in mine):
        return
    path = mine[0].get("path") or "/"
    exact = mine[0].get("pathType") == "Exact"
    wrong = (
        f"it leads only the path {path} itself to MLflow and nothing below it"
        if exact
        else f"it leads {path} to MLflow as it is, and MLflow answers below {prefix or '/'}"
    )
    report(context, item, "service.ingress_path_wrong", wrong, result, "kubernetes.deployments")


def leads(path: Mapping[str, Any], prefix: str) -> bool:
    """Tell whether requests for the API get through a path entry."""
    text = str(path.get("path") or "/")
    if path.get("pathType") == "Exact":
        return False
    if any(sign in text for sign in "(*$^|"):
        return True  # a pattern of the controller's own
    root = text.rstrip("/")
    return prefix == root or prefix.startswith(root + "/") or bool(prefix and root.startswith(prefix + "/"))


def hosts(context: Context, item: Mapping[str, Any], result: SectionResult) -> None:
    """MLflow refuses a host that is not allowed: every request through the ingress gets 403 (field guide W-12)."""
    for host in rule_hosts(item):
        asked = [
            probe
            for probe in context.evidence.all("probe.http", POD)
            if probe.seen and probe.subject.endswith(f"(Host: {host})")
        ]
        refused = [probe for probe in asked if rejects_host(probe.value)]
        lines = [
            match
            for match in matches(context)
            if match.signature.id == "host_rejected" and str(match.groups.get("host")).partition(":")[0] == host
        ]
        if refused and len(refused) == len(asked) and (published(item) or lines):
            wrong = f"MLflow answers 403 to host {host}, which is not among its allowed hosts"
            proof = (*refused, *(match.evidence for match in lines))
            report(context, item, "service.ingress_host_rejected", wrong, result, *proof, measured=True)
