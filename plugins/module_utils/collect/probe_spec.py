# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe is asked to measure, from each place."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.client_uri import DEFAULT_PORTS, ClientUri
from ..core.discovery import Target
from ..core.evidence import EvidenceSet
from ..core.network_policy import directions
from ..core.settings import Settings

HEALTH = "/health"
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
REGISTRY = "/api/2.0/mlflow/registered-models/search?max_results=1"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts?path="
ROOT = "/"
"""Touches neither the database nor S3, and is subject to the check of the Host header (field guide section 2.4)."""
PATHS = (HEALTH, ROOT, "/version", SEARCH, REGISTRY, ARTIFACTS)
PATIENCE = {SEARCH: 35.0, REGISTRY: 35.0, ARTIFACTS: 12.0}
"""Pool exhaustion speaks after 30 seconds (field guide section 2.7); an unreachable bucket would take minutes."""
HTTP_SECONDS = 5.0
CLIENT_SECONDS = 12.0
"""Enough to say that a client hangs, when the longer patience is had from inside the pod."""
MOST_URIS = 5
MOST_HOSTS = 3
POLICY_SETTLE_SECONDS = 15.0
"""Enforcers of network policies reach a new pod late; within this time a refusal proves nothing."""
PROBE_SECONDS = 40.0
SERVICE_TRIES = 8
"""With one bad replica of two, all eight connections are good once in 256 times; each replica is tried as well."""


def authorization(settings: Settings) -> dict[str, str]:
    """Return the header that the tracking server's own login needs."""
    if settings.tracking_token:
        return {"Authorization": f"Bearer {settings.tracking_token}"}
    if settings.tracking_username:
        pair = f"{settings.tracking_username}:{settings.tracking_password}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {}


def prefixed(prefix: str, paths: Iterable[str] = PATHS) -> list[str]:
    """Return the paths below the static prefix and, when there is one, at the root as well."""
    known = list(paths)
    return [prefix + path for path in known] + (known if prefix else [])


