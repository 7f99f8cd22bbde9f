# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which new connections a set of security groups lets in (Amazon VPC user guide, security group rules)."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

ANY_PROTOCOL = "-1"
TCP = frozenset({"tcp", "6"})


def covers_port(permission: Mapping[str, Any], port: int) -> bool:
    """Tell whether one ``IpPermissions`` entry is about TCP traffic to a port."""
    protocol = str(permission.get("IpProtocol", ""))
    if protocol == ANY_PROTOCOL:
        return True
    return protocol in TCP and permission.get("FromPort", 0) <= port <= permission.get("ToPort", 65535)


def covers_address(permission: Mapping[str, Any], address: str) -> bool:
    """Tell whether one entry's address ranges hold an IPv4 or IPv6 address."""
    ip = ipaddress.ip_address(address)
    ranges = [item["CidrIp"] for item in permission.get("IpRanges", [])]
    ranges += [item["CidrIpv6"] for item in permission.get("Ipv6Ranges", [])]
    networks = [ipaddress.ip_network(item, strict=False) for item in ranges]
    return any(ip.version == network.version and ip in network for network in networks)


def covers_group(permission: Mapping[str, Any], groups: Iterable[str]) -> bool:
    named = {item.get("GroupId") for item in permission.get("UserIdGroupPairs", [])}
    return bool(named & set(groups))


def admits(security_groups: Iterable[Mapping[str, Any]], port: int, address: str, source_groups: Iterable[str]) -> bool:
    """Tell whether any rule admits a new TCP connection.

    Args:
        security_groups: ``SecurityGroups`` items as EC2 describes them.
        port: destination port.
        address: the client's address as the database's subnet sees it.
        source_groups: security groups of the client's network interface.
    """
    groups = list(source_groups)
    return any(
        covers_port(permission, port) and (covers_address(permission, address) or covers_group(permission, groups))
        for group in security_groups
        for permission in group.get("IpPermissions", [])
    )


def expanded(
    security_groups: Iterable[Mapping[str, Any]], prefix_lists: Mapping[str, Iterable[str]]
) -> list[dict[str, Any]]:
    """Put the ranges of prefix lists in their place; a list that is not known stays as it is.

    Args:
        security_groups: ``SecurityGroups`` items as EC2 describes them.
        prefix_lists: the CIDR ranges of each prefix list by its id.
    """
    return [
        {**group, "IpPermissions": [with_ranges(item, prefix_lists) for item in group.get("IpPermissions", [])]}
        for group in security_groups
    ]


def with_ranges(permission: Mapping[str, Any], prefix_lists: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    named = permission.get("PrefixListIds") or []
    cidrs = [cidr for item in named for cidr in prefix_lists.get(item["PrefixListId"], ())]
    older = [{"CidrIp": cidr} for cidr in cidrs if ":" not in cidr]
    newer = [{"CidrIpv6": cidr} for cidr in cidrs if ":" in cidr]
    return {
        **permission,
        "IpRanges": [*permission.get("IpRanges", []), *older],
        "Ipv6Ranges": [*permission.get("Ipv6Ranges", []), *newer],
        "PrefixListIds": [item for item in named if item["PrefixListId"] not in prefix_lists],
    }


def uses_prefix_lists(security_groups: Iterable[Mapping[str, Any]], port: int) -> bool:
    """Tell whether a rule for the port depends on a prefix list, whose entries are not part of the description."""
    return any(
        covers_port(permission, port) and permission.get("PrefixListIds")
        for group in security_groups
        for permission in group.get("IpPermissions", [])
    )


def groups_of_address(network_interfaces: Iterable[Mapping[str, Any]], address: str) -> set[str]:
    """Return the security groups of the interface that owns an address, directly or by a delegated prefix."""
    ip = ipaddress.ip_address(address)
    found: set[str] = set()
    for interface in network_interfaces:
        ranges = [item["PrivateIpAddress"] for item in interface.get("PrivateIpAddresses", [])]
        ranges += [item["Ipv6Address"] for item in interface.get("Ipv6Addresses", [])]
        ranges += [item["Ipv4Prefix"] for item in interface.get("Ipv4Prefixes", [])]
        ranges += [item["Ipv6Prefix"] for item in interface.get("Ipv6Prefixes", [])]
        ranges += filter(None, [interface.get("PrivateIpAddress")])
        networks = [ipaddress.ip_network(item, strict=False) for item in ranges]
        if any(ip.version == network.version and ip in network for network in networks):
            found |= {group["GroupId"] for group in interface.get("Groups", [])}
    return found


def single_rules(group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a group's ingress as one entry per source, without descriptions, in a stable order."""
    rules = []
    for permission in group.get("IpPermissions", []):
        base = {key: permission[key] for key in ("IpProtocol", "FromPort", "ToPort") if permission.get(key) is not None}
        rules += [{**base, "CidrIp": item["CidrIp"]} for item in permission.get("IpRanges", [])]
        rules += [{**base, "CidrIpv6": item["CidrIpv6"]} for item in permission.get("Ipv6Ranges", [])]
        rules += [{**base, "GroupId": item["GroupId"]} for item in permission.get("UserIdGroupPairs", [])]
        rules += [{**base, "PrefixListId": item["PrefixListId"]} for item in permission.get("PrefixListIds", [])]
    return [json.loads(text) for text in sorted({json.dumps(rule, sort_keys=True) for rule in rules})]


def missing_rules(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rules that a group had and no longer has."""
    present = single_rules(now)
    return [rule for rule in single_rules(before) if rule not in present]
