# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which new connections security groups let in, and what a healthy run had that is gone."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.security_group import (
    admits,
    expanded,
    groups_of_address,
    missing_rules,
    single_rules,
    uses_prefix_lists,
)

POSTGRES: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432}
NODES = "sg-nodes"


def group(*permissions: dict[str, Any]) -> dict[str, Any]:
    return {"GroupId": "sg-database", "IpPermissions": list(permissions)}


def cidr(network: str, **permission: Any) -> dict[str, Any]:
    key, name = ("Ipv6Ranges", "CidrIpv6") if ":" in network else ("IpRanges", "CidrIp")
    return {**(permission or POSTGRES), key: [{name: network, "Description": "nodes"}]}


def reference(identifier: str = NODES) -> dict[str, Any]:
    return {**POSTGRES, "UserIdGroupPairs": [{"GroupId": identifier, "UserId": "123456789012"}]}


@pytest.mark.parametrize(
    ("permission", "address", "expected"),
    [
        (cidr("10.91.0.0/24"), "10.91.0.7", True),
        (cidr("10.91.0.0/24"), "10.91.1.7", False),
        (cidr("10.91.0.7/32"), "10.91.0.7", True),
        (cidr("10.91.0.7/32"), "10.91.0.8", False),
        (cidr("0.0.0.0/0"), "203.0.113.9", True),
        (cidr("0.0.0.0/0"), "fd00::7", False),
        (cidr("::/0"), "fd00::7", True),
        (cidr("::/0"), "10.91.0.7", False),
        (cidr("fd00:91::/64"), "fd00:91::a", True),
        (cidr("fd00:91::/64"), "fd00:92::a", False),
        (reference(), "10.91.0.7", True),
        (reference("sg-others"), "10.91.0.7", False),
        ({**POSTGRES, "PrefixListIds": [{"PrefixListId": "pl-1"}]}, "10.91.0.7", False),
        (POSTGRES, "10.91.0.7", False),
        ({**POSTGRES, "IpRanges": [{"CidrIp": "192.0.2.0/24"}, {"CidrIp": "10.91.0.0/24"}]}, "10.91.0.7", True),
        ({**cidr("192.0.2.0/24"), **cidr("::/0")}, "fd00::7", True),
    ],
)
def test_sources(permission: dict[str, Any], address: str, expected: bool) -> None:
    assert admits([group(permission)], 5432, address, [NODES]) is expected


