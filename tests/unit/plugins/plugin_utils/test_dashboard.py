# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closing dashboards by their records."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils import dashboard, forwards

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG, encoding="utf-8")
    return Settings(namespace="ml", kubernetes={"kubeconfig": str(path)})


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield child
    child.kill()
    child.wait()


def record(folder: Path, pid: int, **more: Any) -> Path:
    path = folder / "here_ml_mlflow.json"
    written = {"cluster": "here", "namespace": "ml", "name": "mlflow", "port": 65000, **more}
    forwards.write_record(path, {"process": forwards.describe(pid), **written})
    return path


def test_a_dashboard_is_closed_by_its_record(
    tmp_path: Path, settings: Settings, sleeper: subprocess.Popen[bytes]
) -> None:
    path = record(tmp_path, sleeper.pid)
    result = dashboard.close_all(settings, tmp_path)
    assert result.changed
    assert sleeper.wait(10) != 0
    assert not path.exists()
    assert result.done == [f"closed the port-forward on port 65000: ended process {sleeper.pid}, it is free now"]
    assert not dashboard.close_all(settings, tmp_path).changed


@pytest.mark.parametrize("other", [{"namespace": "other"}, {"cluster": "there"}, {"name": "second"}])
def test_another_server_s_dashboard_stays_open(
    tmp_path: Path, settings: Settings, sleeper: subprocess.Popen[bytes], other: dict[str, str]
) -> None:
    record(tmp_path, sleeper.pid, **other)
    asked = replace(settings, deployment="mlflow")
    assert not dashboard.close_all(asked, tmp_path).changed
    assert sleeper.poll() is None


def test_check_mode_closes_nothing(tmp_path: Path, settings: Settings, sleeper: subprocess.Popen[bytes]) -> None:
    path = record(tmp_path, sleeper.pid)
    result = dashboard.close_all(replace(settings, check_mode=True), tmp_path)
    assert (result.changed, path.exists(), sleeper.poll()) == (True, True, None)


def test_the_dashboard_of_another_server_that_has_a_port_is_named(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    record(tmp_path, sleeper.pid)
    assert dashboard.dashboard_on(65000, tmp_path) == "the dashboard of ml/mlflow"
    assert dashboard.dashboard_on(65001, tmp_path) == ""
    sleeper.kill()
    sleeper.wait()
    assert dashboard.dashboard_on(65000, tmp_path) == ""
