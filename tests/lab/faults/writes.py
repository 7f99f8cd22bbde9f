# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator wrote, read from the API server's audit log and from the log of AWS calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.lab import identity, operator, servers, settings
from tests.lab.emulation import gateway

READING_VERBS = frozenset({"get", "list", "watch"})
# Reviews ask a question by a POST and keep nothing.
REVIEWS = frozenset({"authorization.k8s.io", "authentication.k8s.io"})
PROBE_PODS = frozenset({("create", "pods"), ("delete", "pods")})
EXEC = frozenset({"exec", "portforward"})
BOOKKEEPING, BOOKKEEPING_PREFIX = frozenset({"leases", "configmaps"}), "mlflow-runbook-"
REFUSED = 400
WORKLOAD = frozenset({("patch", "deployments"), ("patch", "statefulsets")})
STEP_WRITES: dict[str, frozenset[tuple[str, str]]] = {
    "allow_hosts": WORKLOAD,
    "delete_failed_pods": frozenset({("delete", "pods")}),
    "raise_cpu_limit": WORKLOAD,
    "raise_memory_limit": WORKLOAD,
    "raise_worker_timeout": WORKLOAD,
    "raise_workers": WORKLOAD,
    "remove_static_prefix": WORKLOAD,
    "repair_service": frozenset({("patch", "services")}),
    "restart": WORKLOAD,
    "restart_stale_pods": WORKLOAD,
    "roll_back": WORKLOAD,
    "scale_out": WORKLOAD,
}
"""Verb and resource of what a step is there to write in the cluster; one that is missing here writes nothing."""

STEP_AWS_WRITES = {
    "restore_security_group_rule": frozenset({"ec2:AuthorizeSecurityGroupIngress"}),
    "start_database": frozenset({"rds:StartDBInstance"}),
}


def entries(path: Path, who: str) -> Iterator[dict[str, Any]]:
    """Lines of a JSON lines file that name ``who``; a line being written is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if who in line and line.endswith("\n"):
                yield json.loads(line)


def within(moment: str, begin: datetime, end: datetime) -> bool:
    """Whether an ISO 8601 moment lies in a period."""
    return begin <= datetime.fromisoformat(moment.replace("Z", "+00:00")) <= end


def kubernetes_writes(
    audit_log: Path,
    user: str,
    begin: datetime,
    end: datetime,
    *,
    elsewhere: frozenset[str] = frozenset(),
    accepted: bool = False,
) -> list[dict[str, Any]]:
    """Write requests of ``user`` in the period, but for those in the namespaces ``elsewhere``.

    With ``accepted``, those that the API server refused do not count. Each: ``verb``, ``resource`` (with its
    subresource), ``namespace``, ``name``, ``own``: whether the object is one that this user created, at any time.
    """
    found, created = [], set()
    for entry in entries(audit_log, user):
        reference = entry.get("objectRef", {})
        if entry.get("stage") != "ResponseComplete" or entry["user"].get("username") != user:
            continue
        if accepted and int(entry.get("responseStatus", {}).get("code", 0)) >= REFUSED:
            continue
        is_exec = reference.get("subresource") in EXEC
        if (entry["verb"] in READING_VERBS and not is_exec) or reference.get("apiGroup") in REVIEWS:
            continue
        what = (reference.get("resource"), reference.get("namespace", ""), reference.get("name", ""))
        if entry["verb"] == "create":
            created.add(what)
        if what[1] in elsewhere or not within(entry["requestReceivedTimestamp"], begin, end):
            continue
        resource = "/".join(filter(None, (what[0], reference.get("subresource"))))
        write = {"verb": entry["verb"], "resource": resource, "namespace": what[1], "name": what[2]}
        found.append(write | {"own": what in created})
    return found


def aws_writes(
    calls: Path, principal: str, begin: datetime, end: datetime, *, elsewhere: frozenset[str] = frozenset()
) -> list[str]:
    """``service:Action`` of each AWS call of ``principal`` (ARN) in the period that was no reading.

    Calls whose parameters name one of ``elsewhere`` are left out.
    """
    return [
        f"{entry['service']}:{entry['action']}"
        for entry in entries(calls, principal)
        if not entry["read_only"]
        and within(entry["at"], begin, end)
        and entry.get("principal") == principal
        and not elsewhere & {str(value) for value in entry["params"].values()}
    ]


def in_cloud(server: servers.Server) -> list[str]:
    """By what AWS calls name a server: its security group and its RDS instance."""
    return [str(server.database["security_group_id"]), server.db_instance_identifier]


def forbidden(kubernetes: list[dict[str, Any]], aws: list[str], steps: list[str]) -> list[str]:
    """Writes beyond probe pods and execs, and beyond what ``steps`` (those of a repair) are there to do, in words."""
    allowed_aws = frozenset[str]().union(*(STEP_AWS_WRITES.get(step, frozenset()) for step in steps))
    allowed = frozenset[tuple[str, str]]().union(*(STEP_WRITES.get(step, frozenset()) for step in steps))
    result = [f"aws {action}" for action in aws if action not in allowed_aws]
    for one in kubernetes:
        what = (one["verb"], one["resource"])
        probe = one["own"] and what in PROBE_PODS
        kept = bool(steps) and one["resource"] in BOOKKEEPING and one["name"].startswith(BOOKKEEPING_PREFIX)
        if not (probe or kept or what in allowed or one["resource"] in {f"pods/{way}" for way in EXEC}):
            result.append(f"{one['verb']} {one['resource']} {one['namespace']}/{one['name']}")
    return result


def forbidden_since(
    server: servers.Server,
    begin: datetime,
    steps: list[str],
    who: operator.Operator = operator.FULL,
    *,
    accepted: bool = False,
) -> list[str]:
    """What an operator wrote since ``begin`` and may not, but for what runs on other servers meanwhile.

    Args:
        steps: the steps of a repair, whose writes are left out.
        accepted: whether what the API server refused is left out.
    """
    end, others = datetime.now(UTC), [other for other in servers.every() if other.name != server.name]
    namespaces = frozenset(other.namespace for other in others)
    in_cluster = kubernetes_writes(settings.audit_log(), who.user, begin, end, elsewhere=namespaces, accepted=accepted)
    theirs = frozenset(name for other in others for name in in_cloud(other)) - frozenset(in_cloud(server))
    in_aws: list[str] = []
    if who.iam_user is not None:
        principal = identity.operator_arn(who.iam_user)
        in_aws = aws_writes(gateway.log_path(), principal, begin, end, elsewhere=theirs)
    return forbidden(in_cluster, in_aws, steps)
