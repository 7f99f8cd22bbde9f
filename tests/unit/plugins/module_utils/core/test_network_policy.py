# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NetworkPolicies let through."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.network_policy import (
    EGRESS,
    INGRESS,
    Decision,
    Peer,
    decide,
    selects,
)

SERVER = Peer("mlflow", {"app": "mlflow"}, {"team": "ml"}, "10.91.0.7", {"http": 5000})
CLIENT = Peer("argo", {"app": "trainer", "role": "client"}, {"team": "train"}, "10.91.0.20")
NEIGHBOUR = Peer("mlflow", {"app": "other"}, {"team": "ml"}, "10.91.0.9")
OUTSIDE = Peer(address="203.0.113.9")


def policy(spec: dict[str, Any], name: str = "policy", namespace: str = "mlflow") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"podSelector": {}, **spec}}


def ingress(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return policy({"policyTypes": ["Ingress"], "ingress": list(rules), **spec})


def labels(**wanted: str) -> dict[str, Any]:
    return {"matchLabels": wanted}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, True),
        (None, True),
        (labels(app="mlflow"), True),
        (labels(app="mlflow", tier="web"), False),
        (labels(app="other"), False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "mlflow"]}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["mlflow"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({**labels(app="mlflow"), "matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
    ],
)
def test_selectors(selector: dict[str, Any] | None, expected: bool) -> None:
    assert selects(selector, {"app": "mlflow"}) is expected


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ({}, {"client", "neighbour", "outside"}),
        ({"from": []}, {"client", "neighbour", "outside"}),
        ({"from": [{"podSelector": {}}]}, {"neighbour"}),
        ({"from": [{"podSelector": labels(app="trainer")}]}, set()),
        ({"from": [{"namespaceSelector": {}}]}, {"client", "neighbour"}),
        ({"from": [{"namespaceSelector": labels(team="train")}]}, {"client"}),
        ({"from": [{"namespaceSelector": labels(team="train"), "podSelector": labels(app="trainer")}]}, {"client"}),
        ({"from": [{"namespaceSelector": labels(team="train"), "podSelector": labels(app="other")}]}, set()),
        ({"from": [{"namespaceSelector": labels(team="ml"), "podSelector": labels(app="trainer")}]}, set()),
        (
            {"from": [{"namespaceSelector": labels(team="train")}, {"podSelector": labels(app="other")}]},
            {"client", "neighbour"},
        ),
        ({"from": [{"ipBlock": {"cidr": "10.91.0.0/24"}}]}, {"client", "neighbour"}),
        ({"from": [{"ipBlock": {"cidr": "10.91.0.0/24", "except": ["10.91.0.16/28"]}}]}, {"neighbour"}),
        ({"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}, {"outside"}),
        ({"from": [{"ipBlock": {"cidr": "::/0"}}]}, set()),
    ],
)
def test_ingress_peers(rule: dict[str, Any], allowed: set[str]) -> None:
    peers = {"client": CLIENT, "neighbour": NEIGHBOUR, "outside": OUTSIDE}
    passing = {name for name, peer in peers.items() if decide([ingress(rule)], INGRESS, SERVER, peer, 5000).allowed}
    assert passing == allowed


@pytest.mark.parametrize(
    ("ports", "port", "protocol", "expected"),
    [
        ([], 5000, "TCP", True),
        ([{"port": 5000}], 5000, "TCP", True),
        ([{"port": 5000}], 5001, "TCP", False),
        ([{"port": 5000, "protocol": "TCP"}], 5000, "UDP", False),
        ([{"port": 5000}], 5000, "UDP", False),
        ([{"port": 53, "protocol": "UDP"}], 53, "TCP", False),
        ([{"port": 53, "protocol": "UDP"}], 53, "UDP", True),
        ([{"protocol": "TCP"}], 5000, "TCP", True),
        ([{"protocol": "UDP"}], 5000, "TCP", False),
        ([{"port": "http"}], 5000, "TCP", True),
        ([{"port": "http"}], 5001, "TCP", False),
        ([{"port": "metrics"}], 5000, "TCP", False),
        ([{"port": 4000, "endPort": 5000}], 5000, "TCP", True),
        ([{"port": 5000, "endPort": 6000}], 5000, "TCP", True),
        ([{"port": 4000, "endPort": 4999}], 5000, "TCP", False),
        ([{"port": 5001, "endPort": 6000}], 5000, "TCP", False),
        ([{"port": 443}, {"port": 5000}], 5000, "TCP", True),
    ],
)
def test_ports(ports: list[dict[str, Any]], port: int, protocol: str, expected: bool) -> None:
    assert decide([ingress({"ports": ports})], INGRESS, SERVER, CLIENT, port, protocol).allowed is expected


def test_a_rule_needs_peer_and_port_both() -> None:
    apart = ingress(
        {"from": [{"namespaceSelector": labels(team="train")}], "ports": [{"port": 443}]}, {"ports": [{"port": 80}]}
    )
    assert not decide([apart], INGRESS, SERVER, CLIENT, 5000).allowed
    assert decide([apart], INGRESS, SERVER, CLIENT, 443).allowed
    assert not decide([apart], INGRESS, SERVER, NEIGHBOUR, 443).allowed


@pytest.mark.parametrize(
    ("spec", "direction", "isolates"),
    [
        ({"ingress": [{}]}, INGRESS, True),
        ({"ingress": [{}]}, EGRESS, False),
        ({}, INGRESS, True),
        ({}, EGRESS, False),
        ({"egress": [{}]}, INGRESS, True),
        ({"egress": [{}]}, EGRESS, True),
        ({"egress": []}, EGRESS, False),
        ({"policyTypes": ["Egress"]}, INGRESS, False),
        ({"policyTypes": ["Egress"]}, EGRESS, True),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, INGRESS, False),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, EGRESS, False),
        ({"podSelector": labels(app="mlflow")}, INGRESS, True),
        ({"podSelector": labels(app="other")}, INGRESS, False),
    ],
)
def test_isolation(spec: dict[str, Any], direction: str, isolates: bool) -> None:
    decision = decide([policy(spec)], direction, SERVER, CLIENT, 5000)
    assert decision.isolating == (("policy",) if isolates else ())
    assert decision.allowed or isolates


