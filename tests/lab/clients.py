# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of the servers: training jobs in another namespace that log runs and record what they see."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import yaml
from pydantic import BaseModel, ConfigDict, Field

from tests.lab import kube, operator, servers
from tests.lab.settings import LabError

NAMESPACE = "argo"
FOLDER = Path(__file__).parent / "client"
# Short enough that a failure shows within seconds; the variables are MLflow's own.
TIME_OUTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class ClientOptions(BaseModel):
    """How a client behaves.

    ``interval``: seconds between two runs; ``deadline``: seconds a run may take; ``metrics``: points per run;
    ``artifact_bytes``: size of the file it uploads; ``replicas``: how many such jobs (0: none);
    ``environment``: added to, or instead of, the container's own.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    replicas: int = Field(default=1, ge=0)
    interval: float = Field(default=3.0, gt=0, strict=False)
    deadline: float = Field(default=15.0, gt=0, strict=False)
    metrics: int = Field(default=5, ge=0)
    artifact_bytes: int = Field(default=1024, ge=0)
    environment: dict[str, str] = {}


def deployment(name: str) -> str:
    """Name of the Deployment of the server's client."""
    return f"training-{name}"


def manifests(server: servers.Server, options: ClientOptions) -> list[dict[str, Any]]:
    """Kubernetes objects of the server's client."""
    environment = {
        "MLFLOW_TRACKING_URI": server.tracking_uri,
        "INTERVAL": f"{options.interval:g}",
        "DEADLINE": f"{options.deadline:g}",
        "METRICS": str(options.metrics),
        "ARTIFACT_BYTES": str(options.artifact_bytes),
    }
    client = {
        "name": deployment(server.name),
        "namespace": NAMESPACE,
        "image": server.image,
        "replicas": options.replicas,
        "environment": TIME_OUTS | environment | options.environment,
        "script": (FOLDER / "log_runs.py").read_text(encoding="utf-8"),
    }
    jinja = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = jinja.from_string((FOLDER / "client.yml.j2").read_text(encoding="utf-8"))
    return list(yaml.safe_load_all(template.render(client=client)))


def add(name: str, **overrides: Any) -> None:
    """Start the client of the server ``name``, or change how it behaves (fields of ClientOptions)."""
    kube.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    operator.grant(NAMESPACE)
    kube.apply(manifests(servers.get(name), ClientOptions(**overrides)))


def stop(name: str) -> None:
    """Let the client of the server ``name`` log nothing until ``add``."""
    add(name, replicas=0)


def remove(name: str) -> None:
    """Take the client of the server ``name`` away, if there is one."""
    for api_version, kind in (("apps/v1", "Deployment"), ("v1", "ConfigMap")):
        kube.delete(api_version, kind, deployment(name), NAMESPACE)


def parse(log: str) -> list[dict[str, Any]]:
    """Observations in a client's output; lines that are none (warnings of libraries) are left out."""
    observations = []
    for line in log.splitlines():
        if line.startswith('{"at"'):
            observations.append(json.loads(line))
    return observations


def observe(name: str, since: datetime | None = None) -> list[dict[str, Any]]:
    """What the client of the server ``name`` saw in runs that began after ``since``, oldest first.

    Each observation: ``at`` (ISO 8601, UTC), ``ok``, ``step`` that failed, ``error``, ``seconds``.
    """
    start = (since or datetime.fromtimestamp(0, UTC)).astimezone(UTC)
    seconds = None if since is None else int((datetime.now(UTC) - start).total_seconds()) + 2
    seen: list[dict[str, Any]] = []
    for pod in kube.list_objects("v1", "Pod", NAMESPACE, f"app={deployment(name)}"):
        if pod["status"].get("phase") != "Pending":
            seen += parse(kube.pod_log(NAMESPACE, pod["metadata"]["name"], since_seconds=seconds))
    return sorted((one for one in seen if datetime.fromisoformat(one["at"]) >= start), key=lambda one: one["at"])


def matches(observation: Mapping[str, Any], ok: bool, step: str | None = None) -> bool:
    """Whether an observation is a success, or a failure (at ``step``)."""
    return observation["ok"] is ok and (step is None or observation["step"] == step)


def wait(
    name: str, ok: bool, timeout: float, *, since: datetime | None = None, rounds: int = 1, step: str | None = None
) -> list[dict[str, Any]]:
    """Wait until the last ``rounds`` runs that began after ``since`` (default: now) succeeded, or failed at ``step``.

    Returns those observations. Raises LabError after ``timeout`` seconds, with the last thing that the client saw.
    """
    start, deadline = since or datetime.now(UTC), time.monotonic() + timeout
    while True:
        seen = observe(name, start)
        last = seen[-rounds:]
        if len(last) == rounds and all(matches(one, ok, step) for one in last):
            return last
        if time.monotonic() > deadline:
            wanted = "a success" if ok else f"a failure{f' at {step}' if step else ''}"
            text = json.dumps(seen[-1]) if seen else "nothing"
            raise LabError(f"the client of {name} did not see {wanted} within {timeout:g} s; last: {text}")
        time.sleep(0.5)
