# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracking servers among all workloads, on Deployments that the lab recorded."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.tracking_servers import (
    Server,
    find_servers,
    host_name,
    short_name,
)

EVIDENCE = Path(__file__).parents[4] / "evidence"


def recorded(name: str) -> dict[str, list[dict[str, Any]]]:
    rows = json.loads((EVIDENCE / f"{name}.json").read_text(encoding="utf-8"))["evidence"]
    evidence = EvidenceSet.from_json(json.dumps(rows))
    return {
        "deployments": evidence.objects("kubernetes.deployments"),
        "statefulsets": evidence.objects("kubernetes.statefulsets"),
    }


def names(servers: list[Server]) -> list[str]:
    return [server.deployment for server in servers]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("healthy", ["mlflow"]),
        ("bitnami_chart_security_group", ["models-mlflow-tracking"]),
        ("community_chart_password_wrong", ["experiments-mlflow"]),
        ("official_chart_port_name", ["tracking-mlflow"]),
        ("stateful_set_selector", ["ml-registry"]),
    ],
)
def test_the_server_is_found_in_every_layout_and_its_neighbours_are_not(record: str, expected: list[str]) -> None:
    found = recorded(record)
    assert names(find_servers(found)) == expected
    assert sum(len(items) for items in found.values()) > len(expected)  # the neighbours are there


def test_two_servers_of_a_namespace_are_two_hosts() -> None:
    servers = find_servers(recorded("two_servers"))
    assert len(servers) == 2
    assert len({host_name(server, "lab") for server in servers}) == 2


def test_servers_of_many_namespaces_do_not_hide_each_other() -> None:
    one = recorded("healthy")
    other = copy.deepcopy(one)
    for item in other["deployments"]:
        item["metadata"]["namespace"] = "another"
    both = {"deployments": one["deployments"] + other["deployments"], "statefulsets": []}
    found = find_servers(both)
    assert names(found) == ["mlflow", "mlflow"]
    assert found[0].namespace == "another"


def test_labels_narrow_the_choice() -> None:
    found = recorded("healthy")
    assert names(find_servers(found, ["app=mlflow"])) == ["mlflow"]
    assert find_servers(found, ["app=other"]) == []


def test_a_workload_that_only_looks_a_little_like_a_server_is_none() -> None:
    found = recorded("healthy")
    for item in found["deployments"]:
        for container in item["spec"]["template"]["spec"]["containers"]:
            container.update(command=["python", "train.py"], args=[], env=[])
    assert find_servers(found) == []


@pytest.mark.parametrize(
    ("cluster", "short"),
    [
        ("mlflow-lab", "mlflow-lab"),
        ("arn:aws:eks:us-west-2:123456789012:cluster/Platform_Dev", "platform-dev"),
        ("10.0.0.1", "10-0-0-1"),
        ("", "cluster"),
    ],
)
def test_short_name(cluster: str, short: str) -> None:
    assert short_name(cluster) == short
    assert host_name(Server("ml", "mlflow", {}, ""), cluster) == f"mlflow.ml.{short}"
