# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CloudWatch Logs holds of a server, and what is said when it holds nothing."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Deadline, Observation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect import cloud_logs
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.threads import Notebook
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence, State

POD = {"metadata": {"name": "mlflow-1"}, "spec": {"nodeName": "node0"}}
INSIGHTS = "/aws/containerinsights/prod/application"


class FakeLogs:
    """Stands for CloudReader: log groups by prefix, streams and events."""

    def __init__(self, groups: Any, events: int = 1) -> None:
        self.groups = groups
        self.events = events
        self.deadline = Deadline(5)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, service: str, method: str, **given: Any) -> Observation:
        self.asked.append((method, given))
        if isinstance(self.groups, Observation):
            return self.groups
        if method == "describe_log_groups":
            names = [name for name in self.groups if name.startswith(given["logGroupNamePrefix"])]
            return Observation(State.OK, {"logGroups": [{"logGroupName": name} for name in names]})
        if method == "describe_log_streams":
            names = [given.get("logStreamNamePrefix", "stream") + "x"] if self.events else []
            return Observation(State.OK, {"logStreams": [{"logStreamName": name} for name in names]})
        rows = [{"timestamp": 1_795_000_000_000, "message": "FATAL:  no"}] * self.events
        return Observation(State.OK, {"events": rows})


def read(cloud: FakeLogs, identifier: str = "db", cluster: str = "arn:aws:eks:r:1:cluster/prod") -> list[Evidence]:
    notebook = Notebook(lambda: "2026-11-27T12:00:00Z")
    jobs = cloud_logs.jobs(cloud, notebook, identifier, cluster, [POD])  # type: ignore[arg-type]
    return [item for job in jobs for item in job()]


def test_fake_database_and_pod_logs_are_read_from_the_end() -> None:
    cloud = FakeLogs(["/aws/rds/instance/db/postgresql", "/aws/rds/instance/db2/postgresql", INSIGHTS])
    pods, database = read(cloud)
    assert (pods.what, pods.state) == ("aws.log", State.OK)
    assert pods.subject == "aws/containerinsights/prod/application/node0-application.var.log.containers.mlflow-1_x"
    assert database.subject == "aws/rds/instance/db/postgresql/streamx"
    assert database.value == {"lines": [{"at": "2026-11-18T11:06:40Z", "text": "FATAL:  no"}]}
    assert all(given.get("startFromHead") is False for method, given in cloud.asked if method == "get_log_events")


def test_fake_a_full_page_is_partial() -> None:
    cloud = FakeLogs(["/aws/rds/instance/db/postgresql"], events=cloud_logs.EVENTS)
    assert read(cloud)[1].state is State.PARTIAL


@pytest.mark.parametrize("groups", [[], ["/aws/rds/instance/other/postgresql"]])
def test_fake_no_log_group_is_said(groups: list[str]) -> None:
    pods, database = read(FakeLogs(groups))
    assert (pods.state, database.state) == (State.ABSENT, State.ABSENT)
    assert "the instance publishes no logs" in database.detail


def test_fake_another_clusters_logs_are_not_taken() -> None:
    groups = ["/aws/containerinsights/a/application", "/aws/containerinsights/b/application"]
    pods, dummy = read(FakeLogs(groups))
    assert pods.state is State.SKIPPED


def test_fake_a_missing_right_is_said() -> None:
    denied = Observation(State.FORBIDDEN, detail="logs:DescribeLogGroups")
    assert [(item.state, item.detail) for item in read(FakeLogs(denied))] == [
        (State.FORBIDDEN, "logs:DescribeLogGroups"),
        (State.FORBIDDEN, "logs:DescribeLogGroups"),
    ]


def test_fake_without_an_instance_its_logs_are_not_asked_for() -> None:
    cloud = FakeLogs([INSIGHTS])
    read(cloud, identifier="")
    assert all("rds" not in str(given) for dummy, given in cloud.asked)
