# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check pod status, Pod not starting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..core.evidence import API
from ..core.findings import Context, Finding, SectionResult, keys, parse_time
from ..core.workload import (
    container_spec,
    container_statuses,
    current_pods,
    event_start,
    event_time,
    events_about,
    is_ready,
    ready_pods,
    replica_sets,
    server_pods,
    workload,
)
from .pod_containers import MISSING_OBJECT, config_missing, judge_container, pod_keys, simple, workload_name

CREATE_FAILURES = (
    ("pods.quota_exceeded", re.compile(r"exceeded quota|must specify .* for")),
    ("pods.admission_denied", re.compile(r"denied the request|violates PodSecurity|forbidden: ")),
)
PROBE_FAILURE = re.compile(r"^(?P<probe>Liveness|Readiness|Startup) probe failed: (?P<text>.*)", re.DOTALL)
PROBE_STATUS = re.compile(r"statuscode: (?P<status>\d{3})")


def analyze(context: Context) -> SectionResult:
    """Judge the pods of the workload: can they be created, placed, started, and do they stay alive."""
    result = SectionResult()
    evidence = context.evidence.first("kubernetes.pods", API, context.target.namespace)
    if evidence is None or not evidence.seen:
        return result
    scaled_to_zero(context, result)
    creation_failures(context, result)
    for pod in server_pods(context):
        judge_pod(context, pod, result)
    deduce_probe_mistake(context, result)
    if not result.findings and ready_pods(context):
        for what in ("pods.out_of_memory", "pods.image_not_found", "pods.crash_looping", "pods.unschedulable"):
            result.rule_out(what, evidence)
    return result


def scaled_to_zero(context: Context, result: SectionResult) -> None:
    found = workload(context)
    if found is not None and found["spec"].get("replicas", 1) == 0:
        result.findings.append(
            Finding(
                "pods.scaled_to_zero",
                workload_name(context),
                f"{workload_name(context)} is scaled to zero replicas",
                keys(
                    [
                        context.evidence.first("kubernetes.deployments", API),
                        context.evidence.first("kubernetes.pods", API),
                    ]
                ),
                configured=True,
                measured=not server_pods(context),
            )
        )


def creation_failures(context: Context, result: SectionResult) -> None:
    """Find pods that could not even be created: quota, admission."""
    if current_pods(context):
        return
    newest = [item["metadata"]["name"] for item in replica_sets(context)[:1]]
    for event in events_about(context, *newest, context.target.deployment):
        if event.get("reason") != "FailedCreate":
            continue
        text = event.get("message", "")
        identifier = next((name for name, pattern in CREATE_FAILURES if pattern.search(text)), None)
        if identifier:
            result.findings.append(
                Finding(
                    identifier,
                    workload_name(context),
                    f"no pod can be created: {text}",
                    pod_keys(context, "kubernetes.events"),
                    since=event_start(event),
                    measured=True,
                    facts={"reason": text},
                )
            )


def judge_pod(context: Context, pod: Mapping[str, Any], result: SectionResult) -> None:
    name = pod["metadata"]["name"]
    events = events_about(context, name)
    if pod.get("status", {}).get("phase") == "Failed" and pod["status"].get("reason") == "Evicted":
        if not ready_pods(context):
            result.findings.append(
                simple(
                    context,
                    "pods.evicted",
                    f"pod {name} was evicted: {pod['status'].get('message', '')}",
                    {"pod": name, "reason": pod["status"].get("message", "")},
                )
            )
        return
    unscheduled(context, pod, result)
    volumes(context, pod, events, result)
    for status, init in container_statuses(pod):
        judge_container(context, pod, status, init, events, result)
    failing_probes(context, pod, events, result)
    if not is_ready(pod) and pod.get("status", {}).get("phase") == "Running" and not is_starting(context, pod):
        result.findings.append(
            Finding(
                "pods.not_ready",
                f"pod/{name}",
                f"pod {name} runs but is not ready",
                pod_keys(context),
                since=not_ready_since(pod),
                measured=True,
            )
        )


def not_ready_since(pod: Mapping[str, Any]) -> str | None:
    for item in pod["status"].get("conditions") or []:
        if item["type"] == "Ready":
            return item.get("lastTransitionTime")
    return None


