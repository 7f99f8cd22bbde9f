# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Database connection failures on the way: packets dropped or refused, and the security groups in front."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..core.evidence import API, CLOUD, Evidence
from ..core.findings import TO_DATABASE, Context, Finding, SectionResult, Unknown, keys
from ..core.security_group import admits, expanded, groups_of_address, uses_prefix_lists
from ..core.workload import result_of, template_spec, workload_name
from .database_facts import STILL_SERVING, attempts, client_addresses, database_object, facts_of, place
from .database_network import network_acls


def transport(context: Context, instance: Mapping[str, Any] | None, result: SectionResult) -> None:
    tried = attempts(context)
    for outcome, identifier, words in (
        ("timeout", "database.connect_timeout", "new connections to {place} get no answer"),
        ("refused", "database.connect_refused", "new connections to {place} are refused"),
    ):
        seen = [item for item in tried if result_of(item) == outcome]
        if seen:
            result.findings.append(
                Finding(
                    identifier,
                    database_object(context),
                    words.format(place=place(context)),
                    keys(seen),
                    flow=TO_DATABASE,
                    measured=True,
                    facts=facts_of(context),
                )
            )
    if instance is not None:
        own_address(context, instance, tried, result)
        security_groups(context, instance, tried, result)
        network_acls(context, instance, tried, result)
        not_listening(context, instance, tried, result)


def own_address(context: Context, instance: Mapping[str, Any], tried: list[Evidence], result: SectionResult) -> None:
    """Find an entry of the pod's own hosts file that leads to nobody, whatever DNS says (field guide N-05)."""
    host = str(context.target.backend.get("host") or "")
    aliases = template_spec(context).get("hostAliases") or []
    own = {item["ip"] for item in aliases if host in (item.get("hostnames") or [])}
    lost = [item for item in tried if item.value.get("address") in own and result_of(item) in ("timeout", "refused")]
    if not lost or instance.get("DBInstanceStatus") not in STILL_SERVING:
        return
    address = ", ".join(sorted(own))
    result.findings.append(
        Finding(
            "database.wrong_address",
            workload_name(context),
            f"the hostAliases of {workload_name(context)} send {host} to {address}, where no database answers",
            keys([context.evidence.first("kubernetes.deployments", API), *lost]),
            flow=TO_DATABASE,
            configured=True,
            measured=True,
            facts={**facts_of(context), "address": address},
        )
    )


def not_listening(context: Context, instance: Mapping[str, Any], tried: list[Evidence], result: SectionResult) -> None:
    """A refusal although RDS calls the instance available, and no other finding says why."""
    refused = [item for item in tried if result_of(item) == "refused"]
    blamed = {item.id for item in result.findings if item.id not in ("database.connect_refused",)}
    if (
        not refused
        or instance.get("DBInstanceStatus") not in STILL_SERVING
        or blamed & {"database.wrong_port", "database.wrong_endpoint"}
    ):
        return
    if any(not item.value.get("address") for item in refused):
        return
    result.findings.append(
        Finding(
            "database.not_listening",
            database_object(context),
            f"RDS calls {database_object(context)} available, but {place(context)} refuses connections",
            keys([context.evidence.first("aws.db_instance", CLOUD), *refused]),
            flow=TO_DATABASE,
            configured=True,
            measured=True,
            facts=facts_of(context),
        )
    )


def security_groups(
    context: Context, instance: Mapping[str, Any], tried: list[Evidence], result: SectionResult
) -> None:
    evidence = context.evidence.first("aws.security_groups", CLOUD)
    timed_out = [item for item in tried if result_of(item) == "timeout"]
    if evidence is None or not evidence.seen:
        if timed_out and evidence is not None:
            result.unknown.append(
                Unknown(
                    "whether a security group closes the database", "not permitted or not reachable", evidence.detail
                )
            )
        return
    groups = evidence.value["items"]
    active = {
        item["VpcSecurityGroupId"]
        for item in instance.get("VpcSecurityGroups", [])
        if item.get("Status", "active") == "active"
    }
    lists = context.evidence.first("aws.prefix_lists", CLOUD)
    known = lists.value["items"] if lists is not None and lists.seen else {}
    groups = expanded((item for item in groups if not active or item["GroupId"] in active), known)
    port = int((instance.get("Endpoint") or {}).get("Port") or context.target.backend.get("port") or 5432)
    interfaces = (context.evidence.value("aws.network_interfaces", CLOUD) or {}).get("items", [])
    addresses = client_addresses(context)
    if timed_out and uses_prefix_lists(groups, port):
        what = "whether a security group's prefix list holds the server's pods"
        result.unknown.append(Unknown(what, "its entries could not be read", "ec2:GetManagedPrefixListEntries"))
    if not groups or not addresses or uses_prefix_lists(groups, port):
        return
    refused = [
        address for address in addresses if not admits(groups, port, address, groups_of_address(interfaces, address))
    ]
    reached = [item for item in tried if result_of(item) == "ok"]
    if not refused:
        if timed_out:
            result.rule_out("database.security_group_closed", evidence)
        return
    if reached or not (timed_out or log_timeouts(context)):
        return
    group = groups[0]["GroupId"]
    result.findings.append(
        Finding(
            "database.security_group_closed",
            group,
            f"security group {group} of {database_object(context)} has no rule that admits TCP {port} "
            f"from the server's pods ({', '.join(refused)})",
            keys([evidence, lists, context.evidence.first("aws.db_instance", CLOUD), *timed_out]),
            flow=TO_DATABASE,
            configured=True,
            measured=True,
            facts=facts_of(
                context, group=group, port=port, source=", ".join(refused), groups=[item["GroupId"] for item in groups]
            ),
        )
    )


def log_timeouts(context: Context) -> bool:
    pattern = re.compile(r"port \d+ failed: (?:Connection timed out|timeout expired)")
    return any(
        pattern.search(line["text"])
        for item in context.evidence.all("kubernetes.pod_log", API)
        if item.seen and item.subject.endswith("/current")
        for line in item.value["lines"][-50:]
    )
