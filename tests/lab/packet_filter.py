# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Security groups and network ACLs as packet filter rules.

Security groups are stateful: they judge new connections and let established ones live on. Network ACLs are not: they
judge every packet, in and out. What is not allowed is dropped without an answer, as on AWS.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.lab import network

# mangle sees a packet once conntrack knows its state and before any address translation; neither kube-proxy nor the
# network policy enforcer has rules there that could let a packet past this filter.
TABLE = "mangle"
GROUPS, ACL_IN, ACL_OUT = "LAB-SECURITY-GROUPS", "LAB-NETWORK-ACLS-IN", "LAB-NETWORK-ACLS-OUT"
JUMPS = ((ACL_IN, "PREROUTING"), (GROUPS, "PREROUTING"), (ACL_OUT, "OUTPUT"))
PROTOCOLS = {"6": "tcp", "17": "udp", "1": "icmp"}

Permission = Mapping[str, Any]
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """A protected address.

    Attributes:
        groups: ids of the security groups in front of it.
        entries: of its subnet's network ACL, in the shape of DescribeNetworkAcls.
    """

    address: str
    groups: tuple[str, ...]
    entries: tuple[Entry, ...] = ()


def rules(
    targets: Sequence[Target], ingress: Mapping[str, Sequence[Permission]], members: Mapping[str, Sequence[str]]
) -> str:
    """All chains in ``iptables-restore`` format.

    Args:
        targets: protected addresses.
        ingress: group id to its ``IpPermissions`` in the shape of DescribeSecurityGroups.
        members: group id to the networks (CIDR) of the interfaces that carry the group.
    """
    lines = [f"*{TABLE}", *(f":{chain} - [0:0]" for chain, _ in JUMPS)]
    lines.append(f"-A {GROUPS} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN")
    lines += [f"-A {GROUPS} -i lo -j RETURN", f"-A {ACL_IN} -i lo -j RETURN", f"-A {ACL_OUT} -o lo -j RETURN"]
    for target in targets:
        lines += _acl(target)
        lines += sorted(
            f"-A {GROUPS} -s {source} -d {target.address}{protocol} -j RETURN"
            for source, protocol in _allowed(target, ingress, members)
        )
        lines.append(f"-A {GROUPS} -d {target.address} -j DROP")
    return "\n".join([*lines, "COMMIT", ""])


def _acl(target: Target) -> Iterable[str]:
    """Entries by rule number, the first that matches decides; what none matches is denied."""
    for entry in sorted(target.entries, key=lambda entry: int(entry["RuleNumber"])):
        ends = (
            (f"-A {ACL_OUT} -s {target.address} -d {entry['CidrBlock']}")
            if entry["Egress"]
            else (f"-A {ACL_IN} -s {entry['CidrBlock']} -d {target.address}")
        )
        ports = entry.get("PortRange") or {}
        match = _match(str(entry["Protocol"]), ports.get("From"), ports.get("To"))
        yield f"{ends}{match} -j {'RETURN' if entry['RuleAction'] == 'allow' else 'DROP'}"
    if target.entries:
        yield f"-A {ACL_IN} -d {target.address} -j DROP"
        yield f"-A {ACL_OUT} -s {target.address} -j DROP"


def _allowed(
    target: Target, ingress: Mapping[str, Sequence[Permission]], members: Mapping[str, Sequence[str]]
) -> set[tuple[str, str]]:
    return {
        (source, _match(str(permission["IpProtocol"]), permission.get("FromPort"), permission.get("ToPort")))
        for group in target.groups
        for permission in ingress.get(group, ())
        for source in _sources(permission, members)
    }


def _match(protocol: str, first: int | None, last: int | None) -> str:
    """Protocol and destination ports; nothing for all of them."""
    name = PROTOCOLS.get(protocol, protocol)
    if name == "-1":
        return ""
    ports = f" --dport {first}:{last}" if name in ("tcp", "udp") and first is not None else ""
    return f" -p {name}{ports}"


def _sources(permission: Permission, members: Mapping[str, Sequence[str]]) -> Iterable[str]:
    yield from (entry["CidrIp"] for entry in permission.get("IpRanges", ()))
    for pair in permission.get("UserIdGroupPairs", ()):
        networks = (ipaddress.IPv4Network(member) for member in members.get(pair["GroupId"], ()))
        yield from (str(network) for network in ipaddress.collapse_addresses(networks))


def prepare() -> None:
    """Hook the chains into the packet filter, once."""
    network.iptables_restore(rules([], {}, {}))
    for chain, parent in JUMPS:
        if f"-j {chain}" not in network.iptables("-t", TABLE, "-S", parent):
            network.iptables("-t", TABLE, "-A", parent, "-j", chain)


def apply(text: str) -> None:
    """Replace the content of all chains in one step."""
    network.iptables_restore(text)