@pytest.mark.parametrize("spec", [{"ingress": []}, {}, {"ingress": None}])
def test_isolated_without_rules_lets_nothing_in(spec: dict[str, Any]) -> None:
    assert decide([policy({"policyTypes": ["Ingress"], **spec})], INGRESS, SERVER, CLIENT, 5000) == Decision(
        False, ("policy",)
    )


def test_policies_add_up_and_other_namespaces_do_not_count() -> None:
    closed = policy({"policyTypes": ["Ingress"]}, "b-closed")
    opened = policy(
        {"policyTypes": ["Ingress"], "ingress": [{"from": [{"namespaceSelector": labels(team="train")}]}]}, "a-open"
    )
    foreign = policy({"policyTypes": ["Ingress"], "ingress": [{}]}, "foreign", "argo")
    assert decide([closed, opened, foreign], INGRESS, SERVER, CLIENT, 5000) == Decision(True, ("a-open", "b-closed"))
    assert decide([closed, foreign], INGRESS, SERVER, CLIENT, 5000) == Decision(False, ("b-closed",))
    assert decide([foreign], INGRESS, SERVER, CLIENT, 5000) == Decision(True, ())


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"to": [{"namespaceSelector": labels(team="ml")}]}, True),
        ({"to": [{"podSelector": labels(app="mlflow")}]}, False),
        ({"to": [{"namespaceSelector": labels(team="ml")}], "ports": [{"port": "http"}]}, True),
        ({"to": [{"namespaceSelector": labels(team="ml")}], "ports": [{"port": "https"}]}, False),
        ({"to": [{"ipBlock": {"cidr": "10.91.0.7/32"}}], "ports": [{"port": 5000}]}, True),
        ({"from": [{"namespaceSelector": labels(team="ml")}], "ports": [{"port": 443}]}, False),
    ],
)
def test_egress_is_judged_at_the_source(rule: dict[str, Any], expected: bool) -> None:
    rules = policy({"policyTypes": ["Egress"], "egress": [rule]}, namespace="argo")
    assert decide([rules], EGRESS, CLIENT, SERVER, 5000).allowed is expected


def test_what_is_not_known_gets_the_benefit_of_the_doubt() -> None:
    nobody = Peer("argo", None, {"team": "train"})
    by_label = ingress({"from": [{"namespaceSelector": {}, "podSelector": labels(role="client")}]})
    by_address = ingress({"from": [{"ipBlock": {"cidr": "10.91.0.0/24"}}]})
    assert decide([by_label], INGRESS, SERVER, nobody, 5000).allowed
    assert decide([by_address], INGRESS, SERVER, nobody, 5000).allowed
    assert not decide([by_label], INGRESS, SERVER, Peer("argo", {}, {"team": "train"}), 5000).allowed
    closed = policy({"podSelector": labels(app="trainer"), "policyTypes": ["Egress"]}, namespace="argo")
    assert decide([closed], EGRESS, nobody, SERVER, 5000).allowed
