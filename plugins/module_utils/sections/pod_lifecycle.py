# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What surrounds a container's life: the hook after its start, a deletion that does not end, a paused rollout."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ..core.catalogue import BY_ID
from ..core.changes import MOST_DIFFERENCES, differences
from ..core.findings import Context, SectionResult, parse_time
from ..core.kinds import Role
from ..core.workload import (
    container_statuses,
    event_start,
    owned_pods,
    ready_pods,
    replica_sets,
    server_pods,
    workload,
)
from .pod_containers import WORDS_SHOWN, simple

HOOK_FAILED = "FailedPostStartHook"
"""The kubelet kills the container after this event (Kubernetes documentation, Container Lifecycle Hooks)."""

HOOK_TIME = timedelta(minutes=1)
"""A hook that fails after longer than that is rare, and one that has succeeded proves nothing any more."""

OVERDUE = timedelta(seconds=20)
"""``deletionTimestamp`` already holds the grace period; the kubelet and the API server need some seconds more."""


def hook_failing(context: Context, pod: Mapping[str, Any], events: list[dict[str, Any]], result: SectionResult) -> None:
    """Find the postStart hook for whose failure the kubelet ends the container, whatever MLflow itself does."""
    for event in events:
        container = str((event.get("involvedObject") or {}).get("fieldPath", "")).partition("{")[2].rstrip("}")
        if event.get("reason") != HOOK_FAILED or outlived(context, pod, container):
            continue
        text = event.get("message", "")[: WORDS_SHOWN * 2]
        result.findings.append(
            simple(
                context,
                "pods.hook_failing",
                f"the postStart hook of container {container} fails, so the kubelet ends the container: {text}",
                {"container": container, "pod": pod["metadata"]["name"], "reason": text},
                since=event_start(event),
            )
        )


def outlived(context: Context, pod: Mapping[str, Any], container: str) -> bool:
    """Tell whether a container has run for so long that its hook has succeeded since."""
    for status, dummy in container_statuses(pod):
        began = ((status.get("state") or {}).get("running") or {}).get("startedAt")
        if status["name"] == container and began:
            return context.now - parse_time(began) >= HOOK_TIME
    return False


def overdue(context: Context) -> list[dict[str, Any]]:
    """Return the pods that should be gone and whose end the workload awaits before it makes another one."""
    wanted = ((workload(context) or {}).get("spec") or {}).get("replicas", 1)
    if server_pods(context) or not wanted:
        return []
    return [
        pod for pod in owned_pods(context) if context.now - parse_time(pod["metadata"]["deletionTimestamp"]) >= OVERDUE
    ]


def stuck_terminating(context: Context, pod: Mapping[str, Any], result: SectionResult) -> None:
    until = pod["metadata"]["deletionTimestamp"]
    name, holders = pod["metadata"]["name"], pod["metadata"].get("finalizers") or []
    why = f"finalizer {', '.join(holders)} holds it" if holders else "its containers have not ended"
    result.findings.append(
        simple(
            context,
            "pods.stuck_terminating",
            f"pod {name} should have been gone since {until}, {why}, and no other pod is made before that",
            {"pod": name, "why": why},
            since=until,
        )
    )


def waiting_changes(context: Context) -> list[str]:
    """Return what a paused rollout keeps from the pods, field by field."""
    found = workload(context)
    if found is None or not found["spec"].get("paused"):
        return []
    wanted = found["spec"]["template"]["spec"]
    given = [item["spec"]["template"]["spec"] for item in replica_sets(context) if item["spec"].get("replicas")]
    return differences(wanted, given[0], "spec") if given and wanted not in given else []


def rollout_paused(context: Context, result: SectionResult) -> None:
    """Find a correction that waits for somebody to resume the rollout; what the old pods suffer from is past then."""
    waiting = waiting_changes(context)
    if not waiting or ready_pods(context):
        return
    changes = "; ".join(waiting[:MOST_DIFFERENCES])
    result.findings = [item for item in result.findings if BY_ID[item.id].role is not Role.CAUSE]
    result.findings.append(
        simple(
            context,
            "pods.rollout_paused",
            f"the rollout of {context.target.deployment} is paused, and a change waits for its end: {changes}",
            {"changes": changes},
        )
    )
