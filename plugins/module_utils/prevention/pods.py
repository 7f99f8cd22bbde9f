# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pod template: resources, probes that tell the truth, and an image that stays what it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..core.evidence import API, Evidence
from ..core.findings import Context
from ..core.quantity import byte_count, cores
from ..core.workload import container_statuses, server_pods, workload_name
from .items import Item, Patch, container_patch, missing, ok, unseen, weak
from .server import command_of, container_of, jobs_on, workers_of

MIB = 2**20
BASE_MIB, WORKER_MIB, JOBS_MIB = 180, 180, 1230
"""Idle footprint: 0.35 GiB with one worker, 0.89 with four, 2.1 with four and jobs (measured, field guide 2.3)."""
HEADROOM = 1.5
LEAST_CPU = 0.25
"""With less than a quarter of a CPU a start takes more than two minutes (measured, field guide section 2.3)."""
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
HONEST = re.compile(r"/(?:ajax-)?api/2\.0/mlflow/[a-z-]+/(?:search|list|get)")
"""Paths that use the database; /health, /version, / and server-info do not (field guide section 2.4)."""
LONG_ENOUGH = 180
"""120 s to start on a quarter of a CPU, and 102 s of retries while the database is away (field guide 2.3 and 2.6)."""
SHORT_TIMEOUT = 2
"""/health took 2.6 s under load (field guide K-12)."""
EXACT_TAG = re.compile(r"^v?\d+\.\d+\.\d+")
Container = Mapping[str, Any]


def judge(context: Context) -> list[Item]:
    """Judge MLflow's container in the pod template."""
    container = container_of(context)
    what = f"{context.target.kind.lower()}s"
    look = context.evidence.first(f"kubernetes.{what}", API, context.target.namespace)
    judges: Mapping[str, Callable[[Context, Container, Evidence | None], Item]] = {
        "pods.resources": resources,
        "pods.readiness": readiness,
        "pods.liveness": liveness,
        "pods.startup": startup,
        "pods.image_pinned": image_pinned,
    }
    if not container:
        needs = f"list {what} in namespace {context.target.namespace}"
        return [unseen(id_, look, needs) for id_ in judges]
    return [judged(context, container, look) for judged in judges.values()]


def memory_need(context: Context) -> int:
    """Return what this server needs when idle, in MiB."""
    return BASE_MIB + WORKER_MIB * workers_of(context) + (JOBS_MIB if jobs_on(context) else 0)


def resources(context: Context, container: Container, look: Evidence | None) -> Item:
    """Judge against the measured footprint, which leaves nothing for requests and growth."""
    id_ = "pods.resources"
    given = container.get("resources") or {}
    requests, limits = given.get("requests") or {}, given.get("limits") or {}
    need = memory_need(context)
    problems = []
    if "cpu" not in requests:
        problems.append("no CPU request")
    elif cores(str(requests["cpu"])) < LEAST_CPU:
        problems.append(f"a CPU request of {requests['cpu']}, with which a start takes minutes on a busy node")
    for kind, quantities in (("request", requests), ("limit", limits)):
        if "memory" not in quantities:
            problems.append(f"no memory {kind}")
        elif (byte_count(quantities["memory"]) or 0) < need * MIB:
            problems.append(f"a memory {kind} of {quantities['memory']}, where {need} MiB are used when idle")
    if not problems:
        return ok(id_, f"requests {requests['cpu']} CPU and {requests['memory']}, limit {limits['memory']}", look)
    ask, most = up_to(need * 1.1, requests.get("memory")), up_to(need * HEADROOM, limits.get("memory"))
    patch = container_patch(
        context,
        f"resources:\n  requests:\n    cpu: {cpu_to_ask(requests)}\n    memory: {ask}Mi\n"
        f"  limits:\n    memory: {most}Mi",
    )
    summary = f"container {container['name']} has " + ", ".join(problems)
    return (weak if requests or limits else missing)(id_, summary, (patch,), look)


def cpu_to_ask(requests: Mapping[str, Any]) -> str:
    given = str(requests.get("cpu", "0"))
    return given if cores(given) >= LEAST_CPU else f"{LEAST_CPU * 1000:.0f}m"


