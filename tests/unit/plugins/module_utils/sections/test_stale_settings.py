# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that still have what their ConfigMap said before it was changed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import POD, Evidence
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import artifact_store, web_server

from .conftest import AT, HOST, SEARCH, SOURCE, MakeContext, deployment, listed, probe, server_pod

OLD, NEW = "mlflow.example.com", "mlflow:*,mlflow.ml.svc.cluster.local:*"
LATER, EARLIER = "2026-01-01T12:05:00Z", "2026-01-01T11:00:00Z"


def configured(variable: str, value: str, moment: str = LATER) -> list[Evidence]:
    found = deployment()
    found["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "flags"}}]
    metadata = {"name": "flags", "creationTimestamp": "2025-12-01T12:00:00Z", "lastChanged": [{"time": moment}]}
    pod = server_pod()
    pod["status"]["startTime"] = AT
    flags = {"metadata": metadata, "data": {variable: value}}
    return [listed("deployments", found), listed("pods", pod), listed("configmaps", flags)]


def rejected() -> Evidence:
    refused = {"status": 403, "body": "Invalid Host header - possible DNS rebinding attack detected"}
    return probe("http", f"http://{HOST}{SEARCH}", "ok", place=SOURCE, **refused)


def causes(section: Any, context: MakeContext, *evidence: Evidence) -> set[str]:
    target = {"config_maps": ("flags",), "bucket": "artifacts"}
    return {item.id for item in section.analyze(context(*evidence, **target)).findings}


@pytest.mark.parametrize(
    ("value", "moment", "expected"),
    [
        (NEW, LATER, "pods.config_stale"),
        (NEW, EARLIER, "web_server.host_not_allowed"),
        (OLD, LATER, "web_server.host_not_allowed"),
    ],
)
def test_a_list_of_hosts_that_was_corrected_too_late_for_the_pods(
    context: MakeContext, value: str, moment: str, expected: str
) -> None:
    found = causes(web_server, context, *configured("MLFLOW_SERVER_ALLOWED_HOSTS", value, moment), rejected())
    assert found & {"pods.config_stale", "web_server.host_not_allowed"} == {expected}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("http://minio:9000", "pods.config_stale"), ("http://gone:9000", "artifact_store.endpoint_wrong")],
)
def test_an_address_of_s3_that_was_corrected_too_late_for_the_pods(
    context: MakeContext, value: str, expected: str
) -> None:
    inside = [
        probe("identity", "", place=POD, endpoint_url="http://gone:9000"),
        probe("s3_list", "artifacts", "not_found", place=POD, error="Could not connect"),
    ]
    found = causes(artifact_store, context, *configured("MLFLOW_S3_ENDPOINT_URL", value), *inside)
    assert found & {"pods.config_stale", "artifact_store.endpoint_wrong"} == {expected}
