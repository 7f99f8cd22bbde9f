# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps on the database: its security group, its start, an abandoned session, or patience."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .evidence import CLOUD, EvidenceSet
from .security_group import ANY_PROTOCOL, covers_port, missing_rules, single_rules
from .server_setting import target_name
from .step import Situation, Step, StepClass, proven
from .verdict import Cause

ROOM = "Insufficient"
"""The scheduler's word for what a further node would bring (field guide K-01)."""

IDLE_IN_TRANSACTION = "idle in transaction"


def security_groups(evidence: EvidenceSet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = evidence.value("aws.security_groups", CLOUD, default={"items": []})["items"]
    return found


def rules_by_group(evidence: EvidenceSet) -> dict[str, list[dict[str, Any]]]:
    """Return each group's rules one by one: the state from which a change of them starts."""
    return {group["GroupId"]: single_rules(group) for group in security_groups(evidence)}


def restore_security_group_rule(cause: Cause, situation: Situation) -> Step:
    """Put back, verbatim, the rules for the database's port that the last healthy run saw and that are gone now."""
    groups = {group["GroupId"]: group for group in security_groups(situation.context.evidence)}
    known = situation.baseline.get("security_groups") or {}
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
        proven=proven(cause),
        shared=group_id,
    )


def module_rules(change: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a change's security-group rules in the form of ``amazon.aws.ec2_security_group``."""
    names = {"CidrIp": "cidr_ip", "CidrIpv6": "cidr_ipv6", "GroupId": "group_id", "PrefixListId": "ip_prefix"}
    return [
        {
            "proto": "all" if rule["IpProtocol"] == ANY_PROTOCOL else rule["IpProtocol"],
            **({"from_port": rule["FromPort"], "to_port": rule["ToPort"]} if "FromPort" in rule else {}),
            **{names[key]: value for key, value in rule.items() if key in names},
        }
        for rule in change.get("rules", [])
    ]


def start_database(cause: Cause, situation: Situation) -> Step:
    """Start a stopped RDS instance, where a tag of the instance says that this may be done (field guide D-02)."""
    instance = situation.context.evidence.value("aws.db_instance", CLOUD, default={})
    identifier = str(instance.get("DBInstanceIdentifier") or situation.target.db_instance_identifier)
    tags = {item.get("Key"): item.get("Value") for item in instance.get("TagList") or []}
    name, dummy, wanted = situation.settings.start_tag.partition("=")
    permitted = tags.get(name) == wanted
    status = str(instance.get("DBInstanceStatus") or "unknown")
    change = {"service": "rds", "operation": "StartDBInstance", "identifier": identifier, "status": status}
    return Step(
        step="start_database",
        section="database",
        cause=cause.finding.id,
        object=identifier,
        step_class=StepClass.OPERATING,
        change=change,
        undo={"service": "rds", "operation": "StopDBInstance", "identifier": identifier},
        blocked=(
            f"the instance is {status}, only a stopped one is started"
            if status != "stopped"
            else ""
            if permitted
            else f"the instance has no tag {situation.settings.start_tag}, which would allow it"
        ),
        proven=proven(cause),
        shared=identifier,
        patience_seconds=situation.settings.wait_seconds,
    )


def wait(cause: Cause, situation: Situation) -> Step:
    """Leave alone what is on its way, for a bounded time, and look again."""
    seconds = situation.settings.wait_seconds
    reason = str(cause.finding.facts.get("reason") or "")
    hopeless = cause.finding.id == "pods.unschedulable" and ROOM not in reason
    return Step(
        step="wait",
        section=cause.finding.section,
        cause=cause.finding.id,
        object=cause.finding.object,
        step_class=StepClass.OPERATING,
        change={"service": "none", "operation": "wait", "seconds": seconds},
        blocked="a new node would not be another one for this pod" if hopeless else "",
        proven=True,
        patience_seconds=seconds,
        shared=cause.finding.object if cause.finding.section == "database" else "",
    )


def end_idle_session(cause: Cause, situation: Situation) -> Step:
    """End a session of MLflow's own role that left its transaction open and does nothing (field guide D-21)."""
    facts, user = cause.finding.facts, situation.target.backend.get("user")
    least = situation.settings.idle_session_seconds
    seconds = int(float(facts.get("idle_seconds") or facts.get("seconds") or 0))
    state, holder = str(facts.get("state") or "unknown"), facts.get("holder")
    reason = (
        f"the session belongs to {holder or 'somebody else'}, not to MLflow's own role {user}"
        if not user or holder != user
        else f"the session is {state}, only one that is {IDLE_IN_TRANSACTION} is ended"
        if not state.startswith(IDLE_IN_TRANSACTION)
        else f"its transaction is open for {seconds} s, less than mlflow_idle_session_seconds, {least}"
        if seconds < least
        else ""
    )
    change = {
        "service": "pod",
        "operation": "end_session",
        "pid": facts.get("pid"),
        "user": user,
        "backend_start": facts.get("backend_start"),
        "least_seconds": least,
    }
    return Step(
        step="end_idle_session",
        section="database",
        cause=cause.finding.id,
        object=cause.finding.object,
        step_class=StepClass.OPERATING,
        change=change if facts.get("pid") and facts.get("backend_start") else {},
        blocked=reason or ("" if facts.get("backend_start") else "when the session began was not seen"),
        proven=proven(cause),
    )


def clear_artifact_cache(cause: Cause, situation: Situation) -> Step:
    """Remove old files that nobody has open from the directory for artifacts on their way (runbook, quick fixes)."""
    settings = situation.settings
    reason = (
        f"nothing in {settings.artifact_cache_dir} is older than {settings.artifact_cache_seconds} s, closed, and on "
        "the file system that is full"
        if cause.finding.facts.get("clearable_bytes") == 0
        else ""
    )
    change = {
        "service": "pod",
        "operation": "clear_cache",
        "directory": settings.artifact_cache_dir,
        "older_than_seconds": settings.artifact_cache_seconds,
    }
    return Step(
        step="clear_artifact_cache",
        section="artifact_store",
        cause=cause.finding.id,
        object=target_name(situation),
        step_class=StepClass.OPERATING,
        change=change,
        blocked=reason,
        proven=cause.finding.measured,
    )
