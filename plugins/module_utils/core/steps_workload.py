# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps on the server's Deployment and its pods: restart, delete, scale, limits, roll back."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .kubernetes_patch import MISSING, at, edit, patch_change, reference
from .quantity import byte_count, cores
from .server_setting import command_of, container_index, runs_jobs, target_name, workers_of
from .step import Situation, Step, StepClass, proven
from .verdict import Cause
from .workload import replica_sets, server_pods, workload

RESTART_ANNOTATION = "mlflow-runbook.mlops/restart"
HASH_LABEL = "pod-template-hash"
MEBIBYTE = 1 << 20
PER_WORKER, BASE, BASE_WITH_JOBS = 160 * MEBIBYTE, 200 * MEBIBYTE, 1500 * MEBIBYTE
"""Idle memory of MLflow 3.17.2 (field guide 2.3): 0.35 GiB with one worker, 0.89 with four, 1.67 and 2.1 with jobs."""
MARGIN = 1.3
"""Measured values vary by a fifth between environments (field guide section 11); requests need room besides."""
FINISHED = frozenset({"Failed", "Succeeded"})


def most_unavailable(found: Mapping[str, Any]) -> int:
    """Return how many ready replicas a rollout of a workload may take away at once (Kubernetes, rolling update)."""
    replicas = int(found["spec"].get("replicas", 1))
    strategy = found["spec"].get("strategy") or found["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "Recreate":
        return replicas
    given = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", "25%" if "strategy" in found["spec"] else 1)
    text = str(given)
    return math.floor(replicas * int(text[:-1]) / 100) if text.endswith("%") else int(text)


def restart_of(cause: Cause, situation: Situation, name: str) -> Step:
    """Let the workload make its pods anew, as ``kubectl rollout restart`` does."""
    found = workload(situation.context)
    step = Step(name, "pods", cause.finding.id, target_name(situation), StepClass.OPERATING, {}, starts_pods=True)
    if found is None:
        return blocked(step, "the workload was not seen", cause)
    oldest = min((str(pod["status"].get("startTime") or "") for pod in server_pods(situation.context)), default="")
    # The same state must give the same value, or a plan would never be the one that was shown.
    value = f"{cause.fingerprint} {oldest}".strip()
    annotations = at(found, "spec", "template", "metadata", "annotations")
    path = ("spec", "template", "metadata", "annotations")
    changed = (
        edit(found, path, {RESTART_ANNOTATION: value})
        if annotations is MISSING
        else edit(found, (*path, RESTART_ANNOTATION), value)
    )
    change, dummy = patch_change(found, situation.target.kind, [changed])
    return replace(
        step,
        change=change,
        proven=proven(cause),
        unavailable=most_unavailable(found),
    )


def restart(cause: Cause, situation: Situation) -> Step:
    return restart_of(cause, situation, "restart")


def restart_stale_pods(cause: Cause, situation: Situation) -> Step:
    """Restart pods that still use what their Secret, ConfigMap or ServiceAccount said before it changed."""
    return restart_of(cause, situation, "restart_stale_pods")


def delete_failed_pods(cause: Cause, situation: Situation) -> Step:
    """Remove pods that have ended for good, such as evicted ones; their controller has replaced them already."""
    ended = [pod for pod in server_pods(situation.context) if pod["status"].get("phase") in FINISHED]
    change = {
        "service": "kubernetes",
        "operation": "delete",
        "namespace": situation.target.namespace,
        "pods": [
            {**reference(pod, "Pod"), "resource_version": pod["metadata"].get("resourceVersion", "")} for pod in ended
        ],
    }
    return Step(
        "delete_failed_pods",
        "pods",
        cause.finding.id,
        target_name(situation),
        StepClass.OPERATING,
        change if ended else {},
        blocked="" if ended else "no pod of the server has ended for good",
        proven=cause.finding.configured,
    )


def scale_out(cause: Cause, situation: Situation) -> Step:
    """Add one replica."""
    found = workload(situation.context)
    step = Step("scale_out", "latency", cause.finding.id, target_name(situation), StepClass.DECLARED_STATE, {})
    if found is None:
        return blocked(step, "the workload was not seen", cause)
    now = int(found["spec"].get("replicas", 1))
    change, undo = patch_change(found, situation.target.kind, [edit(found, ("spec", "replicas"), now + 1)])
    scaler = next(
        (
            item["metadata"]["name"]
            for item in situation.context.evidence.objects(
                "kubernetes.horizontalpodautoscalers", situation.target.namespace
            )
            if item["spec"]["scaleTargetRef"]["name"] == situation.target.deployment
        ),
        "",
    )
    claims = [
        item for item in found["spec"]["template"]["spec"].get("volumes") or [] if "persistentVolumeClaim" in item
    ]
    scheme = str(situation.target.backend.get("scheme") or "")
    reason = (
        f"horizontalpodautoscaler/{scaler} decides the number of replicas"
        if scaler
        else f"the volume claim {claims[0]['persistentVolumeClaim']['claimName']} cannot be shared safely"
        if claims
        else f"a store of the scheme {scheme or 'sqlite'} cannot be shared"
        if not scheme.startswith(("postgres", "mysql", "mssql"))
        else f"{now + 1} replicas are more than mlflow_replicas_ceiling, {situation.settings.replicas_ceiling}"
        if now >= situation.settings.replicas_ceiling
        else ""
    )
    return replace(
        step,
        change=change,
        undo=undo,
        blocked=reason,
        proven=cause.finding.measured,
        starts_pods=True,
        replicas=now + 1,
    )


def raise_limit(cause: Cause, situation: Situation, resource: str, wanted: float, ceiling: float, text: str) -> Step:
    """Raise a container's limit, and its request where that equals the limit.

    Args:
        resource: ``memory`` or ``cpu``.
        wanted: the new limit in bytes or cores.
        ceiling: the highest that the operator allows.
        text: the new limit as Kubernetes writes it.
    """
    found = workload(situation.context)
    name = f"raise_{resource}_limit"
    section = "latency" if resource == "cpu" else "pods"
    step = Step(name, section, cause.finding.id, target_name(situation), StepClass.DECLARED_STATE, {}, starts_pods=True)
    index = container_index(found, str(cause.finding.facts.get("container") or situation.target.container))
    if found is None or index is None:
        return blocked(step, "the container is not one of the workload's", cause)
    base = ("spec", "template", "spec", "containers", index, "resources")
    limit, request = at(found, *base, "limits", resource), at(found, *base, "requests", resource)
    if limit is MISSING:
        return blocked(step, f"the container has no {resource} limit", cause)
    edits = [edit(found, (*base, "limits", resource), text)]
    if request == limit:
        edits.append(edit(found, (*base, "requests", resource), text))
    change, undo = patch_change(found, situation.target.kind, edits)
    highest = f"mlflow_{resource}_ceiling"
    return replace(
        step,
        change=change,
        undo=undo,
        blocked=f"{text} is more than {highest} allows" if wanted > ceiling else "",
        proven=proven(cause),
        unavailable=most_unavailable(found),
    )


def raise_memory_limit(cause: Cause, situation: Situation) -> Step:
    """Raise the limit to what MLflow needs, or to twice what it is (field guide K-09)."""
    now = byte_count(str(cause.finding.facts.get("limit") or "")) or 0
    container = str(cause.finding.facts.get("container") or situation.target.container)
    wanted = max(footprint(situation) if container == situation.target.container else 0, 2 * now)
    text = memory_text(wanted)
    return raise_limit(cause, situation, "memory", wanted, byte_count(situation.settings.memory_ceiling) or 0, text)


def memory_text(count: float) -> str:
    """Write bytes as the API server itself does, so that a later comparison finds the same text."""
    mebibytes = math.ceil(count / MEBIBYTE)
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"


def cpu_text(count: float) -> str:
    """Write cores as the API server itself does."""
    millicores = round(count * 1000)
    return str(millicores // 1000) if millicores % 1000 == 0 else f"{millicores}m"


def footprint(situation: Situation) -> int:
    """Return the bytes that the server needs when idle, with a margin, from its workers and its job execution."""
    command = command_of(situation)
    workers = workers_of(command)
    return round(MARGIN * (BASE_WITH_JOBS if runs_jobs(command) else BASE) + MARGIN * workers * PER_WORKER)


def raise_cpu_limit(cause: Cause, situation: Situation) -> Step:
    """Raise the limit to what holds nothing back, or to twice what it is (field guide L-01)."""
    facts = cause.finding.facts
    wanted = max(2 * float(facts.get("limit") or 0), float(facts.get("enough") or 0))
    return raise_limit(cause, situation, "cpu", wanted, cores(situation.settings.cpu_ceiling), cpu_text(wanted))


def roll_back(cause: Cause, situation: Situation) -> Step:
    """Return to the last ReplicaSet whose pods were ready, by its name: the previous one may be as broken."""
    found = workload(situation.context)
    step = Step("roll_back", "pods", cause.finding.id, target_name(situation), StepClass.DECLARED_STATE, {})
    if found is None or situation.target.kind != "Deployment":
        return blocked(step, "only a Deployment keeps its earlier revisions", cause)
    good = last_good(situation)
    if good is None:
        return blocked(step, "no earlier ReplicaSet is known to have been ready", cause)
    template = copy.deepcopy(good["spec"]["template"])
    (template.get("metadata", {}).get("labels") or {}).pop(HASH_LABEL, None)
    change, undo = patch_change(found, "Deployment", [edit(found, ("spec", "template"), template)])
    return replace(
        step,
        change={**change, "replica_set": good["metadata"]["name"]},
        undo=undo,
        proven=cause.finding.configured or cause.finding.measured,
        starts_pods=True,
        unavailable=most_unavailable(found),
    )


def last_good(situation: Situation) -> dict[str, Any] | None:
    """Return the newest ReplicaSet before the current one that is ready now, or was at the last healthy diagnosis."""
    known = set(situation.baseline.get("ready_replica_sets") or [])
    earlier = replica_sets(situation.context)[1:]
    ready = [item for item in earlier if int((item.get("status") or {}).get("readyReplicas") or 0) > 0]
    recorded = [item for item in earlier if item["metadata"]["name"] in known]
    return next(iter([*ready, *recorded]), None)


def blocked(step: Step, reason: str, cause: Cause) -> Step:
    return replace(step, blocked=reason, proven=proven(cause))
