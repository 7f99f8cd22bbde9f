# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check pod status, Pod not starting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ..core.catalogue import BY_ID
from ..core.evidence import API
from ..core.findings import Context, Finding, SectionResult, keys, parse_time
from ..core.kinds import Role
from ..core.workload import (
    container_spec,
    container_statuses,
    current_pods,
    event_start,
    events_about,
    is_ready,
    ready_pods,
    replica_sets,
    revision,
    server_pods,
    workload,
    workload_name,
)
from . import pod_lifecycle, pod_probes
from .pod_containers import (
    MISSING_OBJECT,
    REPEATED,
    SETTLED,
    config_missing,
    init_failing,
    is_sidecar,
    judge_container,
    pod_keys,
    simple,
)
from .pod_probes import is_starting, start_budget

CREATE_FAILURES = (
    ("pods.quota_exceeded", re.compile(r"exceeded quota|must specify .* for")),
    ("pods.admission_denied", re.compile(r"denied the request|violates PodSecurity|forbidden: |error looking up")),
)
GATE_PATIENCE = timedelta(seconds=20)
"""A load balancer's controller sets its condition within some seconds after the containers are ready."""

NODE_NOT_TOLD = re.compile(r"no relationship found between node '")
"""The node authorizer hears of a new pod a moment after the kubelet, whose next try gets through (Kubernetes
documentation, Using Node Authorization)."""

INIT_SECONDS = 120
"""Migrations of a small database end within seconds; waiting for something that does not come never ends."""


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
    for pod in pod_lifecycle.overdue(context):
        pod_lifecycle.stuck_terminating(context, pod, result)
        node_not_ready(context, pod, result)
    pod_lifecycle.rollout_paused(context, result)
    rollout_stuck(context, result)
    if ready_pods(context) and all(BY_ID[item.id].role is Role.NOTE for item in result.findings):
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
    """Find pods that could not even be created: quota, admission; the condition outlives the events."""
    refused = refused_by_condition(context) if replica_sets(context) else refused_by_event(context)
    for text, since in refused[:1]:
        missing = MISSING_OBJECT.search(text)
        if missing:
            result.findings.append(config_missing(context, missing, text, since))
            continue
        identifier = next((name for name, pattern in CREATE_FAILURES if pattern.search(text)), "pods.admission_denied")
        result.findings.append(
            Finding(
                identifier,
                workload_name(context),
                f"no pod can be created: {text}",
                pod_keys(context, "kubernetes.replicasets", "kubernetes.events"),
                since=since,
                configured=True,
                measured=True,
                facts={"reason": text},
            )
        )


def rollout_stuck(context: Context, result: SectionResult) -> None:
    """Say that the newest revision does not come up while an earlier one still serves (field guide K-20)."""
    newest = next(iter(replica_sets(context)), None)
    new = {pod["metadata"]["name"] for pod in current_pods(context)}
    old = [pod for pod in ready_pods(context) if pod["metadata"]["name"] not in new]
    conditions = ((workload(context) or {}).get("status") or {}).get("conditions") or []
    late = any(item.get("reason") == "ProgressDeadlineExceeded" for item in conditions)
    kept = [item for item in result.findings if item.id != "pods.starting"]
    if newest is None or not old or any(is_ready(pod) for pod in current_pods(context)) or not (late or kept):
        return
    result.findings.append(
        Finding(
            "pods.rollout_stuck",
            workload_name(context),
            f"revision {revision(newest)} of {workload_name(context)} does not become ready; "
            f"{len(old)} of an earlier revision still {'serves' if len(old) == 1 else 'serve'}",
            pod_keys(context, "kubernetes.replicasets"),
            since=newest["metadata"].get("creationTimestamp"),
            measured=True,
        )
    )


def refused_by_condition(context: Context) -> list[tuple[str, str]]:
    """Return what the API says to the newest ReplicaSet, and since when."""
    return [
        (item.get("message", ""), item.get("lastTransitionTime", ""))
        for newest in replica_sets(context)[:1]
        for item in (newest.get("status") or {}).get("conditions") or []
        if item["type"] == "ReplicaFailure" and item["status"] == "True" and item.get("reason") == "FailedCreate"
    ]


def refused_by_event(context: Context) -> list[tuple[str, str]]:
    """Return what the API says to a StatefulSet, which has no such condition; its events tell of the past as well."""
    if current_pods(context):
        return []
    return [
        (event.get("message", ""), event_start(event))
        for event in events_about(context, context.target.deployment)
        if event.get("reason") == "FailedCreate"
        and any(pattern.search(event.get("message", "")) for dummy, pattern in CREATE_FAILURES)
    ]


def judge_pod(context: Context, pod: Mapping[str, Any], result: SectionResult) -> None:
    name = pod["metadata"]["name"]
    events = events_about(context, name)
    evicted = eviction(context, pod)
    if evicted is not None:
        if not ready_pods(context) or evicted_again(context):
            facts = {"pod": name, "reason": evicted}
            result.findings.append(simple(context, "pods.evicted", f"pod {name} was evicted: {evicted}", facts))
        return
    unscheduled(context, pod, result)
    node_not_ready(context, pod, result)
    volumes(context, pod, events, result)
    for status, init in container_statuses(pod):
        judge_container(context, pod, status, init, events, result)
    endless_init(context, pod, result)
    pod_probes.judge(context, pod, events, result)
    if is_ready(pod):
        return
    readiness_gates(context, pod, result)
    pod_lifecycle.hook_failing(context, pod, events, result)
    if is_starting(context, pod):
        starting(context, pod, result)
    elif pod.get("status", {}).get("phase") == "Running":
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


