# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pod not starting: images, references, commands, memory, and what the last end of a container means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..core.evidence import API
from ..core.findings import Context, Finding, SectionResult, keys
from ..core.workload import container_spec, is_recent, last_end

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
    r"(?P<kind>secret|configmap) \"(?P<name>[^\"]+)\" not found"
    r"|couldn't find key (?P<key>\S+) in (?P<kind2>Secret|ConfigMap) (?:[^/\s]+/)?(?P<name2>[\w.-]+)"
)
MEMORY_NEED = "0.4 GiB with one worker and jobs off, 2.1 GiB by default"
"""Idle footprint measured with MLflow 3.17.2 (field guide section 2.3)."""


def pod_keys(context: Context, *more: str) -> tuple[str, ...]:
    return keys(context.evidence.first(what, API) for what in ("kubernetes.pods", *more))


def workload_name(context: Context) -> str:
    return f"{context.target.kind.lower()}/{context.target.deployment}"


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


def config_missing(
    context: Context, pod: Mapping[str, Any], match: re.Match[str], text: str, result: SectionResult
) -> None:
    kind = (match["kind"] or match["kind2"]).lower()
    name = match["name"] or match["name2"]
    missing = f"{kind}/{name}" + (f" key {match['key']}" if match["key"] else "")
    result.findings.append(
        Finding(
            "pods.config_missing",
            f"{kind}/{name}",
            f"the container cannot be created: {missing} does not exist",
            pod_keys(context, "kubernetes.events"),
            since=pod["metadata"]["creationTimestamp"],
            configured=True,
            measured=True,
            facts={"missing": missing, "reason": text},
        )
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
            config_missing(context, pod, missing, message, result)
    end = last_end(status)
    if end and re.search(
        r"executable file not found|exec format error|no such file or directory", end.get("message") or message
    ):
        result.findings.append(
            simple(
                context,
                "pods.command_not_found",
                f"container {status['name']} cannot run its command: {end.get('message') or message}",
                {"image": status["image"]},
            )
        )
    if end and out_of_memory(context, pod, status, end, result):
        return
    terminated(context, pod, status, init, end, reason, result)


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


def out_of_memory(
    context: Context, pod: Mapping[str, Any], status: Mapping[str, Any], end: Mapping[str, Any], result: SectionResult
) -> bool:
    """Only the reason counts: exit code 137 alone is also an ordinary stop (field guide section 1.4)."""
    if end.get("reason") != "OOMKilled" or not is_recent(end.get("finishedAt") or "", context):
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
    end: Mapping[str, Any] | None,
    reason: str,
    result: SectionResult,
) -> None:
    if end is None or not is_recent(end.get("finishedAt") or "", context):
        return
    if init:
        if end.get("exitCode", 0) != 0 and not status.get("ready"):
            crash_symptom(context, pod, status, end, "pods.init_failing", result)
        return
    if reason == "CrashLoopBackOff" or not (status.get("state") or {}).get("running"):
        crash_symptom(context, pod, status, end, "pods.crash_looping", result)
    elif not status.get("ready"):
        crash_symptom(context, pod, status, end, "pods.restarted", result)


def crash_symptom(
    context: Context,
    pod: Mapping[str, Any],
    status: Mapping[str, Any],
    end: Mapping[str, Any],
    identifier: str,
    result: SectionResult,
) -> None:
    name = pod["metadata"]["name"]
    words = {
        "pods.crash_looping": "keeps ending",
        "pods.restarted": "was restarted and is not ready",
        "pods.init_failing": "fails before MLflow starts",
    }
    result.findings.append(
        Finding(
            identifier,
            f"pod/{name}",
            f"container {status['name']} of pod {name} {words[identifier]}: exit code {end.get('exitCode')}, "
            f"reason {end.get('reason')}, {status.get('restartCount', 0)} restarts",
            pod_keys(context),
            since=end.get("startedAt"),
            measured=True,
            facts={"pod": name, "container": status["name"]},
        )
    )
