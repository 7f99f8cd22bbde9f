# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects are kept without noise and without what nobody may read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect import objects
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet

from .conftest import PASSWORD, URI, client_pod, encoded, secret, workload


def test_slim_keeps_who_changed_what() -> None:
    fields = [
        {"manager": "helm", "time": "2026-01-01T00:00:00Z", "operation": "Update", "fieldsV1": {"f:spec": {}}},
        {"manager": "kubectl", "time": "2026-02-01T00:00:00Z", "operation": "Apply"},
    ]
    annotations = {objects.APPLIED: "{}", "kept": "1"}
    found = objects.slim("services", {"metadata": {"managedFields": fields, "annotations": annotations}, "spec": {}})
    assert found["metadata"]["annotations"] == {"kept": "1"}
    assert [row["manager"] for row in found["metadata"]["lastChanged"]] == ["kubectl", "helm"]
    assert "managedFields" not in found["metadata"]
    assert "lastChanged" not in objects.slim("pods", {"metadata": {"managedFields": fields}})["metadata"]


def test_slim_shortens_configuration() -> None:
    found = objects.slim("configmaps", {"metadata": {}, "data": {"a": "x" * 5000}, "binaryData": {"b": "eA=="}})
    assert len(found["data"]["a"]) == objects.CONFIG_CHARACTERS
    assert "binaryData" not in found


@pytest.mark.parametrize(
    ("obj", "ours"),
    [
        ({"metadata": {"labels": {objects.PROBE_LABEL: "source"}}}, True),
        ({"metadata": {}, "involvedObject": {"name": "mlflow-runbook-1a2b"}}, True),
        ({"metadata": {"labels": {"app": "mlflow"}}}, False),
    ],
)
def test_is_ours(obj: dict[str, Any], ours: bool) -> None:
    assert objects.is_ours(obj) is ours


def test_source_pods_lose_their_environment() -> None:
    found = objects.slim_source_pod(client_pod())
    assert "private" not in json.dumps(found)
    assert found["spec"]["containers"][0]["env"] == [
        {"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow.mlflow:5000"}
    ]


def test_secret_facts_hold_no_value() -> None:
    facts = objects.secret_facts(secret())
    assert PASSWORD not in json.dumps(facts)
    assert facts["metadata"]["lastChanged"][0]["time"] == "2026-11-22T10:30:00Z"
    assert facts["keys"]["uri"]["uri"] == {
        "scheme": "postgresql",
        "host": "db-1.abc.us-west-2.rds.amazonaws.com",
        "port": 5432,
        "user": "mlflow",
        "database": "mlflow",
        "query_keys": [],
        "settings": {},
        "has_password": True,
    }


@pytest.mark.parametrize(
    ("value", "newline", "reserved"),
    [("plain", False, False), ("end\n", True, False), ("p@ss", False, True), ("a b", False, True)],
)
def test_key_facts(value: str, newline: bool, reserved: bool) -> None:
    facts = objects.key_facts(value)
    assert (facts["trailing_newline"], facts["reserved_characters"], facts["uri"]) == (newline, reserved, None)
    assert facts["length"] == len(value)


def test_secret_values_leave_names_readable() -> None:
    assert objects.secret_values(secret(), "") == {PASSWORD, URI}
    other = {
        "bucket": "artifacts",
        "db-username": "mlflow",
        "token": "abc",
        "flag": "hidden-value",
        "password": "artifacts",
    }
    item = {"data": {key: encoded(value) for key, value in other.items()}}
    assert objects.secret_values(item, "s3://artifacts") == {"hidden-value"}
    del item["data"]["bucket"]
    assert objects.secret_values(item, "s3://artifacts") == {"hidden-value", "artifacts"}


def test_template_secrets() -> None:
    item = workload()
    container = item["spec"]["template"]["spec"]["containers"][0]
    container["args"] = ["--backend-store-uri=postgresql://u:a%40bcd@db/x"]
    container["env"] = [
        {"name": "AWS_SECRET_ACCESS_KEY", "value": "s3cr3t"},
        {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/token"},
        {"name": "USE_TOKEN", "value": "true"},
        {"name": "MLFLOW_WORKERS", "value": "1234"},
    ]
    assert objects.template_secrets(item) == {"a%40bcd", "a@bcd", "s3cr3t"}
    assert objects.uri_passwords("postgresql://u:$(PASSWORD)@db") == set()


def test_public_text(evidence: EvidenceSet) -> None:
    assert "s3://artifacts" in objects.public_text(evidence)
