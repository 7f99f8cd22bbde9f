# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import time

import pytest

from tests.lab import processes, settings
from tests.lab.settings import LabError


def test_a_daemon_is_started_once_and_stopped_by_its_record() -> None:
    processes.start("sleeper", ["sleep", "60"], in_netns=False)
    pid = processes.pid_of("sleeper")
    assert pid is not None
    processes.start("sleeper", ["sleep", "60"], in_netns=False)
    assert processes.pid_of("sleeper") == pid
    processes.stop("sleeper")
    assert processes.start_time(pid) is None
    assert processes.names() == []


def test_a_process_id_that_now_belongs_to_another_process_is_left_alone() -> None:
    start = processes.start_time(os.getpid())
    assert start is not None
    record = settings.run_dir() / "gone.pid"
    record.write_text(json.dumps({"pid": os.getpid(), "start": start - 1}), encoding="utf-8")
    assert not processes.alive("gone")
    processes.stop("gone")
    assert not record.exists()


def test_output_goes_to_the_log() -> None:
    processes.start("echo", ["sh", "-c", "echo hello; exec sleep 60"], in_netns=False)
    log = settings.logs_dir() / "echo.log"
    deadline = time.monotonic() + 10
    while not log.read_text(encoding="utf-8") and time.monotonic() < deadline:
        time.sleep(0.01)
    processes.stop("echo")
    assert log.read_text(encoding="utf-8") == "hello\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["no-such-program-of-the-lab"], "not installed"),
        (["sh", "-c", "echo why >&2; exit 3"], "failed (3): why"),
        (["sleep", "5"], "took longer"),
    ],
)
def test_a_command_that_fails_says_why(argv: list[str], words: str) -> None:
    with pytest.raises(LabError) as caught:
        processes.run(argv, timeout=0.2)
    assert words in str(caught.value)