def readiness_gates(context: Context, pod: Mapping[str, Any], result: SectionResult) -> None:
    """Report a condition that somebody else has to set before the pod counts as ready, and has not (I-07, I-08)."""
    conditions = {item["type"]: item for item in pod.get("status", {}).get("conditions") or []}
    contained = conditions.get("ContainersReady") or {}
    if contained.get("status") != "True":
        return
    settled = contained.get("lastTransitionTime")
    if settled and context.now - parse_time(settled) < GATE_PATIENCE:
        return
    for gate in pod["spec"].get("readinessGates") or []:
        name = gate["conditionType"]
        seen = conditions.get(name) or {}
        if seen.get("status") != "True":
            said = f"is {seen['status']}: {seen.get('message', '')}" if seen else "was never set"
            facts = {"gate": name, "pod": pod["metadata"]["name"]}
            text = f"all containers of pod {facts['pod']} are ready, but its readiness gate {name} {said}"
            found = simple(context, "pods.readiness_gate_waiting", text, facts, since=settled)
            result.findings.append(found)


def eviction(context: Context, pod: Mapping[str, Any]) -> str | None:
    """Return why a pod was evicted; one whose server ended with 0 is ``Succeeded``, only its event says so (K-17)."""
    status = pod.get("status", {})
    if status.get("phase") not in ("Failed", "Succeeded"):
        return None
    if status.get("phase") == "Failed" and status.get("reason") == "Evicted":
        return str(status.get("message", ""))
    told = [item for item in events_about(context, pod["metadata"]["name"]) if item.get("reason") == "Evicted"]
    return str(told[-1].get("message", "")) if told else None


def evicted_again(context: Context) -> bool:
    """Tell whether one pod after the other is evicted, so that the one that is ready now will be as well."""
    moments = [
        pod["status"].get("startTime") or pod["metadata"]["creationTimestamp"]
        for pod in server_pods(context)
        if eviction(context, pod) is not None
    ]
    return sum(context.now - parse_time(moment) <= SETTLED for moment in moments) >= REPEATED


def starting(context: Context, pod: Mapping[str, Any], result: SectionResult) -> None:
    """Say that a pod still has time to start, unless something already keeps it from starting."""
    name = pod["metadata"]["name"]
    known = {finding.id for finding in result.findings} - {"pods.starting", "pods.probe_failing"}
    if known or not current(context, pod):
        return
    age = int((context.now - parse_time(pod["metadata"]["creationTimestamp"])).total_seconds())
    budget = start_budget(container_spec(pod, context.target.container))
    result.findings.append(
        Finding(
            "pods.starting",
            f"pod/{name}",
            f"pod {name} was made {age} s ago and is starting; its probes give it {budget} s",
            pod_keys(context),
            since=pod["metadata"]["creationTimestamp"],
            measured=True,
        )
    )


def current(context: Context, pod: Mapping[str, Any]) -> bool:
    return any(item["metadata"]["name"] == pod["metadata"]["name"] for item in current_pods(context))


def not_ready_since(pod: Mapping[str, Any]) -> str | None:
    for item in pod["status"].get("conditions") or []:
        if item["type"] == "Ready":
            return item.get("lastTransitionTime")
    return None


def unscheduled(context: Context, pod: Mapping[str, Any], result: SectionResult) -> None:
    for item in pod.get("status", {}).get("conditions") or []:
        if item["type"] == "PodScheduled" and item["status"] == "False":
            missing = MISSING_OBJECT.search(item.get("message", ""))
            if missing:
                since = item.get("lastTransitionTime", "")
                result.findings.append(config_missing(context, missing, item["message"], since))
                continue
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


def endless_init(context: Context, pod: Mapping[str, Any], result: SectionResult) -> None:
    """An init container that waits for something waits in silence; only an outage makes that a finding."""
    if ready_pods(context):
        return
    for status, init in container_statuses(pod):
        since = ((status.get("state") or {}).get("running") or {}).get("startedAt", "")
        if not init or not since or is_sidecar(pod, status["name"]):
            continue
        seconds = int((context.now - parse_time(since)).total_seconds())
        if seconds >= INIT_SECONDS:
            result.findings.append(init_failing(context, pod, status, f"has not ended for {seconds} s", since))


def node_not_ready(context: Context, pod: Mapping[str, Any], result: SectionResult) -> None:
    name = pod["spec"].get("nodeName", "")
    for node in context.evidence.objects("kubernetes.nodes") if name and not is_ready(pod) else []:
        for item in (node.get("status") or {}).get("conditions") or []:
            if node["metadata"]["name"] == name and item["type"] == "Ready" and item["status"] != "True":
                result.findings.append(
                    Finding(
                        "pods.node_not_ready",
                        f"node/{name}",
                        f"node {name}, on which pod {pod['metadata']['name']} runs, is not ready: "
                        f"{item.get('message', '')}",
                        pod_keys(context, "kubernetes.nodes"),
                        since=item.get("lastTransitionTime"),
                        configured=True,
                        measured=True,
                        facts={"node": name},
                    )
                )


def volumes(context: Context, pod: Mapping[str, Any], events: list[dict[str, Any]], result: SectionResult) -> None:
    if pod.get("status", {}).get("phase") != "Pending":
        return
    for event in events:
        text = event.get("message", "")
        if event.get("reason") == "FailedCreatePodSandBox":
            facts = {"pod": pod["metadata"]["name"], "reason": text}
            result.findings.append(
                simple(
                    context,
                    "pods.no_sandbox",
                    f"the node cannot set the pod up: {text}",
                    facts,
                    since=event_start(event),
                )
            )
        if event.get("reason") in ("FailedMount", "FailedAttachVolume") and not NODE_NOT_TOLD.search(text):
            missing = MISSING_OBJECT.search(text)
            if missing:
                result.findings.append(config_missing(context, missing, text, event_start(event)))
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
