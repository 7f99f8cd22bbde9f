# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pod not starting: images, references, commands, memory, and what the last end of a container means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ..core.evidence import API, Evidence
from ..core.findings import Context, Finding, SectionResult, keys, parse_time
from ..core.workload import container_spec, container_statuses, is_recent, last_end, workload_name

IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
IMAGE_ERRORS = (
    (
        "pods.image_pull_denied",
        re.compile(r"unauthorized|denied|forbidden|no basic auth|toomanyrequests|authorization failed", re.IGNORECASE),
    ),
    (
        "pods.image_not_found",
        re.compile(
            r"not found|manifest unknown|does not exist|InvalidImageName|couldn't parse image|NeverPull", re.IGNORECASE
        ),
    ),
    (
        "pods.registry_unreachable",
        re.compile(r"no such host|timeout|timed out|connection refused|i/o|unreachable|x509|EOF", re.IGNORECASE),
    ),
)
"""Texts of containerd and the kubelet (Kubernetes documentation, Images; field guide K-04 and K-05)."""

MISSING_OBJECT = re.compile(
    r"(?P<kind>secret|configmap|serviceaccount|persistentvolumeclaim) \"(?P<name>[^\"]+)\" not found"
    r"|couldn't find key (?P<key>\S+) in (?P<kind2>Secret|ConfigMap) (?:[^/\s]+/)?(?P<name2>[\w.-]+)"
)
NOT_CREATED = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
NEVER_RAN = frozenset({"StartError", "ContainerCannotRun"})
NO_MOUNT = re.compile(r"error mounting|failed to create subPath|volume-subpaths")
PASSING = re.compile(r"timed out waiting for the condition|context deadline exceeded|is reserved for")
"""What the kubelet says while it waits for its own caches, or for the container that it is removing."""

NO_PROGRAM = re.compile(r"executable file not found|exec format error|no such file or directory|permission denied")
SHELL_EXITS = frozenset({126, 127})
"""A shell's exit codes for a program that cannot be run and one that is not there (POSIX, section 2.8.2)."""

WORDS_SHOWN = 200
SETTLED = timedelta(minutes=15)
REPEATED, SEVERAL_RESTARTS = 2, 3
"""A single end that is over is history; several within the hour, or one just now, are a fault."""

MEMORY_NEED = "0.4 GiB with one worker and jobs off, 2.1 GiB by default"
"""Idle footprint measured with MLflow 3.17.2 (field guide section 2.3)."""


def pod_keys(context: Context, *more: str) -> tuple[str, ...]:
    return keys(context.evidence.first(what, API) for what in ("kubernetes.pods", *more))


def simple(
    context: Context, identifier: str, summary: str, facts: Mapping[str, Any], *, since: str | None = None
) -> Finding:
    return Finding(
        identifier,
        workload_name(context),
        summary,
        pod_keys(context, "kubernetes.events"),
        since=since,
        configured=True,
        measured=True,
        facts=facts,
    )


def log_of(context: Context, pod: Mapping[str, Any], container: str) -> list[Evidence]:
    """Return the logs of a container that were seen, its earlier run first."""
    runs = (f"{pod['metadata']['name']}/{container}/{run}" for run in ("previous", "current"))
    return [item for run in runs for item in context.evidence.all("kubernetes.pod_log", API, run) if item.seen]


def last_words(context: Context, pod: Mapping[str, Any], container: str) -> str:
    """Return the last line that the newest run of a container wrote; empty when nothing was seen."""
    lines = [line["text"].strip() for item in log_of(context, pod, container) for line in item.value["lines"]]
    return next((line[:WORDS_SHOWN] for line in reversed(lines) if line), "")


def is_sidecar(pod: Mapping[str, Any], container: str) -> bool:
    """Tell whether an init container is one that is meant to run on."""
    return container_spec(pod, container).get("restartPolicy") == "Always"


def config_missing(context: Context, match: re.Match[str], text: str, since: str) -> Finding:
    kind = (match["kind"] or match["kind2"]).lower()
    name = (match["name"] or match["name2"]).rpartition("/")[2]
    missing = f"{kind}/{name}" + (f" key {match['key']}" if match["key"] else "")
    return Finding(
        "pods.config_missing",
        f"{kind}/{name}",
        f"the pod cannot be started: {missing} does not exist",
        pod_keys(context, "kubernetes.events"),
        since=since,
        configured=True,
        measured=True,
        facts={"missing": missing, "reason": text},
    )


