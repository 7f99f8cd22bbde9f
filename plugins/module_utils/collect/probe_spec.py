# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe is asked to measure, from each place."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from ..core.discovery import Target
from ..core.settings import Settings

HEALTH = "/health"
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts?path="
PATHS = (HEALTH, "/", "/version", SEARCH, ARTIFACTS)
PATIENCE = {SEARCH: 35.0, ARTIFACTS: 12.0}
"""Pool exhaustion speaks after 30 seconds (field guide section 2.7); an unreachable bucket would take minutes."""
HTTP_SECONDS = 5.0
CLIENT_SECONDS = 12.0
"""Enough to say that a client hangs, when the longer patience is had from inside the pod."""
POLICY_SETTLE_SECONDS = 15.0
"""Enforcers of network policies reach a new pod late; within this time a refusal proves nothing."""
PROBE_SECONDS = 40.0


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
    base: str, paths: Iterable[str], headers: Mapping[str, str], host_header: str = ""
) -> list[dict[str, Any]]:
    """Build requests to one address."""
    return [
        {
            "subject": base + path + (f" (Host: {host_header})" if host_header else ""),
            "url": base + path,
            "host_header": host_header,
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


def blank(settings: Settings, secrets: Iterable[str], seconds: float) -> dict[str, Any]:
    return {
        "seconds": min(PROBE_SECONDS, seconds),
        "secrets": sorted({*secrets, settings.tracking_password, settings.tracking_token} - {""}),
        "words": [],
        "server": False,
        "database": None,
        "storage": None,
        "settle_seconds": 0.0,
        "targets": [],
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
) -> dict[str, Any]:
    """Ask what the server experiences.

    Args:
        target: the server.
        settings: credentials and host header.
        workload: the Deployment, whose command a debug copy does not run.
        secrets: values that the probe must not repeat.
        seconds: time limit.
        serving: whether MLflow runs in this container and can be called on its loopback address.
        dependencies: whether database and AWS are measured from here; once for each server.
    """
    spec = blank(settings, secrets, seconds)
    spec |= {"server": True, "words": server_words(workload, target.container)}
    if dependencies:
        spec["database"] = target.db_instance_identifier
        spec["storage"] = {"bucket": target.bucket, "prefix": target.artifact_prefix, "region": target.region}
    if serving:
        base = f"http://127.0.0.1:{target.port}"
        headers = authorization(settings)
        requests = requests_to(base, prefixed(target.static_prefix), headers)
        if settings.host_header:
            requests += requests_to(base, [target.static_prefix + SEARCH], headers, settings.host_header)
        spec["targets"] = [{"host": "127.0.0.1", "port": target.port, "requests": requests}]
    return spec


def source_spec(
    target: Target,
    settings: Settings,
    pod_addresses: Iterable[str],
    seconds: float,
    *,
    policies: bool,
    patient: bool,
) -> dict[str, Any]:
    """Ask what a client experiences on its way through the Service and to each ready pod.

    Args:
        target: the server.
        settings: credentials.
        pod_addresses: addresses of the ready pods.
        seconds: time limit.
        policies: whether any network policy could be on the way, whose enforcement may lag behind.
        patient: whether nothing else waits for the server's slowest answer.
    """
    spec = blank(settings, (), seconds)
    spec["settle_seconds"] = POLICY_SETTLE_SECONDS if policies else 0.0
    headers = authorization(settings)
    if target.service and target.service_port:
        host = f"{target.service}.{target.namespace}.svc.cluster.local"
        base = f"http://{host}:{target.service_port}"
        requests = requests_to(base, prefixed(target.static_prefix), headers)
        spec["targets"].append({"host": host, "port": target.service_port, "requests": requests})
    for address in pod_addresses:
        paths = [target.static_prefix + path for path in (HEALTH, SEARCH)]
        requests = requests_to(f"http://{address}:{target.port}", paths, headers)
        spec["targets"].append({"host": address, "port": target.port, "requests": requests})
    if not patient:
        for request in [item for row in spec["targets"] for item in row["requests"]]:
            request["seconds"] = min(request["seconds"], CLIENT_SECONDS)
    return spec
