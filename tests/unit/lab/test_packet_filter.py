# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Security groups and network ACLs as packet filter rules."""

from __future__ import annotations

from typing import Any

from tests.lab import packet_filter
from tests.lab.packet_filter import Target

ADDRESS = "10.90.0.100"


def permission(
    protocol: str, port: int | None = None, cidr: str | None = None, group: str | None = None
) -> dict[str, Any]:
    return {
        "IpProtocol": protocol,
        "FromPort": port,
        "ToPort": port,
        "IpRanges": [{"CidrIp": cidr}] if cidr else [],
        "UserIdGroupPairs": [{"GroupId": group}] if group else [],
    }  # fmt: skip


def rules(*permissions: dict[str, Any], members: dict[str, list[str]] | None = None) -> list[str]:
    text = packet_filter.rules([Target(ADDRESS, ("sg-db",))], {"sg-db": permissions}, members or {})
    return chain(text, packet_filter.GROUPS)[2:]


def chain(text: str, name: str) -> list[str]:
    assert text.startswith("*mangle\n")
    assert text.endswith("\nCOMMIT\n")
    return [line.removeprefix(f"-A {name} ") for line in text.splitlines() if line.startswith(f"-A {name} ")]


def test_established_connections_stay() -> None:
    first = chain(packet_filter.rules([], {}, {}), packet_filter.GROUPS)[0]
    assert first == "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"


def test_without_a_rule_everything_is_dropped() -> None:
    assert rules() == [f"-d {ADDRESS} -j DROP"]


def test_rule_for_a_network() -> None:
    assert rules(permission("tcp", 5432, cidr="10.91.0.0/24")) == [
        f"-s 10.91.0.0/24 -d {ADDRESS} -p tcp --dport 5432:5432 -j RETURN",
        f"-d {ADDRESS} -j DROP",
    ]


def test_group_reference_stands_for_the_interfaces_that_carry_it() -> None:
    members = {"sg-nodes": ["10.90.0.1/32", "10.91.0.16/28", "10.91.0.0/28"], "sg-other": ["10.90.0.7/32"]}
    found = rules(permission("tcp", 5432, group="sg-nodes"), members=members)
    assert found[:-1] == [
        f"-s 10.90.0.1/32 -d {ADDRESS} -p tcp --dport 5432:5432 -j RETURN",
        f"-s 10.91.0.0/27 -d {ADDRESS} -p tcp --dport 5432:5432 -j RETURN",
    ]
    assert rules(permission("tcp", 5432, group="sg-nobody"), members=members) == [f"-d {ADDRESS} -j DROP"]


def test_all_protocols() -> None:
    assert rules(permission("-1", cidr="0.0.0.0/0"))[0] == f"-s 0.0.0.0/0 -d {ADDRESS} -j RETURN"
    assert rules(permission("icmp", -1, cidr="0.0.0.0/0"))[0] == f"-s 0.0.0.0/0 -d {ADDRESS} -p icmp -j RETURN"


def entry(number: int, action: str, cidr: str, *, egress: bool, ports: tuple[int, int] | None = None) -> dict[str, Any]:
    return {
        "RuleNumber": number,
        "Protocol": "6" if ports else "-1",
        "RuleAction": action,
        "Egress": egress,
        "CidrBlock": cidr,
        "PortRange": {"From": ports[0], "To": ports[1]} if ports else None,
    }


def test_network_acl_judges_every_packet_in_order_of_its_entries() -> None:
    entries = (
        entry(200, "allow", "0.0.0.0/0", egress=False),
        entry(100, "deny", "10.91.0.0/24", egress=False, ports=(5432, 5432)),
        entry(100, "allow", "10.91.0.0/24", egress=True, ports=(1024, 65535)),
    )
    text = packet_filter.rules([Target(ADDRESS, (), entries)], {}, {})
    assert chain(text, packet_filter.ACL_IN)[1:] == [
        f"-s 10.91.0.0/24 -d {ADDRESS} -p tcp --dport 5432:5432 -j DROP",
        f"-s 0.0.0.0/0 -d {ADDRESS} -j RETURN",
        f"-d {ADDRESS} -j DROP",
    ]
    assert chain(text, packet_filter.ACL_OUT)[1:] == [
        f"-s {ADDRESS} -d 10.91.0.0/24 -p tcp --dport 1024:65535 -j RETURN",
        f"-s {ADDRESS} -j DROP",
    ]


def test_without_a_network_acl_only_the_groups_decide() -> None:
    text = packet_filter.rules([Target(ADDRESS, ())], {}, {})
    assert chain(text, packet_filter.ACL_IN) == ["-i lo -j RETURN"]