def judge_container(
    context: Context,
    pod: Mapping[str, Any],
    status: Mapping[str, Any],
    init: bool,
    events: list[dict[str, Any]],
    result: SectionResult,
) -> None:
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in IMAGE_REASONS:
        image_failure(context, pod, status, message, events, result)
    elif reason == "CreateContainerConfigError":
        missing = MISSING_OBJECT.search(message)
        if missing:
            since = pod["metadata"]["creationTimestamp"]
            result.findings.append(config_missing(context, missing, message, since))
    end = last_end(status)
    if end and not is_recent(end.get("finishedAt") or "", context):
        return
    never_ran = command_not_found(context, pod, status, end, waiting, result) or not_created(
        context, pod, status, waiting, result
    )
    if end and out_of_memory(context, pod, status, end, result):
        return
    if (not init and status["name"] != context.target.container) or is_sidecar(pod, status["name"]):
        if not never_ran:
            sidecar(context, pod, status, result)
    elif end is not None:
        terminated(context, pod, status, init, end, reason, result)


def command_not_found(
    context: Context,
    pod: Mapping[str, Any],
    status: Mapping[str, Any],
    end: Mapping[str, Any] | None,
    waiting: Mapping[str, Any],
    result: SectionResult,
) -> bool:
    """Find a program that the image does not have: the runtime says so, or a shell by its exit code (K-06)."""
    never_ran = end is not None and end.get("reason") in NEVER_RAN
    text = (end or {}).get("message", "") if never_ran else ""
    if waiting.get("reason") in ("RunContainerError", "CreateContainerError"):
        text = text or waiting.get("message", "")
    if not NO_PROGRAM.search(text) or NO_MOUNT.search(text):
        if end is None or end.get("exitCode") not in SHELL_EXITS or status.get("ready"):
            return False
        text = f"exit code {end['exitCode']}: {last_words(context, pod, status['name'])}"
    result.findings.append(
        simple(
            context,
            "pods.command_not_found",
            f"container {status['name']} cannot run its command: {text}",
            {"image": container_spec(pod, status["name"]).get("image", status.get("image", ""))},
            since=pod["metadata"]["creationTimestamp"],
        )
    )
    return True


def not_created(
    context: Context,
    pod: Mapping[str, Any],
    status: Mapping[str, Any],
    waiting: Mapping[str, Any],
    result: SectionResult,
) -> bool:
    """Find a container that the kubelet or the runtime refuses to make: its user, a mount, a device."""
    end = last_end(status) or {}
    text = str(waiting.get("message", "")) if waiting.get("reason") in NOT_CREATED else ""
    text = text or (str(end.get("message", "")) if end.get("reason") in NEVER_RAN else "")
    if not text or MISSING_OBJECT.search(text) or PASSING.search(text):
        return False
    result.findings.append(
        simple(
            context,
            "pods.container_not_created",
            f"container {status['name']} cannot be made: {text[: WORDS_SHOWN * 2]}",
            {"container": status["name"], "reason": text, "pod": pod["metadata"]["name"]},
            since=pod["metadata"]["creationTimestamp"],
        )
    )
    return True


def image_failure(
    context: Context,
    pod: Mapping[str, Any],
    status: Mapping[str, Any],
    message: str,
    events: list[dict[str, Any]],
    result: SectionResult,
) -> None:
    spec = container_spec(pod, status["name"])
    image = spec.get("image", status.get("image", ""))
    text = " ".join(
        [
            message,
            *(
                event.get("message", "")
                for event in events
                if event.get("reason") in ("Failed", "InspectFailed", "ErrImageNeverPull")
            ),
        ]
    )
    identifier = next((name for name, pattern in IMAGE_ERRORS if pattern.search(text)), "pods.registry_unreachable")
    words = {
        "pods.image_not_found": f"image {image} does not exist",
        "pods.image_pull_denied": f"the registry refuses image {image} to the node",
        "pods.registry_unreachable": f"the registry of image {image} cannot be reached",
    }
    result.findings.append(
        Finding(
            identifier,
            workload_name(context),
            words[identifier],
            pod_keys(context, "kubernetes.events"),
            since=pod["metadata"]["creationTimestamp"],
            configured=True,
            measured=True,
            facts={"image": image, "container": status["name"]},
        )
    )


def keeps_ending(context: Context, status: Mapping[str, Any], end: Mapping[str, Any]) -> bool:
    """Tell whether a container that runs now will end again, as far as its last hour says."""
    finished = str(end.get("finishedAt") or "")
    lately = bool(finished) and context.now - parse_time(finished) <= SETTLED
    return lately or int(status.get("restartCount", 0)) >= SEVERAL_RESTARTS