def is_starting(context: Context, pod: Mapping[str, Any]) -> bool:
    """A first start is not a fault: MLflow takes up to two minutes on a quarter of a CPU (field guide section 2.3)."""
    if any(status.get("restartCount", 0) for status, _ in container_statuses(pod)):
        return False
    started = pod.get("status", {}).get("startTime") or pod["metadata"]["creationTimestamp"]
    return (context.now - parse_time(started)).total_seconds() < start_budget(
        container_spec(pod, context.target.container)
    )


def start_budget(container: Mapping[str, Any]) -> int:
    """Return the seconds that a container's probes give it to start, at least one minute."""
    budget = 60
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container.get(kind) or {}
        if probe:
            budget = max(
                budget,
                probe.get("initialDelaySeconds", 0) + probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3),
            )
    return budget


def unscheduled(context: Context, pod: Mapping[str, Any], result: SectionResult) -> None:
    for item in pod.get("status", {}).get("conditions") or []:
        if item["type"] == "PodScheduled" and item["status"] == "False":
            facts = {"pod": pod["metadata"]["name"], "reason": item.get("message", "")}
            result.findings.append(
                simple(
                    context,
                    "pods.unschedulable",
                    f"pod {pod['metadata']['name']} cannot be placed: {item.get('message', '')}",
                    facts,
                    since=item.get("lastTransitionTime"),
                )
            )


def volumes(context: Context, pod: Mapping[str, Any], events: list[dict[str, Any]], result: SectionResult) -> None:
    if pod.get("status", {}).get("phase") != "Pending":
        return
    for event in events:
        if event.get("reason") in ("FailedMount", "FailedAttachVolume"):
            text = event.get("message", "")
            missing = MISSING_OBJECT.search(text)
            if missing:
                config_missing(context, pod, missing, text, result)
            else:
                result.findings.append(
                    simple(
                        context,
                        "pods.volume_not_mounted",
                        f"a volume cannot be mounted: {text}",
                        {"pod": pod["metadata"]["name"], "reason": text},
                        since=event_start(event),
                    )
                )


def failing_probes(
    context: Context, pod: Mapping[str, Any], events: list[dict[str, Any]], result: SectionResult
) -> None:
    if is_ready(pod) or is_starting(context, pod):
        return
    for event in events:
        match = PROBE_FAILURE.match(event.get("message", ""))
        if event.get("reason") != "Unhealthy" or not match:
            continue
        status = PROBE_STATUS.search(match["text"])
        probe = match["probe"].lower()
        spec = container_spec(pod, context.target.container).get(f"{probe}Probe") or {}
        result.findings.append(
            Finding(
                "pods.probe_failing",
                f"pod/{pod['metadata']['name']}",
                f"the {probe} probe of pod {pod['metadata']['name']} fails: {match['text'].strip()[:160]}",
                pod_keys(context, "kubernetes.events"),
                since=event_start(event),
                measured=True,
                facts={
                    "probe": probe,
                    "status": status["status"] if status else "",
                    "path": (spec.get("httpGet") or {}).get("path", ""),
                    "seen": event_time(event),
                },
            )
        )


def deduce_probe_mistake(context: Context, result: SectionResult) -> None:
    """A probe that gets 401, 403 or 404 from a server whose API answers is wrong (field guide K-13, W-11)."""
    answered = [
        item
        for item in context.evidence.all("probe.http", "pod")
        if item.seen and "experiments/search" in item.subject and item.value.get("status") == 200
    ]
    for finding in [item for item in result.findings if item.id == "pods.probe_failing"]:
        if answered and finding.facts["status"] in ("401", "403", "404"):
            facts = {**finding.facts, "container": context.target.container}
            result.findings.append(
                Finding(
                    "pods.probe_misconfigured",
                    workload_name(context),
                    f"the {facts['probe']} probe asks {facts['path']} and gets {facts['status']}, but the API answers",
                    (*finding.evidence, *keys(answered)),
                    since=finding.since,
                    configured=True,
                    measured=True,
                    facts=facts,
                )
            )
            return
