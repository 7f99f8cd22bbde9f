# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A long collection says what it waits for, a short one says nothing."""

from __future__ import annotations

import queue

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.progress import MOST, Progress


def test_what_takes_long_is_told_by_its_name() -> None:
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    progress = Progress(said.put, first=0.01, pause=0.01)
    with progress.running(), progress.waiting_for("the database, up to 10 s"):
        line = said.get(timeout=10)
    assert line == "0 s, waiting for the database, up to 10 s"


def test_a_name_is_told_once_and_not_too_many() -> None:
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    progress = Progress(said.put, first=0.01, pause=0.01)
    names = [f"job {number}" for number in range(MOST + 2)]

    def nested(left: list[str]) -> str:
        if not left:
            with progress.running():
                return said.get(timeout=10)
        with progress.waiting_for(left[0]):
            return nested(left[1:])

    assert nested([names[0], *names]) == f"0 s, waiting for {'; '.join(names[:MOST])} and 2 more"


def test_what_is_over_is_not_told() -> None:
    said: list[str] = []
    progress = Progress(said.append, first=0.01, pause=0.01)

    def fail() -> list[object]:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        progress.named("a job that fails", fail)()  # type: ignore[arg-type]
    assert progress.named("a job", list)() == []
    with progress.running():
        pass
    assert said == []
