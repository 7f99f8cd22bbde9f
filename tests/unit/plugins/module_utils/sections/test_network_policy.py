# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the policies say, held against what the probes saw."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import API, Evidence, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import SectionResult
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import network_policy as section
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import service as service_section

from .conftest import AT, HOST, LABELS, SOURCE, MakeContext, deployment, listed, owned, probe, server_pod, service

DNS = Evidence(
    "kubernetes.dns",
    API,
    "",
    AT,
    State.OK,
    {"service": {"spec": {"selector": {"k8s-app": "kube-dns"}}}, "endpoints": 1, "addresses": ["10.0.9.9"]},
)
NAMES = {"protocol": "UDP", "port": 53}


def policy(spec: dict[str, Any], name: str = "p", namespace: str = "ml") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": AT}
    return {"metadata": metadata, "spec": {"podSelector": {}, **spec}}


def egress(*rules: dict[str, Any], **more: Any) -> Evidence:
    return listed("networkpolicies", policy({"policyTypes": ["Egress"], "egress": list(rules), **more}))


def stand_in(**labels: str) -> Evidence:
    value = {"result": "ok", "labels": {**labels, "mlflow-runbook.mlops/probe": "source"}}
    return Evidence("probe.pod", SOURCE, "", AT, State.OK, value)


def found(result: SectionResult) -> dict[str, str]:
    return {f"{item.id} {item.flow}": item.object for item in result.findings}


BY_LABEL = listed(
    "networkpolicies",
    policy(
        {
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"mlflow": "client"}}}]}],
        }
    ),
)


def test_a_client_without_the_label_is_refused(context: MakeContext) -> None:
    made = context(BY_LABEL, stand_in(app="train"), probe("tcp", HOST, "refused"))
    assert found(section.analyze(made)) == {"network_policy.ingress_denied source:argo>server": "networkpolicy/p"}


def test_without_a_live_client_its_labels_are_not_known(context: MakeContext) -> None:
    made = context(BY_LABEL, stand_in(), probe("tcp", HOST, "refused"))
    result = section.analyze(made)
    assert result.findings == []
    assert "admit clients by their labels" in result.unknown[0].why
    assert service_section.analyze(made).findings == []


def test_a_policy_that_a_probe_contradicts(context: MakeContext) -> None:
    made = context(BY_LABEL, stand_in(app="train"), probe("tcp", HOST))
    assert section.analyze(made).findings == []


@pytest.mark.parametrize(("later", "blamed"), [("timeout", True), ("ok", False)])
def test_what_came_through_before_the_policy_was_in_force(context: MakeContext, later: str, blamed: bool) -> None:
    closed = policy({"policyTypes": ["Egress"], "egress": []}, "closed", "argo")
    made = context(
        listed("networkpolicies", closed, subject="argo"),
        stand_in(app="train"),
        probe("tcp", HOST, tries=7, failures=["try_again"]),
        probe("http", f"http://{HOST}/health", later),
    )
    assert ("networkpolicy/closed" in found(section.analyze(made)).values()) is blamed


def test_packets_vanish_and_no_policy_says_so(context: MakeContext) -> None:
    made = context(stand_in(app="train"), probe("tcp", HOST, "timeout"), probe("tcp", "10.0.0.1:5000", "timeout"))
    result = section.analyze(made)
    assert result.findings == []
    assert "what stops packets from namespace argo" in result.unknown[0].what


@pytest.mark.parametrize(
    ("rules", "blamed"),
    [
        ([], True),
        ([{"ports": [{"port": 5000}]}], True),
        ([{"ports": [NAMES]}], True),
        ([{"ports": [NAMES, {"port": 5000}]}], False),
    ],
)
def test_the_clients_own_policies(context: MakeContext, rules: list[dict[str, Any]], blamed: bool) -> None:
    closed = policy({"policyTypes": ["Egress"], "egress": rules}, "closed", "argo")
    made = context(
        listed("networkpolicies", closed, subject="argo"),
        stand_in(app="train"),
        DNS,
        probe("dns", "mlflow.ml.svc.cluster.local", "try_again"),
    )
    result = found(section.analyze(made))
    assert result == (
        {"network_policy.source_egress_denied source:argo>server": "networkpolicy/closed"} if blamed else {}
    )


