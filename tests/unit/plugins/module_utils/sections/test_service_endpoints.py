# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who stands behind a Service that has no selector, or leads to somebody else's port."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import service as section

from .conftest import HOST, MakeContext, deployment, listed, probe, service


def by_hand(*addresses: str) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": "mlflow"}
    return {
        "metadata": {"name": "hand", "labels": labels},
        "ports": [{"port": 5000}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


@pytest.mark.parametrize(
    ("addresses", "result", "wrong"),
    [
        (("10.0.0.99",), "timeout", True),
        ((), "refused", True),
        (("10.0.0.99",), "ok", False),
        (("10.0.0.1",), "timeout", False),
    ],
)
def test_endpoints_by_hand(context: MakeContext, addresses: tuple[str, ...], result: str, wrong: bool) -> None:
    bare = service()
    del bare["spec"]["selector"]
    made = context(
        listed("services", bare), listed("endpointslices", by_hand(*addresses)), probe("tcp", HOST, result, failures=[])
    )
    names = [item.id for item in section.analyze(made).findings]
    assert ("service.selector_matches_nothing" in names) is wrong


@pytest.mark.parametrize(("result", "wrong"), [("refused", True), ("timeout", False), ("ok", False)])
def test_a_port_of_a_side_car_where_nobody_listens(context: MakeContext, result: str, wrong: bool) -> None:
    found_workload = deployment()
    containers = found_workload["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "shipper", "ports": [{"name": "metrics", "containerPort": 2020}]})
    made = context(
        listed("deployments", found_workload),
        listed("services", service(target="metrics")),
        probe("tcp", HOST, result, failures=[], tries=1),
    )
    assert ("service.port_mismatch" in [item.id for item in section.analyze(made).findings]) is wrong


@pytest.mark.parametrize(("result", "wrong"), [("not_found", True), ("ok", False)])
def test_an_alias_of_a_host_that_is_not_there(context: MakeContext, result: str, wrong: bool) -> None:
    alias = {"metadata": {"name": "mlflow"}, "spec": {"type": "ExternalName", "externalName": "old.example.com"}}
    env = [{"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow.ml:80"}]
    client = {"metadata": {"name": "t", "labels": {}}, "spec": {"containers": [{"name": "c", "env": env}]}}
    made = context(
        listed("services", alias),
        listed("pods", client, subject="argo"),
        probe("dns", "mlflow.ml.svc.cluster.local", result),
        service="",
        service_port=None,
    )
    summaries = [item.summary for item in section.analyze(made).findings if item.id == "service.missing"]
    assert any("only an alias of old.example.com" in text for text in summaries) is wrong
