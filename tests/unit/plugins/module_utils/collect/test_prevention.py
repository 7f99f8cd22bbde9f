# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only an audit reads, over a fake AWS and a fake API that never leave the process."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Observation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect import prevention
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.threads import Notebook
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet, State

from .conftest import NOW

INSTANCE = {
    "DBInstanceIdentifier": "db-1",
    "Engine": "postgres",
    "EngineVersion": "15.18",
    "CACertificateIdentifier": "rds-ca-rsa2048-g1",
}
TOPIC = "arn:aws:sns:us-west-2:1:on-call"


def alarm(name: str, metric: str, identifier: str = "db-1", **more: Any) -> dict[str, Any]:
    dimensions = [{"Name": "DBInstanceIdentifier", "Value": identifier}]
    return {"AlarmName": name, "MetricName": metric, "Dimensions": dimensions, "Threshold": 1.0, **more}


class FakeCloud:
    """Stands for CloudReader."""

    def __init__(self, **answers: Observation) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, service: str, method: str, **parameters: Any) -> Observation:
        self.asked.append((f"{service}.{method}", parameters))
        return self.answers.get(method, Observation(State.FORBIDDEN, detail=f"{service}:{method}"))


class FakeApi:
    """Stands for ClusterReader: answers by path."""

    def __init__(self, answers: dict[str, Observation]) -> None:
        self.answers = answers

    def list(self, path: str, resource: str, namespace: str = "") -> Observation:
        return self.answers.get(path, Observation(State.FORBIDDEN, detail=f"list {resource}"))


def around(cloud: FakeCloud) -> EvidenceSet:
    found = prevention.around_instance(cloud, Notebook(lambda: NOW), INSTANCE)  # type: ignore[arg-type]
    return EvidenceSet(found)


def test_only_alarms_on_the_instance_are_kept_by_fake_aws() -> None:
    computed = {
        "AlarmName": "math",
        "Metrics": [{"MetricStat": {"Metric": {"MetricName": "DatabaseConnections", **alarm("", "")}}}, {"Id": "e"}],
    }
    computed["Metrics"][0]["MetricStat"]["Metric"]["MetricName"] = "DatabaseConnections"  # type: ignore[index]
    rows = [
        alarm("ours", "FreeStorageSpace", AlarmActions=[TOPIC], ComparisonOperator="LessThanThreshold"),
        alarm("theirs", "FreeStorageSpace", "db-2", AlarmActions=[TOPIC]),
        computed,
    ]
    composites = [
        {"AlarmName": "all", "AlarmRule": 'ALARM("ours")', "AlarmActions": [TOPIC]},
        {"AlarmName": "dumb", "AlarmRule": 'ALARM("ours")'},
    ]
    seen = Observation(State.OK, {"MetricAlarms": rows, "CompositeAlarms": composites})
    value = around(FakeCloud(describe_alarms=seen)).value("aws.alarms")
    assert [(row["name"], row["metric"], row["threshold"]) for row in value["items"]] == [
        ("ours", "FreeStorageSpace", 1.0),
        ("math", "DatabaseConnections", None),
    ]
    assert [row["name"] for row in value["composites"]] == ["all"]
    assert value["topics"] == [TOPIC]


def test_lifecycles_are_asked_for_by_name_by_fake_aws() -> None:
    standard = {"LifecycleSupportName": prevention.STANDARD, "LifecycleSupportEndDate": "2028-02-29T00:00:00Z"}
    extended = {"LifecycleSupportName": "open-source-rds-extended-support", "LifecycleSupportEndDate": "2031"}
    versions = {"DBMajorEngineVersions": [{"SupportedEngineLifecycles": [extended, standard]}]}
    cloud = FakeCloud(
        describe_db_major_engine_versions=Observation(State.OK, versions),
        describe_certificates=Observation(State.OK, {"Certificates": [{"ValidTill": "2061-05-25T22:59:57Z"}]}),
    )
    found = around(cloud)
    assert found.value("aws.engine_lifecycle") == {"standard_support_end": "2028-02-29"}
    assert found.value("aws.certificate_authority") == {"valid_till": "2061-05-25T22:59:57Z"}
    assert cloud.asked[1:] == [
        ("rds.describe_db_major_engine_versions", {"Engine": "postgres", "MajorEngineVersion": "15"}),
        ("rds.describe_certificates", {"CertificateIdentifier": "rds-ca-rsa2048-g1"}),
    ]


def test_what_fake_aws_denies_is_forbidden() -> None:
    assert {item.state for item in around(FakeCloud())} == {State.FORBIDDEN}


def rule_object(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "r", "namespace": "monitoring"}, "spec": {"groups": [{"rules": []}, {"rules": rules}]}}


def test_rules_that_may_be_about_mlflow_are_kept_with_their_place_by_fake_api() -> None:
    rules = rule_object(
        {"alert": "Other", "expr": "node_load1 > 5"},
        {"record": "mlflow:errors", "expr": "sum(up)"},
        {"alert": "Down", "expr": 'up{job="MLflow"} == 0'},
    )
    api = FakeApi(
        {
            "/apis/monitoring.coreos.com/v1/prometheusrules": Observation(State.OK, {"items": [rules]}),
            "/apis/monitoring.coreos.com/v1/probes": Observation(State.OK, {"items": []}),
        }
    )
    found = EvidenceSet(prevention.alert_rules(api, Notebook(lambda: NOW), "ml"))  # type: ignore[arg-type]
    value = found.value("kubernetes.prometheusrules")
    assert [(row["alert"], row["group"], row["index"]) for row in value["items"]] == [("", 1, 1), ("Down", 1, 2)]
    assert value["recorded"] == ["mlflow:errors"]


@pytest.mark.parametrize(("allowed", "state"), [(True, State.PARTIAL), (False, State.FORBIDDEN)])
def test_rules_of_one_namespace_rule_nothing_out_by_fake_api(allowed: bool, state: State) -> None:
    path = "/apis/monitoring.coreos.com/v1/namespaces/ml/prometheusrules"
    api = FakeApi({path: Observation(State.OK, {"items": []})} if allowed else {})
    found = EvidenceSet(prevention.alert_rules(api, Notebook(lambda: NOW), "ml"))  # type: ignore[arg-type]
    look = found.first("kubernetes.prometheusrules")
    assert look is not None
    assert look.state is state
    assert look.detail == "list prometheusrules.monitoring.coreos.com"
