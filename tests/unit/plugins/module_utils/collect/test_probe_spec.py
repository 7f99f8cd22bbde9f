# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the probe is asked, from each place."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect import probe_spec
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings

from .conftest import workload

SETTINGS = Settings(namespace="mlflow")


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
    assert spec["storage"] == {"bucket": "artifacts", "prefix": "", "region": "us-west-2"}
    [local] = spec["targets"]
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
    spec = probe_spec.source_spec(target, SETTINGS, ["10.91.0.5"], 50, policies=True, patient=True)
    assert spec["settle_seconds"] == probe_spec.POLICY_SETTLE_SECONDS
    assert spec["server"] is False
    assert [(item["host"], item["port"]) for item in spec["targets"]] == [
        ("mlflow.mlflow.svc.cluster.local", 80),
        ("10.91.0.5", 5000),
    ]
    assert max(item["seconds"] for row in spec["targets"] for item in row["requests"]) == 35
    hurried = probe_spec.source_spec(
        replace(target, service=""), SETTINGS, ["10.91.0.5"], 50, policies=False, patient=False
    )
    assert hurried["settle_seconds"] == 0
    assert max(item["seconds"] for row in hurried["targets"] for item in row["requests"]) == probe_spec.CLIENT_SECONDS
    assert len(hurried["targets"]) == 1
