# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of port-forwards, and the real processes that they stand for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils import forwards

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(SLEEP)
    yield child
    child.kill()
    child.wait()


def forward(tmp_path: Path, **record: Any) -> forwards.Forward:
    path = tmp_path / "c_ml_mlflow.json"
    forwards.write_record(path, record)
    return forwards.Forward(path)


def test_a_recorded_process_is_ended_and_its_record_removed(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    ours = forward(tmp_path, process=forwards.describe(sleeper.pid))
    assert ours.alive
    assert ours.end() == [f"process {sleeper.pid}"]
    assert sleeper.wait(10) != 0
    assert not ours.path.exists()


def test_a_child_whose_parent_was_killed_is_ended(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    ours = forward(tmp_path, process={"pid": 2**22 + 1, "started": 1.0, "digest": "x"})
    ours.record["child"] = forwards.describe(sleeper.pid)
    assert not ours.alive
    assert ours.end() == [f"process {sleeper.pid}"]


@pytest.mark.parametrize("changed", [{"started": 1.0}, {"digest": "another command"}])
def test_a_process_that_has_our_number_is_never_touched(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], changed: dict[str, Any]
) -> None:
    other = forward(tmp_path, process={**forwards.describe(sleeper.pid), **changed})
    assert not other.alive
    assert other.end() == []
    assert sleeper.poll() is None


def test_the_holder_of_a_port_is_named_without_its_arguments() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not forwards.is_free(port)
        named = forwards.holder(port)
    assert str(os.getpid()) in named
    assert "pytest" not in named.partition("(")[2]
    assert forwards.is_free(port)


def test_two_runs_do_not_open_the_same_dashboard_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with forwards.only_one(path), pytest.raises(forwards.ForwardError, match="another run"), forwards.only_one(path):
        pass
    with forwards.only_one(path):
        pass


def test_records_are_the_owner_s_and_below_the_state_folder(tmp_path: Path) -> None:
    folder = forwards.default_folder({"XDG_STATE_HOME": str(tmp_path)})
    assert folder == tmp_path / "mlops-mlflow-runbook" / "dashboards"
    forwards.write_record(folder / "a.json", {})
    assert (folder / "a.json").stat().st_mode & 0o777 == 0o600