@pytest.mark.parametrize(
    ("permission", "expected"),
    [
        ({"IpProtocol": "-1"}, True),
        ({"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535}, True),
        ({"IpProtocol": "6", "FromPort": 5432, "ToPort": 5432}, True),
        ({"IpProtocol": "tcp", "FromPort": 5000, "ToPort": 5432}, True),
        ({"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 6000}, True),
        ({"IpProtocol": "tcp", "FromPort": 5433, "ToPort": 6000}, False),
        ({"IpProtocol": "tcp", "FromPort": 5000, "ToPort": 5431}, False),
        ({"IpProtocol": "udp", "FromPort": 5432, "ToPort": 5432}, False),
        ({"IpProtocol": "17", "FromPort": 0, "ToPort": 65535}, False),
        ({"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1}, False),
        ({"IpProtocol": "icmp", "FromPort": 0, "ToPort": 65535}, False),
        ({"IpProtocol": "icmpv6"}, False),
        ({"IpProtocol": "50"}, False),
    ],
)
def test_protocols_and_ports(permission: dict[str, Any], expected: bool) -> None:
    assert admits([group(cidr("10.91.0.0/24", **permission))], 5432, "10.91.0.7", []) is expected


def test_rules_add_up_over_entries_and_groups() -> None:
    other = group(cidr("10.0.0.0/8", IpProtocol="tcp", FromPort=22, ToPort=22))
    mixed = group(cidr("192.0.2.0/24"), cidr("10.91.0.0/24"))
    assert admits([other, mixed], 5432, "10.91.0.7", [])
    assert not admits([other], 5432, "10.91.0.7", [])
    assert not admits([], 5432, "10.91.0.7", [NODES])
    assert not admits([{"GroupId": "sg-empty"}], 5432, "10.91.0.7", [NODES])


def test_port_of_one_entry_and_source_of_another_do_not_combine() -> None:
    rules = group(cidr("192.0.2.0/24"), cidr("10.91.0.0/24", IpProtocol="tcp", FromPort=443, ToPort=443))
    assert not admits([rules], 5432, "10.91.0.7", [])


@pytest.mark.parametrize(
    ("permission", "expected"),
    [
        ({**POSTGRES, "PrefixListIds": [{"PrefixListId": "pl-1"}]}, True),
        ({**POSTGRES, "PrefixListIds": []}, False),
        ({"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "PrefixListIds": [{"PrefixListId": "pl-1"}]}, False),
    ],
)
def test_prefix_lists_are_noticed(permission: dict[str, Any], expected: bool) -> None:
    assert uses_prefix_lists([group(permission)], 5432) is expected


INTERFACES: list[dict[str, Any]] = [
    {
        "PrivateIpAddress": "10.90.0.10",
        "PrivateIpAddresses": [{"PrivateIpAddress": "10.90.0.10"}, {"PrivateIpAddress": "10.91.0.5"}],
        "Ipv4Prefixes": [{"Ipv4Prefix": "10.91.0.16/28"}],
        "Ipv6Addresses": [{"Ipv6Address": "fd00:91::5"}],
        "Ipv6Prefixes": [{"Ipv6Prefix": "fd00:91:1::/80"}],
        "Groups": [{"GroupId": NODES}, {"GroupId": "sg-cluster"}],
    },
    {"PrivateIpAddress": "10.90.0.100", "Groups": [{"GroupId": "sg-database"}]},
    {"Groups": [{"GroupId": "sg-detached"}]},
]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.90.0.10", {NODES, "sg-cluster"}),
        ("10.91.0.5", {NODES, "sg-cluster"}),
        ("10.91.0.16", {NODES, "sg-cluster"}),
        ("10.91.0.31", {NODES, "sg-cluster"}),
        ("10.91.0.32", set()),
        ("10.90.0.1", set()),
        ("10.90.0.100", {"sg-database"}),
        ("fd00:91:0:0::5", {NODES, "sg-cluster"}),
        ("fd00:91:1::9", {NODES, "sg-cluster"}),
        ("fd00:91:2::9", set()),
    ],
)
def test_groups_of_an_address(address: str, expected: set[str]) -> None:
    assert groups_of_address(INTERFACES, address) == expected


def test_a_group_reference_reaches_pods_through_a_delegated_prefix() -> None:
    pod = "10.91.0.20"
    assert admits([group(reference())], 5432, pod, groups_of_address(INTERFACES, pod))
    assert not admits([group(reference())], 5432, "10.91.0.40", groups_of_address(INTERFACES, "10.91.0.40"))


def test_single_rules_are_one_for_each_source_in_a_stable_order() -> None:
    mixed = {
        **POSTGRES,
        "IpRanges": [{"CidrIp": "10.2.0.0/16", "Description": "two"}, {"CidrIp": "10.1.0.0/16"}],
        "Ipv6Ranges": [{"CidrIpv6": "::/0"}],
        "UserIdGroupPairs": [{"GroupId": NODES, "UserId": "123456789012"}],
        "PrefixListIds": [{"PrefixListId": "pl-1"}],
    }
    rules = single_rules(group(mixed, {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.1.0.0/16"}]}))
    assert len(rules) == 6
    assert {"IpProtocol": "-1", "CidrIp": "10.1.0.0/16"} in rules
    assert all("Description" not in rule and "UserId" not in rule for rule in rules)
    turned = {**mixed, "IpRanges": mixed["IpRanges"][::-1]}
    assert rules == single_rules(group({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.1.0.0/16"}]}, turned))


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (group(cidr("10.1.0.0/16"), reference()), group(reference()), [{**POSTGRES, "CidrIp": "10.1.0.0/16"}]),
        (group(cidr("10.1.0.0/16"), reference()), group(cidr("10.1.0.0/16")), [{**POSTGRES, "GroupId": NODES}]),
        (group(cidr("10.1.0.0/16")), group(cidr("10.1.0.0/16"), cidr("10.2.0.0/16")), []),
        ({}, group(cidr("10.1.0.0/16")), []),
    ],
)
def test_missing_rules(before: dict[str, Any], now: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    assert missing_rules(before, now) == expected


def test_prefix_lists_are_put_in_their_place_where_they_are_known() -> None:
    rule = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "PrefixListIds": [{"PrefixListId": "pl-1"}]}
    groups = [{"GroupId": "sg-1", "IpPermissions": [rule]}]
    known = expanded(groups, {"pl-1": ["10.0.0.0/8", "2001:db8::/32"]})
    assert admits(known, 5432, "10.1.2.3", [])
    assert admits(known, 5432, "2001:db8::7", [])
    assert not admits(known, 5432, "192.168.0.1", [])
    assert not uses_prefix_lists(known, 5432)
    assert uses_prefix_lists(expanded(groups, {}), 5432)
