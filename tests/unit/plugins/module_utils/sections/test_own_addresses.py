# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses that the pod template itself gives: an entry of the hosts file, and a proxy."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import CLOUD, POD, Evidence, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import artifact_store, database

from .conftest import AT, MakeContext, deployment, listed, probe

DATABASE = "db.example.com:5432"


def instance(status: str) -> Evidence:
    endpoint = {"Address": "db.example.com", "Port": 5432}
    value = {"DBInstanceIdentifier": "mlflow", "DBInstanceStatus": status, "Endpoint": endpoint}
    return Evidence("aws.db_instance", CLOUD, "mlflow", AT, State.OK, value)


@pytest.mark.parametrize(
    ("address", "outcome", "status", "expected"),
    [
        ("10.9.9.9", "refused", "available", True),
        ("10.9.9.9", "timeout", "available", True),
        ("10.9.9.9", "ok", "available", False),
        ("10.0.5.5", "refused", "available", False),
        ("10.9.9.9", "refused", "stopped", False),
    ],
)
def test_an_entry_of_the_hosts_file_leads_to_no_database(
    context: MakeContext, address: str, outcome: str, status: str, expected: bool
) -> None:
    found = deployment()
    found["spec"]["template"]["spec"]["hostAliases"] = [{"ip": "10.9.9.9", "hostnames": ["db.example.com"]}]
    tried = probe("tcp", DATABASE, outcome, place=POD, address=address)
    made = context(listed("deployments", found), instance(status), tried, db_instance_identifier="mlflow")
    causes = {item.id for item in database.analyze(made).findings}
    assert ("database.wrong_address" in causes) is expected


@pytest.mark.parametrize(("code", "expected"), [("ProxyConnectionError", True), ("EndpointConnectionError", False)])
def test_a_proxy_that_the_pods_are_told_to_use_and_do_not_reach(
    context: MakeContext, code: str, expected: bool
) -> None:
    error = 'Failed to connect to proxy URL: "http://proxy.example.com:3128"'
    asked = probe("sts", "", "timeout", place=POD, code=code, operation="", error=error)
    result = artifact_store.analyze(context(asked, bucket="artifacts"))
    told = {item.facts["proxy"] for item in result.findings if item.id == "artifact_store.proxy_unreachable"}
    assert told == ({"http://proxy.example.com:3128"} if expected else set())
