# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live clients that mean the server and ask somewhere else."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import service as section

from .conftest import MakeContext, listed, probe


def trainer(uri: str) -> dict[str, Any]:
    env = [{"name": "MLFLOW_TRACKING_URI", "value": uri}]
    return {"metadata": {"name": "t", "labels": {}}, "spec": {"containers": [{"name": "c", "env": env}]}}


def namespaces(*names: str) -> Evidence:
    return listed("namespaces", *({"metadata": {"name": name}} for name in names), subject="")


@pytest.mark.parametrize(
    ("uri", "result", "wrong"),
    [
        ("http://mlflow.prod:80", "not_found", True),
        ("http://mlflow.prod.svc.cluster.local:80", "not_found", True),
        ("http://mlflow:80", "not_found", True),
        ("http://mlflow:80", "ok", False),
        ("http://mlflow.other:80", "not_found", False),
        ("http://mlflow.prod.example.com:80", "not_found", False),
        ("http://tracking:80", "not_found", False),
    ],
)
def test_a_host_that_leads_nowhere(context: MakeContext, uri: str, result: str, wrong: bool) -> None:
    tried = probe("client", uri.removesuffix(":80"), result)
    made = context(listed("pods", trainer(uri), subject="argo"), namespaces("argo", "ml", "other"), tried)
    found = [item.object for item in section.analyze(made).findings if item.id == "service.client_host_wrong"]
    assert found == (["argo/pod/t"] if wrong else [])


def test_without_all_namespaces_only_a_short_name_is_known_to_be_wrong(context: MakeContext) -> None:
    uri = "http://mlflow.prod"
    made = context(listed("pods", trainer(uri), subject="argo"), probe("client", uri, "not_found"))
    assert section.analyze(made).findings == []


@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("http://mlflow:80", False),
        ("http://mlflow.prod:80", False),
        ("http://mlflow.ml1:80", True),
        ("http://mlflow.othr:80", False),
    ],
)
def test_a_client_that_may_mean_another_server(context: MakeContext, uri: str, meant: bool) -> None:
    pods = listed("pods", trainer(uri), trainer("http://mlflow.other:80"), subject="argo")
    tried = probe("client", uri.removesuffix(":80"), "not_found")
    made = context(pods, namespaces("argo", "ml", "other"), tried)
    found = [item.id for item in section.analyze(made).findings]
    assert found == ["service.client_host_wrong" if meant else "service.stray_client"]
