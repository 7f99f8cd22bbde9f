# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that would repair the causes, each with its exact change and undo, under one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from .discovery import Target
from .evidence import API, CLOUD, EvidenceSet
from .security_group import ANY_PROTOCOL, covers_port, missing_rules, single_rules
from .verdict import Cause, Verdict


class StepClass(StrEnum):
    """How much a step needs before it may be carried out."""

    OPERATING = "operating"
    DECLARED_STATE = "declared_state"
    PROPOSED = "proposed"


@dataclass(frozen=True)
class Step:
    """One repair.

    Attributes:
        step: its name, as ``mlflow_allowed_steps`` spells it.
        section: the section whose role carries it out.
        cause: id of the cause that it repairs.
        object: what it changes.
        step_class: which class of rules guards it.
        change: the exact change; empty when nothing verbatim is known.
        undo: the change that takes it back.
        blocked: why it cannot be carried out whatever is allowed; empty when it can.
        proven: whether configuration and behaviour both prove the cause.
    """

    step: str
    section: str
    cause: str
    object: str
    step_class: StepClass
    change: Mapping[str, Any]
    undo: Mapping[str, Any]
    blocked: str = ""
    proven: bool = False


@dataclass(frozen=True)
class Plan:
    """All steps for one verdict on one server, and the digest that an approval names."""

    digest: str
    steps: tuple[Step, ...]
    place: Mapping[str, str]


def place_of(evidence: EvidenceSet) -> dict[str, str]:
    """Return which cluster and which AWS account were diagnosed."""
    cluster = evidence.value("kubernetes.cluster", API, default={})
    caller = evidence.value("aws.caller_identity", CLOUD, default={})
    return {"cluster": str(cluster.get("uid", "")), "account": str(caller.get("account", ""))}


def security_groups(evidence: EvidenceSet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = evidence.value("aws.security_groups", CLOUD, default={"items": []})["items"]
    return found


def restore_security_group_rule(cause: Cause, evidence: EvidenceSet, baseline: Mapping[str, Any]) -> Step:
    """Put back, verbatim, the rules for the database's port that the last healthy run saw and that are gone now."""
    groups = {group["GroupId"]: group for group in security_groups(evidence)}
    known = baseline.get("security_groups") or {}
    port = int(cause.finding.facts.get("port") or 5432)
    group_id, rules = next(
        (
            (name, rules)
            for name in sorted(groups)
            if (rules := [rule for rule in missing_rules(known.get(name, {}), groups[name]) if covers_port(rule, port)])
        ),
        (cause.finding.object, []),
    )
    blocked = "" if rules else f"no healthy run has recorded a rule for TCP {port} that is missing now"
    change = {
        "service": "ec2",
        "operation": "AuthorizeSecurityGroupIngress",
        "group_id": group_id,
        "group_name": groups.get(group_id, {}).get("GroupName", ""),
        "description": groups.get(group_id, {}).get("Description", ""),
        "rules": rules,
    }
    return Step(
        step="restore_security_group_rule",
        section="database",
        cause=cause.finding.id,
        object=group_id,
        step_class=StepClass.DECLARED_STATE,
        change=change if rules else {},
        undo={**change, "operation": "RevokeSecurityGroupIngress"} if rules else {},
        blocked=blocked,
        proven=cause.finding.configured and cause.finding.measured,
    )


def module_rules(step: Step) -> list[dict[str, Any]]:
    """Return a step's security-group rules in the form of ``amazon.aws.ec2_security_group``."""
    names = {"CidrIp": "cidr_ip", "CidrIpv6": "cidr_ipv6", "GroupId": "group_id", "PrefixListId": "ip_prefix"}
    return [
        {
            "proto": "all" if rule["IpProtocol"] == ANY_PROTOCOL else rule["IpProtocol"],
            **({"from_port": rule["FromPort"], "to_port": rule["ToPort"]} if "FromPort" in rule else {}),
            **{names[key]: value for key, value in rule.items() if key in names},
        }
        for rule in step.change.get("rules", [])
    ]


Builder = Callable[[Cause, EvidenceSet, Mapping[str, Any]], Step]
BUILDERS: Mapping[str, Builder] = MappingProxyType({"database.security_group_closed": restore_security_group_rule})
STEPS = frozenset({"restore_security_group_rule"})


def digest_of(
    target: Target | None, place: Mapping[str, str], verdict: Verdict, steps: tuple[Step, ...], evidence: EvidenceSet
) -> str:
    """Digest exactly what a person approves: server, causes, changes, and the state that the changes start from."""
    document = {
        "server": {"uid": target.uid if target else "", **place},
        "causes": [[cause.finding.id, cause.finding.object] for cause in verdict.causes],
        "steps": [[step.step, step.object, step.change] for step in steps],
        "versions": {group["GroupId"]: single_rules(group) for group in security_groups(evidence)},
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def make_plan(target: Target | None, verdict: Verdict, evidence: EvidenceSet, baseline: Mapping[str, Any]) -> Plan:
    """Build the plan for a verdict.

    Args:
        target: the server.
        verdict: its causes decide the steps.
        evidence: the state that the changes start from.
        baseline: what the last healthy diagnosis recorded; empty when there was none.
    """
    repairable = [cause for cause in verdict.causes if cause.finding.id in BUILDERS]
    steps = tuple(BUILDERS[cause.finding.id](cause, evidence, baseline) for cause in repairable)
    place = place_of(evidence)
    return Plan(digest_of(target, place, verdict, steps, evidence), steps, place)
