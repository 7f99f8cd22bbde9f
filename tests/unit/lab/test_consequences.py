# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Security groups as packet filter rules, and the other pure parts of the cloud's consequences."""

from __future__ import annotations

import struct
from typing import Any

from tests.lab import consequences, delay
from tests.lab.consequences import Target, filter_rules
from tests.lab.emulation import errors
from tests.lab.emulation.metrics import Sample, metrics

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
    text = filter_rules([Target(ADDRESS, ("sg-db",))], {"sg-db": permissions}, members or {})
    lines = text.splitlines()
    assert lines[:2] == ["*mangle", f":{consequences.CHAIN} - [0:0]"]
    assert lines[-1] == "COMMIT"
    return [line.removeprefix(f"-A {consequences.CHAIN} ") for line in lines[4:-1]]


def test_established_connections_stay() -> None:
    text = filter_rules([], {}, {})
    assert text.splitlines()[2] == f"-A {consequences.CHAIN} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"


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


def test_metrics_need_two_samples_for_rates() -> None:
    first = Sample(at=0, connections=3, size=100, cpu=1.0, memory=50, reads=10, read_time=1.0, writes=0, write_time=0)
    second = Sample(at=10, connections=4, size=100, cpu=3.0, memory=50, reads=20, read_time=2.0, writes=0, write_time=0)
    assert set(metrics(None, first, 1000)) == {"DatabaseConnections", "FreeStorageSpace", "FreeableMemory"}
    values = metrics(first, second, 1000)
    assert values["CPUUtilization"] == 10.0
    assert values["ReadLatency"] == 0.1
    assert values["WriteLatency"] == 0.0
    assert values["FreeStorageSpace"] == 900.0


def test_packet_ids_are_read_from_netlink_messages() -> None:
    header = delay.attribute(delay.ATTRIBUTE_PACKET_HEADER, struct.pack("!IHB", 7, 0x800, 1))
    other = delay.attribute(9, b"abc")
    data = delay.message(delay.PACKET, 0, 100, other + header) + delay.message(delay.VERDICT, 0, 100, header)
    assert delay.packet_ids(data) == [7]


def test_refusals_are_in_the_service_s_own_words() -> None:
    ec2 = errors.access_denied("ec2", "arn:u", "ec2:StopInstances", "*", "no policy")
    logs = errors.access_denied("logs", "arn:u", "logs:GetLogEvents", "*", "no policy")
    assert (ec2.code, logs.code) == ("UnauthorizedOperation", "AccessDeniedException")
    assert b"<Response><Errors>" in errors.render("ec2", ec2, "r")[1]
    assert errors.render("logs", logs, "r")[1].startswith(b'{"__type": "AccessDeniedException"')
    assert (
        b"<Error><Code>AccessDenied</Code>" in errors.render("s3", errors.credentials_failure("s3", "unsigned"), "r")[1]
    )
