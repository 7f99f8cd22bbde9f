# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards that look at the server itself: its pods, its objects' owners, its database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from . import connection_budget as budgets
from . import new_pod as proof_of_new_pod
from .findings import Context
from .kubernetes_patch import RESOURCES
from .ownership import owner_of, pause_of, touched_by_person
from .plan import Plan
from .server_setting import command_of, runs_jobs, workers_of
from .step import Situation, Step, StepClass
from .workload import current_pods, probes_from_server, ready_pods, replica_sets, workload

SHARED_DOWN = frozenset(
    {
        "database.instance_stopped",
        "database.instance_in_transition",
        "database.instance_failed",
        "database.instance_missing",
        "database.not_accepting",
        "database.not_listening",
        "database.security_group_closed",
        "database.storage_full",
        "network_policy.dns_failing",
        "pods.node_not_ready",
    }
)
"""Causes that lie in what several servers share: nothing that is done to one of them helps."""

REPEATED = 2
TERMINAL = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""Reasons out of which no pod comes by itself (Kubernetes, container states)."""


def object_of(step: Step, situation: Situation) -> dict[str, Any] | None:
    """Return the Kubernetes object that a step changes, as it was seen; None when it changes none."""
    kind = RESOURCES.get(str(step.change.get("kind") or ""))
    for item in situation.context.evidence.objects(f"kubernetes.{kind}", situation.target.namespace) if kind else []:
        if item["metadata"]["name"] == step.change.get("name"):
            return item
    return None


def paused(step: Step, plan: Plan) -> str:
    """A person stops everything with one annotation, on the namespace, the workload or the object itself."""
    if plan.situation is None:
        return ""
    context = plan.situation.context
    namespace = context.evidence.value("kubernetes.namespace", subject=plan.situation.target.namespace)
    reason = pause_of(namespace, workload(context), object_of(step, plan.situation))
    return f"paused by annotation: {reason}" if reason else ""


def owned(step: Step, plan: Plan) -> str:
    """Declared state on an object that somebody applies would be taken back by its owner, so it is proposed to them."""
    if plan.situation is None or step.step_class is not StepClass.DECLARED_STATE:
        return ""
    found = object_of(step, plan.situation)
    owner = owner_of(found) if found else ""
    return f"{step.object} is applied by {owner}: the change is proposed to its owner" if owner else ""


def touched(step: Step, plan: Plan, now: datetime, quiet: timedelta) -> str:
    """Whoever works on an object right now is not interfered with."""
    found = object_of(step, plan.situation) if plan.situation is not None else None
    told = touched_by_person(found, now, quiet) if found else ""
    return (
        f"a person works on {step.object}: {told}; left alone for {int(quiet.total_seconds() // 60)} min"
        if told
        else ""
    )


def circuit_breaker(step: Step, plan: Plan) -> str:
    """A shared dependency that is down is repaired itself, or nothing is."""
    if step.shared or step.step_class is StepClass.PROPOSED:
        return ""
    down = [cause.finding for cause in plan.causes if cause.finding.id in SHARED_DOWN]
    return (
        f"{down[0].id} ({down[0].object}) is shared by several servers; nothing done to this one helps" if down else ""
    )


def rollout(step: Step, plan: Plan) -> str:
    """A rollout that is paused, or that still gets on, is left alone."""
    found = workload(plan.situation.context) if plan.situation is not None and step.starts_pods else None
    if found is None or plan.situation is None:
        return ""
    if found["spec"].get("paused"):
        return f"the rollout of {step.object} is paused"
    return "a rollout is under way" if under_way(found, plan.situation) else ""


def under_way(found: Mapping[str, Any], situation: Situation) -> bool:
    """Tell whether a Deployment's rollout goes on: not past its deadline, and no new pod in a state without an end."""
    status, wanted = found.get("status") or {}, int(found["spec"].get("replicas", 1))
    generation = int(found["metadata"].get("generation") or 0)
    if "observedGeneration" not in status or not generation:
        return False
    complete = int(status.get("updatedReplicas") or 0) >= wanted and int(status.get("replicas") or 0) <= wanted
    if int(status["observedGeneration"]) >= generation and complete:
        return False
    late = any(item.get("reason") == "ProgressDeadlineExceeded" for item in status.get("conditions") or [])
    return not late and not any(terminal(pod) for pod in current_pods(situation.context))


def terminal(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    states = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return any(
        ((item.get("state") or {}).get("waiting") or {}).get("reason") in TERMINAL or between_two_ends(item)
        for item in states
    )


def between_two_ends(status: Mapping[str, Any]) -> bool:
    """Tell whether a container that ended again and again just happens to run, or to be made anew, at this moment."""
    ended = "terminated" in (status.get("lastState") or {})
    return ended and not status.get("ready") and int(status.get("restartCount") or 0) >= REPEATED


def availability(step: Step, plan: Plan) -> str:
    """One replica that is ready now stays ready throughout."""
    if plan.situation is None or not step.starts_pods:
        return ""
    ready = len(ready_pods(plan.situation.context))
    left = max(0, ready - step.unavailable)
    if left >= min(ready, 1):
        return ""
    return f"its strategy takes {step.unavailable} of {ready} ready pods away before a new one is ready"


def connection_budget(step: Step, plan: Plan) -> str:
    """More replicas or workers may want more database sessions than there are."""
    if plan.situation is None or (step.replicas is None and step.workers is None):
        return ""
    situation = plan.situation
    found, command = workload(situation.context), command_of(situation)
    replicas = step.replicas or int(found["spec"].get("replicas", 1) if found else 1)
    workers = step.workers or workers_of(command)
    user = situation.target.backend.get("user")
    for item in probes_from_server(situation.context, "probe.query"):
        most, reserved = item.value.get("max_connections"), item.value.get("reserved")
        if not isinstance(most, int) or not isinstance(reserved, int):
            continue
        rows = item.value.get("connections") or []
        budget = budgets.connection_budget(
            replicas=replicas,
            workers=workers,
            pool=budgets.read_pool(command.environment),
            max_connections=most,
            reserved=reserved,
            jobs=runs_jobs(command),
            others=sum(int(row.get("count") or 0) for row in rows if row.get("user") not in (user, None)),
            limits=(item.value.get("role_connection_limit"), item.value.get("database_connection_limit")),
        )
        if budget.fits:
            return ""
        wanted = budget.needed or "any number of"
        return f"{replicas} x {workers} workers may open {wanted} sessions, the database has {budget.available}"
    return "how many sessions the database has left was not seen"


def new_pod(step: Step, plan: Plan, *, proven_later: bool) -> str:
    """A pod may start only if it would live."""
    if plan.situation is None or not step.starts_pods:
        return ""
    context = plan.situation.context
    earlier = str(step.change.get("replica_set") or "")
    image = image_of(context, earlier)
    found = proof_of_new_pod.problems(context, image, plan.situation.baseline, earlier)
    dummy, seen = proof_of_new_pod.witness(context, image, earlier)
    if proven_later and seen is None:
        return ""
    return "; ".join(found)


def image_of(context: Context, replica_set: str) -> str:
    """Return the image that new pods would have: that of an earlier revision, or the one configured now."""
    for item in replica_sets(context):
        if item["metadata"]["name"] == replica_set:
            for container in item["spec"]["template"]["spec"]["containers"]:
                if container["name"] == context.target.container:
                    return str(container["image"])
    return context.target.image
