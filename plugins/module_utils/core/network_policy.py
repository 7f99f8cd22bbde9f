# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Kubernetes NetworkPolicies let through (Kubernetes documentation, Network Policies)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

INGRESS = "Ingress"
EGRESS = "Egress"


@dataclass(frozen=True)
class Peer:
    """One end of a flow; an end outside the cluster has an address and no namespace.

    ``ports`` maps the names of a pod's container ports to numbers. ``labels`` is ``None`` for a pod whose labels are
    not known: like an address that is not known, it gets the benefit of the doubt.
    """

    namespace: str = ""
    labels: Mapping[str, str] | None = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Whether a flow passes, and the policies that select the judged end in that direction."""

    allowed: bool
    isolating: tuple[str, ...]


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Evaluate a label selector; an empty one selects everything."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(expression_holds(expression, labels) for expression in selector.get("matchExpressions") or [])


def expression_holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return (key in labels) == (operator == "Exists")


def directions(spec: Mapping[str, Any]) -> set[str]:
    """Return the directions that a policy isolates; without ``policyTypes`` egress only when it has egress rules."""
    return set(spec.get("policyTypes") or ([INGRESS, EGRESS] if spec.get("egress") else [INGRESS]))


def peer_matches(rule_peer: Mapping[str, Any], policy_namespace: str, peer: Peer) -> bool:
    block = rule_peer.get("ipBlock")
    if block:
        return not peer.address or in_block(peer.address, block)
    if not peer.namespace:
        return False
    if "namespaceSelector" in rule_peer:
        if not selects(rule_peer["namespaceSelector"], peer.namespace_labels):
            return False
    elif peer.namespace != policy_namespace:
        return False
    return "podSelector" not in rule_peer or peer.labels is None or selects(rule_peer["podSelector"], peer.labels)


def in_block(address: str, block: Mapping[str, Any]) -> bool:
    ip = ipaddress.ip_address(address)

    def holds(cidr: str) -> bool:
        network = ipaddress.ip_network(cidr, strict=False)
        return ip.version == network.version and ip in network

    return holds(block["cidr"]) and not any(holds(cidr) for cidr in block.get("except") or [])


def port_matches(rule_port: Mapping[str, Any], port: int, protocol: str, destination: Peer) -> bool:
    if rule_port.get("protocol", "TCP") != protocol:
        return False
    wanted = rule_port.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str) and not wanted.isdigit():
        return destination.ports.get(wanted) == port
    return int(wanted) <= port <= int(rule_port.get("endPort") or wanted)


def decide(
    policies: Iterable[Mapping[str, Any]], direction: str, judged: Peer, other: Peer, port: int, protocol: str = "TCP"
) -> Decision:
    """Judge one flow at one of its ends.

    Args:
        policies: NetworkPolicy objects of the judged end's namespace (others are ignored).
        direction: ``Ingress`` when ``judged`` is the destination, ``Egress`` when it is the source.
        judged: the pod whose policies count.
        other: the far end.
        port: destination port.
        protocol: ``TCP`` or ``UDP``.
    """
    destination = judged if direction == INGRESS else other
    peers_key, rules_key = ("from", "ingress") if direction == INGRESS else ("to", "egress")
    isolating = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == judged.namespace
        and direction in directions(policy["spec"])
        and selects(policy["spec"].get("podSelector"), judged.labels or {})
    ]

    def rule_allows(rule: Mapping[str, Any], namespace: str) -> bool:
        peers, ports = rule.get(peers_key) or [], rule.get("ports") or []
        return (not peers or any(peer_matches(item, namespace, other) for item in peers)) and (
            not ports or any(port_matches(item, port, protocol, destination) for item in ports)
        )

    allowed = not isolating or any(
        rule_allows(rule, policy["metadata"]["namespace"])
        for policy in isolating
        for rule in policy["spec"].get(rules_key) or []
    )
    return Decision(allowed, tuple(sorted(policy["metadata"]["name"] for policy in isolating)))
