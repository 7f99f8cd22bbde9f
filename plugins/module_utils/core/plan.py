# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that would repair the causes, each with its exact change and undo, under one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from . import steps_database, steps_service, steps_web_server, steps_workload
from .discovery import Target
from .evidence import API, CLOUD, EvidenceSet
from .findings import Finding
from .proposals import propose
from .server_setting import target_name
from .step import Situation, Step
from .verdict import Cause, Verdict

Builder = Callable[[Cause, Situation], Step]

_ROLL_BACK = (steps_workload.roll_back,)
BUILDERS: Mapping[str, tuple[Builder, ...]] = MappingProxyType(
    {
        "artifact_store.identity_stale": (steps_workload.restart_stale_pods,),
        "database.blocked_by_lock": (steps_database.end_idle_session,),
        "database.credentials_stale": (steps_workload.restart_stale_pods,),
        "database.instance_in_transition": (steps_database.wait,),
        "database.instance_stopped": (steps_database.start_database,),
        "database.pool_exhausted": (steps_workload.restart,),
        "database.security_group_closed": (steps_database.restore_security_group_rule,),
        "latency.cpu_throttled": (steps_workload.raise_cpu_limit,),
        "latency.workers_blocked": (
            steps_workload.restart,
            steps_web_server.raise_workers,
            steps_workload.scale_out,
        ),
        "pods.command_not_found": _ROLL_BACK,
        "pods.config_missing": _ROLL_BACK,
        "pods.config_stale": (steps_workload.restart_stale_pods,),
        "pods.evicted": (steps_workload.delete_failed_pods,),
        "pods.image_not_found": _ROLL_BACK,
        "pods.out_of_memory": (steps_workload.raise_memory_limit,),
        "pods.probe_misconfigured": _ROLL_BACK,
        "pods.unschedulable": (steps_database.wait, *_ROLL_BACK),
        "pods.worker_out_of_memory": (steps_workload.raise_memory_limit,),
        "service.port_mismatch": (steps_service.repair_service,),
        "service.selector_matches_nothing": (steps_service.repair_service,),
        "service.selector_matches_others": (steps_service.repair_service,),
        "web_server.artifact_disk_full": (steps_database.clear_artifact_cache,),
        "web_server.bound_to_loopback": _ROLL_BACK,
        "web_server.driver_missing": _ROLL_BACK,
        "web_server.host_not_allowed": (steps_web_server.allow_hosts,),
        "web_server.options_invalid": _ROLL_BACK,
        "web_server.static_prefix": (steps_web_server.remove_static_prefix,),
        "web_server.worker_timeout": (steps_web_server.raise_worker_timeout, steps_web_server.raise_workers),
        "web_server.workers_cannot_start": _ROLL_BACK,
    }
)
"""What repairs a kind of cause, the gentlest first."""

STEPS = frozenset(
    {
        "allow_hosts",
        "clear_artifact_cache",
        "delete_failed_pods",
        "end_idle_session",
        "raise_cpu_limit",
        "raise_memory_limit",
        "raise_worker_timeout",
        "raise_workers",
        "remove_static_prefix",
        "repair_service",
        "restart",
        "restart_stale_pods",
        "restore_security_group_rule",
        "roll_back",
        "scale_out",
        "start_database",
        "wait",
    }
)
"""Names that ``mlflow_allowed_steps`` may hold."""

STARTS_PODS = STEPS & {
    "allow_hosts",
    "raise_cpu_limit",
    "raise_memory_limit",
    "raise_worker_timeout",
    "raise_workers",
    "remove_static_prefix",
    "restart",
    "restart_stale_pods",
    "roll_back",
    "scale_out",
}
"""Steps before which a copy of the server's pod has to show that a new one would live."""


ON_REQUEST: Mapping[str, Builder] = MappingProxyType(
    {"restart": steps_workload.restart, "clear_artifact_cache": steps_database.clear_artifact_cache}
)
"""What the runbook's quick fixes do, whatever the cause."""

REQUESTED = "requested"
"""Stands for a cause where a person asks for a step."""


@dataclass(frozen=True)
class Plan:
    """All steps for one verdict on one server, and the digest that an approval names."""

    digest: str
    steps: tuple[Step, ...]
    place: Mapping[str, str]
    causes: tuple[Cause, ...] = ()
    situation: Situation | None = None


def place_of(evidence: EvidenceSet) -> dict[str, str]:
    """Return which cluster and which AWS account were diagnosed."""
    cluster = evidence.value("kubernetes.cluster", API, default={})
    caller = evidence.value("aws.caller_identity", CLOUD, default={})
    return {"cluster": str(cluster.get("uid", "")), "account": str(caller.get("account", ""))}


def digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()


def step_digest(step: Step) -> str:
    """Digest one step: its name, its object and its exact change."""
    return digest([step.step, step.object, dict(step.change)])


def digest_of(
    target: Target | None, place: Mapping[str, str], verdict: Verdict, steps: tuple[Step, ...], evidence: EvidenceSet
) -> str:
    """Digest exactly what a person approves: server, causes, changes, and the state that the changes start from."""
    return digest(
        {
            "server": dict(place) | {"uid": target.uid if target else ""},
            "causes": [[cause.finding.id, cause.finding.object] for cause in verdict.causes],
            "steps": [[step.step, step.object, dict(step.change)] for step in steps],
            "versions": steps_database.rules_by_group(evidence),
        }
    )


def make_plan(situation: Situation | None, verdict: Verdict, evidence: EvidenceSet) -> Plan:
    """Build the plan for a verdict.

    Args:
        situation: the server, the evidence, the baseline and the operator's ceilings; None without a server.
        verdict: its causes decide the steps.
        evidence: the state that the changes start from.
    """
    steps: list[Step] = requested(situation) if situation is not None else []
    for cause in verdict.causes if not steps else ():
        if situation is None:
            break
        built = [build(cause, situation) for build in BUILDERS.get(cause.finding.id, ())]
        steps += [replace(step, cause_object=cause.finding.object) for step in [*built, *propose(cause, situation)]]
    place = place_of(evidence)
    target = situation.target if situation is not None else None
    return Plan(
        digest_of(target, place, verdict, tuple(steps), evidence), tuple(steps), place, verdict.causes, situation
    )


def requested(situation: Situation) -> list[Step]:
    """Return the step that a person asks for; nothing when none is asked for."""
    name = situation.settings.requested_step
    if not name:
        return []
    what = target_name(situation)
    finding = Finding(REQUESTED, what, "a person asks for it", (), configured=True, measured=True)
    return [replace(ON_REQUEST[name](Cause(finding, (), None, (), ()), situation), cause_object=what)]
