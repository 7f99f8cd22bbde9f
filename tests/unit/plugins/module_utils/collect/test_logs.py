# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs: which are read, and in which form they are kept."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect import logs
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.threads import Notebook
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import State

from .conftest import FakeCluster, server_pod


def test_split_lines() -> None:
    text = "2026-11-22T11:00:00.123456789Z first\n  continued\n2026-11-22T11:00:01Z \n"
    assert logs.split_lines(text) == {
        "lines": [
            {"at": "2026-11-22T11:00:00Z", "text": "first\n  continued"},
            {"at": "2026-11-22T11:00:01Z", "text": ""},
        ],
        "truncated": False,
    }
    assert logs.split_lines("2026-11-22T11:00:00Z x\n" * logs.LINES)["truncated"]


def test_wanted_logs() -> None:
    waiting = server_pod("waiting", {"waiting": {"reason": "ImagePullBackOff"}})
    restarted: dict[str, Any] = server_pod("restarted", {"waiting": {"reason": "CrashLoopBackOff"}})
    restarted["status"]["containerStatuses"][0]["restartCount"] = 2
    failing = server_pod("failing", {"waiting": {}})
    failing["status"]["initContainerStatuses"] = [
        {"name": "done", "state": {"terminated": {"exitCode": 0}}},
        {"name": "migrate", "state": {"terminated": {"exitCode": 1}}},
    ]
    assert logs.wanted_logs([server_pod("fine"), waiting, restarted, failing]) == [
        ("fine", "mlflow", False),
        ("restarted", "mlflow", True),
        ("failing", "migrate", False),
    ]


def test_jobs(notebook: Notebook) -> None:
    [job] = logs.jobs(FakeCluster(), notebook, "mlflow", [server_pod()])  # type: ignore[arg-type]
    [item] = job()
    assert (item.subject, item.state) == ("mlflow-1/mlflow/current", State.OK)
    assert item.value["lines"] == [{"at": "2026-11-22T11:00:00Z", "text": "hello"}]