def out_of_memory(
    context: Context, pod: Mapping[str, Any], status: Mapping[str, Any], end: Mapping[str, Any], result: SectionResult
) -> bool:
    """Only the reason counts: exit code 137 alone is also an ordinary stop (field guide section 1.4)."""
    if end.get("reason") != "OOMKilled" or (status.get("ready") and not keeps_ending(context, status, end)):
        return False
    limit = container_spec(pod, status["name"]).get("resources", {}).get("limits", {}).get("memory", "not set")
    result.findings.append(
        Finding(
            "pods.out_of_memory",
            workload_name(context),
            f"container {status['name']} is killed at its memory limit of {limit} "
            f"({status.get('restartCount', 0)} restarts)",
            pod_keys(context),
            since=end.get("startedAt") or end.get("finishedAt"),
            configured=limit != "not set",
            measured=True,
            facts={"limit": limit, "container": status["name"], "need": MEMORY_NEED, "pod": pod["metadata"]["name"]},
        )
    )
    crash_symptom(context, pod, status, end, "pods.crash_looping", result)
    return True


def terminated(
    context: Context,
    pod: Mapping[str, Any],
    status: Mapping[str, Any],
    init: bool,
    end: Mapping[str, Any],
    reason: str,
    result: SectionResult,
) -> None:
    if init:
        if end.get("exitCode", 0) != 0 and not status.get("ready"):
            words = last_words(context, pod, status["name"])
            said = f"ends with exit code {end.get('exitCode')}" + (f": {words}" if words else "")
            result.findings.append(init_failing(context, pod, status, said, str(end.get("startedAt", ""))))
        return
    if reason == "CrashLoopBackOff" or not (status.get("state") or {}).get("running"):
        crash_symptom(context, pod, status, end, "pods.crash_looping", result)
    elif not status.get("ready"):
        crash_symptom(context, pod, status, end, "pods.restarted", result)


def init_failing(context: Context, pod: Mapping[str, Any], status: Mapping[str, Any], said: str, since: str) -> Finding:
    return Finding(
        "pods.init_failing",
        workload_name(context),
        f"init container {status['name']} {said}; MLflow is not started before it ends well",
        pod_keys(context, "kubernetes.events"),
        since=since or None,
        configured=True,
        measured=True,
        facts={"pod": pod["metadata"]["name"], "container": status["name"]},
    )


def crash_symptom(
    context: Context,
    pod: Mapping[str, Any],
    status: Mapping[str, Any],
    end: Mapping[str, Any],
    identifier: str,
    result: SectionResult,
) -> None:
    name = pod["metadata"]["name"]
    words = {"pods.crash_looping": "keeps ending", "pods.restarted": "was restarted and is not ready"}
    last = last_words(context, pod, status["name"])
    result.findings.append(
        Finding(
            identifier,
            f"pod/{name}",
            f"container {status['name']} of pod {name} {words[identifier]}: exit code {end.get('exitCode')}, "
            f"reason {end.get('reason')}, {status.get('restartCount', 0)} restarts"
            + (f"; its last words: {last}" if last else ""),
            pod_keys(context),
            since=end.get("startedAt"),
            measured=True,
            facts={"pod": name, "container": status["name"]},
        )
    )


def sidecar(context: Context, pod: Mapping[str, Any], status: Mapping[str, Any], result: SectionResult) -> None:
    """A side-car that is not ready keeps a pod from being ready, however well MLflow itself is."""
    main = next(
        (item for item, init in container_statuses(pod) if item["name"] == context.target.container and not init), {}
    )
    end = last_end(status)
    proxied = context.target.backend.get("host") in ("localhost", "127.0.0.1", "::1")
    ended = end is not None and (status.get("restartCount", 0) > 1 or not (status.get("state") or {}).get("running"))
    if not ended and (status.get("ready") or not (status.get("state") or {}).get("running")):
        return
    awaited = is_sidecar(pod, status["name"]) and "waiting" in (main.get("state") or {}) and not last_end(main)
    if not main.get("ready") and not (proxied and ended) and not awaited:
        return
    last = last_words(context, pod, status["name"])
    said = f"keeps ending (exit code {(end or {}).get('exitCode')})" if ended else "is not ready"
    result.findings.append(
        Finding(
            "pods.sidecar_failing",
            workload_name(context),
            f"side-car {status['name']} of pod {pod['metadata']['name']} {said}"
            + (f": {last}" if last else "")
            + (f"; container {context.target.container} itself is well" if main.get("ready") and not proxied else "")
            + (f"; container {context.target.container} is not started before it runs" if awaited else ""),
            pod_keys(context, "kubernetes.events"),
            since=pod["metadata"]["creationTimestamp"],
            configured=True,
            measured=True,
            facts={"pod": pod["metadata"]["name"], "container": status["name"]},
        )
    )