def up_to(mebibytes: float, given: Any) -> int:
    """Round up to 64 MiB, and never below what is given."""
    return max(math.ceil(mebibytes / 64) * 64, (byte_count(given) or 0) // MIB)


def probed_path(probe: Mapping[str, Any]) -> str:
    """Return what a probe asks for: a path, ``tcp`` or the command."""
    if "httpGet" in probe:
        return str(probe["httpGet"].get("path", "/"))
    if "exec" in probe:
        return " ".join(str(word) for word in probe["exec"].get("command") or [])
    return "only for an open port" if "tcpSocket" in probe else "for gRPC's health"


def basic_auth(context: Context) -> bool:
    command = command_of(context)
    return bool(command and "app-name" in command.options)


def readiness(context: Context, container: Container, look: Evidence | None) -> Item:
    """A pod is ready when it can use its database, which only an API call tells."""
    id_, probe = "pods.readiness", container.get("readinessProbe")
    patches = (probe_patch(context, container, "readinessProbe", context.target.static_prefix + SEARCH, 3),)
    if not probe:
        return missing(id_, "there is no readiness probe: a pod serves before MLflow listens", patches, look)
    path = probed_path(probe)
    if HONEST.search(path):
        seconds = int(probe.get("timeoutSeconds", 1))
        if seconds <= SHORT_TIMEOUT:
            return weak(id_, f"{path} has only {seconds} s for an answer", patches, look)
        return ok(id_, f"asks {path}, which uses the database", look)
    if basic_auth(context) and path == context.target.static_prefix + "/health":
        return ok(id_, f"asks {path}, the only path that basic authentication leaves open to a probe", look)
    return weak(id_, f"asks {path}, which answers with the database down as well", patches, look)


def liveness(context: Context, container: Container, look: Evidence | None) -> Item:
    """A liveness probe must not depend on the database: a restarted pod cannot start without it."""
    id_, probe = "pods.liveness", container.get("livenessProbe")
    patches = (probe_patch(context, container, "livenessProbe", context.target.static_prefix + "/health", 3),)
    if not probe:
        return missing(id_, "there is no liveness probe: a server that hangs stays", patches, look)
    path, seconds = probed_path(probe), int(probe.get("timeoutSeconds", 1))
    if HONEST.search(path):
        return weak(id_, f"asks {path}: while the database is away every pod is restarted", patches, look)
    if seconds <= SHORT_TIMEOUT:
        return weak(id_, f"{path} has only {seconds} s for an answer", patches, look)
    return ok(id_, f"asks {path} with {seconds} s for an answer", look)


def budget(probe: Mapping[str, Any]) -> int:
    """Return the seconds after which a probe that always fails takes effect."""
    return int(probe.get("initialDelaySeconds", 0) + probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3))


def startup(context: Context, container: Container, look: Evidence | None) -> Item:
    id_, probe = "pods.startup", container.get("startupProbe")
    failures = math.ceil(LONG_ENOUGH / 10)
    patches = (probe_patch(context, container, "startupProbe", context.target.static_prefix + "/health", failures),)
    if not probe:
        alive = container.get("livenessProbe")
        if not alive:
            return ok(id_, "nothing ends a slow start: there is no startup and no liveness probe", look)
        if budget(alive) >= LONG_ENOUGH:
            return ok(id_, f"no startup probe, and the liveness probe gives a start {budget(alive)} s", look)
        return missing(
            id_, f"no startup probe, and the liveness probe ends a start after {budget(alive)} s", patches, look
        )
    if budget(probe) < LONG_ENOUGH:
        return weak(id_, f"a start is ended after {budget(probe)} s, less than {LONG_ENOUGH}", patches, look)
    return ok(id_, f"a start may take {budget(probe)} s", look)


def probe_patch(context: Context, container: Container, name: str, path: str, failures: int) -> Patch:
    """Return a probe of the whole kind; what another kind of probe has is taken away."""
    given = container.get(name) or {}
    other = "".join(f"\n  {kind}: null" for kind in ("exec", "tcpSocket", "grpc") if kind in given)
    port = (given.get("httpGet") or given.get("tcpSocket") or {}).get("port") or context.target.port
    header = ""
    if not path.endswith("/health"):
        header = f"\n    httpHeaders:\n      - name: Host\n        value: {allowed_host(context)}"
    return container_patch(
        context,
        f"{name}:\n  httpGet:\n    path: {path}\n    port: {port}{header}{other}\n"
        f"  periodSeconds: 10\n  timeoutSeconds: 5\n  failureThreshold: {failures}",
    )


def allowed_host(context: Context) -> str:
    """Return a Host header that the server accepts: the kubelet's own is the pod's address, often not in the list."""
    command = command_of(context)
    hosts = (command.setting("allowed-hosts") if command else "").split(",")
    literal = [host.strip() for host in hosts if host.strip() and not set(host) & set("*?[]$")]
    return "localhost" if "localhost" in literal or not literal else literal[0]


def image_pinned(context: Context, container: Container, look: Evidence | None) -> Item:
    """A digest cannot move; a version can, but seldom does; anything else is another MLflow at some restart."""
    id_, image = "pods.image_pinned", str(container.get("image", ""))
    if "@sha256:" in image:
        return ok(id_, f"{image} is a digest", look)
    repository, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = image, ""
    policy = container.get("imagePullPolicy", "IfNotPresent" if tag not in ("", "latest") else "Always")
    if EXACT_TAG.match(tag):
        return ok(id_, f"{image} names a version (a digest would hold it for sure), pull policy {policy}", look)
    summary = f"{image} names no version, pull policy {policy}: {workload_name(context)} gets what is newest"
    return (weak if tag and tag != "latest" else missing)(id_, summary, (pin(context, repository),), look)


def pin(context: Context, repository: str) -> Patch:
    """Pin what runs now: the digest that the kubelet reports, else the version that the server reports."""
    head = f"kubectl -n {context.target.namespace} set image {context.target.kind.lower()}/{context.target.deployment}"
    for pod in server_pods(context):
        for status, init in container_statuses(pod):
            running = str(status.get("imageID", "")).rpartition("//")[2]
            if not init and status["name"] == context.target.container and "@sha256:" in running:
                return Patch("kubectl", f"{head} {context.target.container}={running}")
    version = context.target.mlflow_version or "<the version that runs>"
    return Patch("kubectl", f"{head} {context.target.container}={repository}:{version}")
