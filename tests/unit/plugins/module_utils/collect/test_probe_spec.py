# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the probe is asked, from each place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect import probe_spec
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings

from .conftest import listing, workload

SETTINGS = Settings(namespace="mlflow")
SERVICE_NAMES = ["mlflow.mlflow.svc.cluster.local:80", "mlflow.mlflow:80", "mlflow:80"]


def test_authorization() -> None:
    assert probe_spec.authorization(SETTINGS) == {}
    assert probe_spec.authorization(replace(SETTINGS, tracking_token="t0ken")) == {"Authorization": "Bearer t0ken"}
    basic = replace(SETTINGS, tracking_username="u", tracking_password="p")
    assert probe_spec.authorization(basic) == {"Authorization": "Basic dTpw"}


def test_server_spec(target: Target) -> None:
    spec = probe_spec.server_spec(target, SETTINGS, workload(), {"hidden"}, 50, serving=True, dependencies=True)
    assert spec["seconds"] == probe_spec.PROBE_SECONDS
    assert spec["secrets"] == ["hidden"]
    assert spec["words"][:2] == ["mlflow", "server"]
    assert spec["database"] == "db-1"
    assert spec["storage"] == {"bucket": "artifacts", "prefix": "", "region": "us-west-2", "canary": False}
    [local] = spec["targets"]
    assert all(item["other_hosts"] == SERVICE_NAMES for item in local["requests"])
    patience = {item["url"].removeprefix("http://127.0.0.1:5000"): item["seconds"] for item in local["requests"]}
    assert patience[probe_spec.SEARCH] == 35
    assert patience["/health"] == probe_spec.HTTP_SECONDS
    assert len(patience) == len(probe_spec.PATHS)


def test_a_copy_serves_nothing_and_a_further_pod_asks_nothing(target: Target) -> None:
    copy = probe_spec.server_spec(target, SETTINGS, workload(), (), 50, serving=False, dependencies=True)
    assert copy["targets"] == []
    second = probe_spec.server_spec(target, SETTINGS, workload(), (), 3, serving=True, dependencies=False)
    assert (second["database"], second["storage"], second["seconds"]) == (None, None, 3)


def test_paths_with_and_without_the_prefix(target: Target) -> None:
    prefixed = replace(target, static_prefix="/ml")
    settings = replace(SETTINGS, host_header="mlflow.example.org")
    spec = probe_spec.server_spec(prefixed, settings, workload(), (), 50, serving=True, dependencies=True)
    subjects = [item["subject"] for item in spec["targets"][0]["requests"]]
    assert "http://127.0.0.1:5000/ml/health" in subjects
    assert "http://127.0.0.1:5000/health" in subjects
    assert subjects[-1] == f"http://127.0.0.1:5000/ml{probe_spec.SEARCH} (Host: mlflow.example.org)"


def test_source_spec(target: Target) -> None:
    spec = probe_spec.source_spec(
        target, SETTINGS, None, ["10.91.0.5"], 50, through=["10.91.0.5"], settle_seconds=15, patient=True
    )
    assert spec["server"] is False
    assert [(item["host"], item["port"], item["settle_seconds"]) for item in spec["targets"]] == [
        ("mlflow.mlflow.svc.cluster.local", 80, 15),
        ("10.91.0.5", 5000, 15),
    ]
    assert [item["through"] for item in spec["targets"]] == [["10.91.0.5"], None]
    assert max(item["seconds"] for row in spec["targets"] for item in row["requests"]) == 35


def test_a_source_that_need_not_wait(target: Target) -> None:
    spec = probe_spec.source_spec(target, SETTINGS, None, [], 50, through=[], settle_seconds=15, patient=False)
    assert [item["through"] for item in spec["targets"]] == [[]]
    assert max(item["seconds"] for row in spec["targets"] for item in row["requests"]) == probe_spec.CLIENT_SECONDS
    without = replace(target, service="")
    spec = probe_spec.source_spec(without, SETTINGS, None, [], 50, through=[], settle_seconds=0, patient=True)
    assert spec["targets"] == []


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("http://user:word@mlflow.mlflow:80/ml", "http://mlflow.mlflow:80"),
        ("http://mlflow.mlflow.svc", "http://mlflow.mlflow.svc:80"),
        ("http://mlflow.mlflow:5000", "http://mlflow.mlflow.svc.cluster.local:80"),
        ("http://mlflow.mlflow-2:80", "http://mlflow.mlflow.svc.cluster.local:80"),
        ("http://mlflow.mlflow:port", "http://mlflow.mlflow.svc.cluster.local:80"),
        ("", "http://mlflow.mlflow.svc.cluster.local:80"),
    ],
)
def test_the_service_is_called_as_clients_call_it(target: Target, uri: str, address: str) -> None:
    client = {"spec": {"containers": [{"env": [{"name": "MLFLOW_TRACKING_URI", "value": uri}]}]}}
    assert probe_spec.service_address(target, client) == address


def test_policies_on_the_way() -> None:
    policy = {"metadata": {"name": "p"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    evidence = EvidenceSet([listing("networkpolicies", policy)])
    assert probe_spec.policies_on_the_way(evidence, "mlflow", "Ingress")
    assert not probe_spec.policies_on_the_way(evidence, "mlflow", "Egress")
    assert not probe_spec.policies_on_the_way(evidence, "argo", "Ingress")
