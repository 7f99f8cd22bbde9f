# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Database connection failures on the way: the network ACLs of the database's subnets."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from ..core.evidence import CLOUD, Evidence
from ..core.findings import TO_DATABASE, Context, Finding, SectionResult, Unknown, keys
from ..core.network_acl import ANSWER_PORTS, denying
from ..core.workload import probes_from_server, result_of
from .database_facts import client_addresses, database_object, facts_of


def network_acls(context: Context, instance: Mapping[str, Any], tried: list[Evidence], result: SectionResult) -> None:
    """Judge the ACLs in front of the database when packets to it get lost, in both directions."""
    evidence = context.evidence.first("aws.network_acls", CLOUD)
    timed_out = [item for item in tried if result_of(item) == "timeout"]
    if evidence is None or not timed_out:
        return
    if not evidence.seen:
        what = "whether a network ACL keeps the database's packets away"
        result.unknown.append(Unknown(what, "not permitted or not reachable", evidence.detail))
        return
    port = int((instance.get("Endpoint") or {}).get("Port") or context.target.backend.get("port") or 5432)
    subnets = subnets_of_address(context)
    acls = [
        acl
        for acl in evidence.value["items"]
        if not subnets or any(row.get("SubnetId") in subnets for row in acl.get("Associations") or [])
    ]
    addresses = client_addresses(context)
    found = [seen for acl in acls for address in addresses if (seen := closed(acl, address, port))]
    if len(found) < len(acls) * len(addresses) or not found:
        if acls and addresses:
            result.rule_out("database.network_acl_closed", evidence)
        return
    acl, reason = found[0]
    result.findings.append(
        Finding(
            "database.network_acl_closed",
            acl,
            f"network ACL {acl} of the database's subnet keeps packets away: {reason}",
            keys([evidence, *timed_out]),
            flow=TO_DATABASE,
            configured=True,
            measured=True,
            facts=facts_of(context, acl=acl, reason=reason, port=port, instance=database_object(context)),
        )
    )


def closed(acl: Mapping[str, Any], address: str, port: int) -> tuple[str, str] | None:
    """Return the ACL's id and what its first rule in the way does; ``None`` when packets pass both ways."""
    for egress, ports, words in (
        (False, (port, port), f"denies TCP {port} from {address}"),
        (True, ANSWER_PORTS, f"denies answers to {address} on TCP {ANSWER_PORTS[0]}-{ANSWER_PORTS[1]}"),
    ):
        entry = denying(acl.get("Entries") or [], address, ports, egress=egress)
        if entry is not None:
            way = "outbound" if egress else "inbound"
            return str(acl["NetworkAclId"]), f"{way} rule {entry['RuleNumber']} {words}"
    return None


def subnets_of_address(context: Context) -> set[str]:
    """Return the subnet of the address that the pods resolve; empty when it cannot be told."""
    host = str(context.target.backend.get("host") or "")
    resolved = [
        address
        for item in probes_from_server(context, "probe.dns", host)
        for address in item.value.get("addresses") or []
    ]
    rows = (context.evidence.value("aws.subnets", CLOUD) or {}).get("items") or []
    return {
        row["SubnetId"]
        for row in rows
        for address in resolved
        if row.get("CidrBlock") and ipaddress.ip_address(address) in ipaddress.ip_network(row["CidrBlock"])
    }
