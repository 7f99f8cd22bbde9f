# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What surrounds a container's life: the hook after its start, and a deletion that does not end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ..core.findings import Context, SectionResult, parse_time
from ..core.workload import event_start, owned_pods, server_pods, workload
from .pod_containers import WORDS_SHOWN, simple

HOOK_FAILED = "FailedPostStartHook"
"""The kubelet kills the container after this event (Kubernetes documentation, Container Lifecycle Hooks)."""

OVERDUE = timedelta(seconds=20)
"""``deletionTimestamp`` already holds the grace period; the kubelet and the API server need some seconds more."""


def hook_failing(context: Context, pod: Mapping[str, Any], events: list[dict[str, Any]], result: SectionResult) -> None:
    """Find the postStart hook for whose failure the kubelet ends the container, whatever MLflow itself does."""
    for event in events:
        if event.get("reason") != HOOK_FAILED:
            continue
        container = str((event.get("involvedObject") or {}).get("fieldPath", "")).partition("{")[2].rstrip("}")
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


def overdue(context: Context) -> list[dict[str, Any]]:
    """Return the pods that should be gone and whose end the workload awaits before it makes another one."""
    wanted = ((workload(context) or {}).get("spec") or {}).get("replicas", 1)
    if server_pods(context) or not wanted:
        return []
    return [
        pod for pod in owned_pods(context) if context.now - parse_time(pod["metadata"]["deletionTimestamp"]) >= OVERDUE
    ]


def stuck_terminating(context: Context, result: SectionResult) -> None:
    for pod in overdue(context):
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
