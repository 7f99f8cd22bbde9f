# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packets a network ACL lets pass: rules by their numbers, each way by itself (Amazon VPC user guide)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

ANY_PROTOCOL = "-1"
TCP = frozenset({"6", "tcp"})
ALL_PORTS = (0, 65535)
ANSWER_PORTS = (32768, 60999)
"""Ports from which Linux clients connect (ip_local_port_range's default), and to which answers go."""

Entry = Mapping[str, Any]
Ports = tuple[int, int]


def about(entry: Entry, address: str, *, egress: bool) -> bool:
    """Tell whether an entry is about TCP packets of one direction from or to an address outside."""
    if bool(entry.get("Egress")) != egress or str(entry.get("Protocol")) not in TCP | {ANY_PROTOCOL}:
        return False
    ip = ipaddress.ip_address(address)
    ranges = [entry[key] for key in ("CidrBlock", "Ipv6CidrBlock") if entry.get(key)]
    networks = [ipaddress.ip_network(item, strict=False) for item in ranges]
    return any(ip.version == network.version and ip in network for network in networks)


def ports_of(entry: Entry) -> Ports:
    given = entry.get("PortRange") or {}
    if str(entry.get("Protocol")) == ANY_PROTOCOL or not given:
        return ALL_PORTS
    return int(given["From"]), int(given["To"])


def without(wanted: list[Ports], taken: Ports) -> list[Ports]:
    """Return the ports of some ranges that another range does not hold."""
    left = []
    for first, last in wanted:
        left += [(first, min(last, taken[0] - 1)), (max(first, taken[1] + 1), last)]
    return [(first, last) for first, last in left if first <= last]


def overlap(wanted: list[Ports], other: Ports) -> bool:
    return any(first <= other[1] and other[0] <= last for first, last in wanted)


def denying(entries: Iterable[Entry], address: str, ports: Ports, *, egress: bool) -> Entry | None:
    """Return the first entry that keeps packets out.

    Args:
        entries: ``Entries`` of the ACL as EC2 describes it.
        address: the other end.
        ports: first and last destination port, all of which are needed.
        egress: whether the packets leave the subnet.

    Returns:
        The entry that denies some of the ports; ``None`` when all of them pass. What no entry names is denied, which is
        returned as an entry with the rule number ``*``.
    """
    wanted = [ports]
    for entry in sorted(entries, key=lambda item: int(item["RuleNumber"])):
        if not about(entry, address, egress=egress) or not overlap(wanted, ports_of(entry)):
            continue
        if entry.get("RuleAction") != "allow":
            return entry
        wanted = without(wanted, ports_of(entry))
        if not wanted:
            return None
    return {"RuleNumber": "*", "Egress": egress, "RuleAction": "deny"}