def requests_to(
    base: str, paths: Iterable[str], headers: Mapping[str, str], host_header: str = "", other_hosts: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Build requests to one address; ``other_hosts`` are tried where the address itself is no allowed host."""
    return [
        {
            "subject": base + path + (f" (Host: {host_header})" if host_header else ""),
            "url": base + path,
            "host_header": host_header,
            "other_hosts": list(other_hosts),
            "headers": dict(headers),
            "seconds": next((seconds for end, seconds in PATIENCE.items() if path.endswith(end)), HTTP_SECONDS),
        }
        for path in paths
    ]


def server_words(workload: Mapping[str, Any], container: str) -> list[str]:
    """Return the words of a container's command as the template has them, a shell's script split at blanks."""
    for item in workload["spec"]["template"]["spec"]["containers"]:
        if item["name"] == container:
            texts = [str(text) for text in [*(item.get("command") or []), *(item.get("args") or [])]]
            return [word for text in texts for word in text.split()]
    return []


def target_of(
    host: str,
    port: int,
    requests: list[dict[str, Any]],
    settle_seconds: float = 0.0,
    tries: int = 1,
    through: list[str] | None = None,
) -> dict[str, Any]:
    return {
        "host": host,
        "port": port,
        "requests": requests,
        "settle_seconds": settle_seconds,
        "tries": tries,
        "through": through,
    }


def policies_on_the_way(evidence: EvidenceSet, namespace: str, direction: str) -> bool:
    """Tell whether any network policy of a namespace could refuse a new pod for a while.

    Args:
        evidence: the listed policies; none that could be listed counts as none.
        namespace: where the policies stand.
        direction: ``Ingress`` or ``Egress``.
    """
    return any(
        direction in directions(item["spec"]) for item in evidence.objects("kubernetes.networkpolicies", namespace)
    )


def service_address(target: Target, client: Mapping[str, Any] | None) -> str:
    """Return the Service as its clients call it: scheme, name and port of a live client, else the full name."""
    usual = f"http://{target.service}.{target.namespace}.svc.cluster.local:{target.service_port}"
    for container in client["spec"]["containers"] if client else []:
        for entry in container["env"]:
            try:
                parts = urllib.parse.urlsplit(str(entry.get("value", "")))
                port = parts.port or DEFAULT_PORTS.get(parts.scheme)
            except ValueError:
                continue
            host = parts.hostname or ""
            secure = parts.scheme == "https" and port != DEFAULT_PORTS["https"]  # more likely the client's mistake
            ours = f"{host}.".startswith(f"{target.service}.{target.namespace}.")
            if ours and port == target.service_port and not secure:
                return f"{parts.scheme}://{host}:{port}"
    return usual


def names_of_service(target: Target) -> list[str]:
    """Return the Host headers of clients that call the Service by its names; its pods' addresses may not be allowed."""
    if not target.service or not target.service_port:
        return []
    short = f"{target.service}.{target.namespace}"
    return [f"{name}:{target.service_port}" for name in (f"{short}.svc.cluster.local", short, target.service)]


def ingress_hosts(evidence: EvidenceSet, target: Target) -> list[str]:
    """Return the hosts whose requests ingresses lead to the server's Service; stars are no names."""
    found = {
        str(rule["host"])
        for item in evidence.objects("kubernetes.ingresses", target.namespace)
        for rule in item["spec"].get("rules") or []
        for path in (rule.get("http") or {}).get("paths") or []
        if (path["backend"].get("service") or {}).get("name") == target.service
        and "*" not in str(rule.get("host") or "*")
    }
    return sorted(found)[:MOST_HOSTS]


def blank(settings: Settings, secrets: Iterable[str], seconds: float) -> dict[str, Any]:
    return {
        "seconds": min(PROBE_SECONDS, seconds),
        "secrets": sorted({*secrets, settings.tracking_password, settings.tracking_token} - {""}),
        "words": [],
        "server": False,
        "database": None,
        "storage": None,
        "cache": None,
        "settle_seconds": 0.0,
        "targets": [],
        "clients": [],
    }


def server_spec(
    target: Target,
    settings: Settings,
    workload: Mapping[str, Any],
    secrets: Iterable[str],
    seconds: float,
    *,
    serving: bool,
    dependencies: bool,
    settle_seconds: float = 0.0,
    hosts: Sequence[str] = (),
) -> dict[str, Any]:
    """Ask what the server experiences; beyond the first pod only whether it reaches the database.

    Args:
        target: the server.
        settings: credentials and host header.
        workload: the Deployment, whose command a debug copy does not run.
        secrets: values that the probe must not repeat.
        seconds: time limit.
        serving: whether MLflow runs in this container and can be called on its loopback address.
        dependencies: whether database and AWS are measured from here; once for each server.
        settle_seconds: how long a refused connection to the database is tried again.
        hosts: names under which ingresses publish the server; whether MLflow admits them is asked for.
    """
    spec = blank(settings, secrets, seconds)
    spec |= {"server": True, "words": server_words(workload, target.container), "settle_seconds": settle_seconds}
    if dependencies:
        spec["database"] = target.db_instance_identifier
        spec["storage"] = {
            "bucket": target.bucket,
            "prefix": target.artifact_prefix,
            "region": target.region,
            "canary": settings.write_canary,
        }
    if serving:
        spec["cache"] = {
            "directory": settings.artifact_cache_dir,
            "older_than_seconds": settings.artifact_cache_seconds,
        }
        base = f"http://127.0.0.1:{target.port}"
        headers = authorization(settings)
        known = [*names_of_service(target), *hosts]
        requests = requests_to(base, prefixed(target.static_prefix), headers, other_hosts=known)
        if settings.host_header:
            requests += requests_to(base, [target.static_prefix + SEARCH], headers, settings.host_header)
        for host in hosts:
            requests += requests_to(base, [target.static_prefix + ROOT], headers, host)
        spec["targets"] = [target_of("127.0.0.1", target.port, requests)]
        host, port = str(target.backend.get("host") or ""), target.backend.get("port")
        if not dependencies and host and port:
            spec["targets"].append(target_of(host, int(port), []))
    return spec


def source_spec(
    target: Target,
    settings: Settings,
    client: Mapping[str, Any] | None,
    pod_addresses: Sequence[str],
    seconds: float,
    others: Iterable[tuple[str, int]] = (),
    *,
    through: list[str] | None,
    settle_seconds: float,
    patient: bool,
    uris: Iterable[ClientUri] = (),
) -> dict[str, Any]:
    """Ask what a client experiences on its way through the Service and to each ready pod.

    Args:
        target: the server.
        settings: credentials.
        client: a live client, whose address of the server is used.
        pod_addresses: addresses of the ready pods.
        seconds: time limit.
        others: addresses and ports that only have to be tried: other pods behind the Service, names that clients use.
        through: addresses of the Service's ready endpoints, ``None`` when they could not be seen; a Service without
            any refuses at once and for good.
        settle_seconds: how long a refused connection is tried again.
        patient: whether nothing else waits for the server's slowest answer.
        uris: tracking URIs of live clients, tried as they are.
    """
    spec = blank(settings, (), seconds)
    headers = authorization(settings)
    spec["clients"] = [
        {"subject": uri.text, "url": uri.text + SEARCH, "headers": headers, "seconds": CLIENT_SECONDS}
        for uri in [uri for uri in uris if uri.scheme][:MOST_URIS]
    ]
    if target.service and target.service_port:
        base = service_address(target, client)
        host = urllib.parse.urlsplit(base).hostname or ""
        requests = requests_to(base, prefixed(target.static_prefix), headers)
        spec["targets"].append(target_of(host, target.service_port, requests, settle_seconds, SERVICE_TRIES, through))
    for address in pod_addresses:
        paths = [target.static_prefix + path for path in (HEALTH, SEARCH)]
        known = names_of_service(target)
        requests = requests_to(f"http://{address}:{target.port}", paths, headers, other_hosts=known)
        spec["targets"].append(target_of(address, target.port, requests, settle_seconds))
    spec["targets"] += [target_of(host, port, []) for host, port in others]
    if not patient:
        for request in [item for row in spec["targets"] for item in row["requests"]]:
            request["seconds"] = min(request["seconds"], CLIENT_SECONDS)
    return spec
