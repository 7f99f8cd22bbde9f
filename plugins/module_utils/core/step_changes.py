# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A step's change in the words of those who carry it out, and of those who read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .evidence import EvidenceSet
from .kubernetes_patch import held_to, lines
from .resume import object_of
from .step import Step
from .steps_database import module_rules


def instructions(change: Mapping[str, Any], evidence: EvidenceSet | None = None) -> dict[str, Any]:
    """Return what a task needs to make a change.

    Args:
        change: a step's change or undo.
        evidence: what was seen a moment ago; a patch is held to that version of its object. None holds it only to the
            values that it replaces.

    Returns:
        ``write`` (``patch``, ``delete``, ``ec2``, ``rds``, ``pod`` or ``none``) and the change as the module wants it.
    """
    service, operation = str(change.get("service")), str(change.get("operation"))
    if service == "kubernetes" and operation == "patch":
        found = object_of(change, evidence) if evidence is not None else None
        version = str(found["metadata"].get("resourceVersion") or "") if found else ""
        patch = held_to(change, version) if version else list(change["patch"])
        identity = {"op": "test", "path": "/metadata/uid", "value": change["uid"]}
        return {"write": "patch", "change": {**change, "patch": [identity, *patch]}}
    if service == "kubernetes":
        return {"write": "delete", "change": dict(change)}
    if service == "ec2":
        return {"write": "ec2", "change": {**change, "module_rules": module_rules(change)}}
    return {"write": service, "change": dict(change)}


def change_lines(change: Mapping[str, Any]) -> list[str]:
    """Say what a change does, one line for each part of it."""
    service, operation = str(change.get("service") or ""), str(change.get("operation") or "")
    if service == "kubernetes" and operation == "patch":
        return [f"{change['kind'].lower()}/{change['name']} {line}" for line in lines(change)]
    if service == "kubernetes":
        return [f"delete pod/{pod['name']}" for pod in change["pods"]]
    if service == "ec2":
        return rule_lines(change)
    if service == "rds":
        return [f"{operation} {change['identifier']}"]
    if operation == "end_session":
        return [
            f"SELECT pg_terminate_backend({change['pid']}) (user {change['user']}, began {change['backend_start']})"
        ]
    if operation == "clear_cache":
        age = change["older_than_seconds"]
        return [f"remove files in {change['directory']} that are older than {age} s and not open"]
    return [f"wait up to {change['seconds']} s"] if operation == "wait" else []


def rule_lines(change: Mapping[str, Any]) -> list[str]:
    """Name each port once, with all sources that share it."""
    sources: dict[str, list[str]] = {}
    for rule in change.get("rules", []):
        first, last = rule.get("FromPort", "all"), rule.get("ToPort", "all")
        ports = f"{first}" if first == last else f"{first}-{last}"
        source = rule.get("CidrIp") or rule.get("CidrIpv6") or rule.get("GroupId") or rule.get("PrefixListId")
        sources.setdefault(f"{rule['IpProtocol']} {ports}", []).append(str(source))
    return [
        f"{change['operation']} on {change['group_id']}: {ports} from {', '.join(names)}"
        for ports, names in sources.items()
    ]


def diff_of(step: Step) -> dict[str, str]:
    """Return a step's change in the form of Ansible's diff."""
    before, after = [], []
    for operation in step.change.get("patch", []):
        line = f"{operation['path']}: {operation.get('value', '')}"
        if operation["op"] == "test":
            before.append(line)
        elif operation["op"] != "remove":
            after.append(line)
    if not after and not before:
        after = change_lines(step.change)
    return {
        "before_header": step.object,
        "after_header": f"{step.object} ({step.step})",
        "before": "\n".join(before) + ("\n" if before else ""),
        "after": "\n".join(after) + ("\n" if after else ""),
    }