@pytest.mark.parametrize(
    ("rule", "blamed"),
    [
        ({"ports": [{"port": 5432}]}, True),
        ({"to": [{"ipBlock": {"cidr": "10.0.0.0/21"}}]}, True),
        ({"to": [{"ipBlock": {"cidr": "10.0.0.0/16"}}]}, False),
        ({"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]}, False),
        ({"to": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": 53}]}, True),
    ],
)
def test_names(context: MakeContext, rule: dict[str, Any], blamed: bool) -> None:
    made = context(egress(rule), DNS, probe("dns", "db.example.com", "try_again", place="pod"))
    denied = "network_policy.egress_denied server>dns"
    assert (denied in found(section.analyze(made))) is blamed


def test_a_store_outside(context: MakeContext) -> None:
    tried = probe("tcp", "db.example.com:5432", "refused", place="pod", address="192.0.2.7")
    assert found(section.analyze(context(egress({"ports": [NAMES]}), DNS, tried))) == {
        "network_policy.egress_denied server>database": "networkpolicy/p"
    }
    allowed = egress({"ports": [NAMES, {"port": 5432}]})
    assert section.analyze(context(allowed, DNS, tried)).findings == []


@pytest.mark.parametrize(
    ("host", "labels", "blamed"),
    [
        ("postgres", {"app": "postgres"}, False),
        ("postgres.ml.svc.cluster.local", {"app": "postgres"}, False),
        ("postgres", {"app": "other"}, True),
        ("postgres.databases.svc.cluster.local", {"app": "other"}, False),
    ],
)
def test_a_store_behind_a_service(context: MakeContext, host: str, labels: dict[str, str], blamed: bool) -> None:
    """A policy speaks of the pods behind the Service's address; those of other namespaces are not known."""
    store = owned("postgres-0", "StatefulSet", "postgres", {"app": "postgres"}, "10.0.0.5")
    place = service("postgres", {"app": "postgres"}, 5432)
    place["spec"] |= {"clusterIP": "10.9.0.1", "ports": [{"port": 5432, "targetPort": 5432}]}
    made = context(
        listed("services", service(), place),
        listed("pods", server_pod(), store),
        egress({"to": [{"podSelector": {"matchLabels": labels}}]}, podSelector={"matchLabels": LABELS}),
        DNS,
        probe("dns", host, place="pod"),
        probe("tcp", f"{host}:5432", "refused", place="pod", address="10.9.0.1" if "ml" in host else "10.9.0.2"),
        backend={"host": host, "port": 5432, "scheme": "postgresql", "secret": "", "key": ""},
    )
    assert ("network_policy.egress_denied server>database" in found(section.analyze(made))) is blamed


def test_an_s3_compatible_store(context: MakeContext) -> None:
    tried = probe("tcp", "minio.example.com:9000", "refused", place="pod", address="192.0.2.9")
    made = context(egress({"ports": [NAMES]}), DNS, tried, artifact_endpoint="http://minio.example.com:9000")
    assert found(section.analyze(made)) == {"network_policy.egress_denied server>object_storage": "networkpolicy/p"}


@pytest.mark.parametrize(("policy", "expected"), [("None", True), ("ClusterFirst", False)])
def test_a_pod_that_asks_dns_servers_of_its_own(context: MakeContext, policy: str, expected: bool) -> None:
    found = deployment()
    found["spec"]["template"]["spec"] |= {"dnsPolicy": policy, "dnsConfig": {"nameservers": ["10.9.9.9"]}}
    failing = probe("dns", "db.example.com", "try_again", place="pod")
    result = section.analyze(context(listed("deployments", found), failing))
    assert ("network_policy.own_dns_failing" in {item.id for item in result.findings}) is expected
