# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of the live steps, and who takes the lab down."""

from __future__ import annotations

import subprocess
from unittest.mock import Mock

import pytest
from pytest_mock import MockerFixture

from tests.lab.settings import REPOSITORY
from tests.tools import live
from tests.tools.environments import ToolError


@pytest.fixture
def commands(mocker: MockerFixture) -> Mock:
    """Stand-in for subprocess.run; each command of the lab that is in `failing` ends non-zero."""
    mocker.patch.object(live.gates, "variables", return_value={})
    mocker.patch.object(live.trees, "linked", return_value="tree")
    return mocker.patch.object(live.subprocess, "run", side_effect=answering())


def answering(*failing: str) -> Mock:
    def answer(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        code = int(bool(set(command) & set(failing)))
        printed = "export KUBECONFIG='a b'\nexport AWS_REGION=us-west-2\n"
        return subprocess.CompletedProcess(command, code, printed, "the lab is not up")

    return Mock(side_effect=answer)


def verbs(commands: Mock) -> list[str]:
    """What was run, each by its last telling word."""
    known = ("status", "up", "check", "env", "down", "test", "run", "tests.lab.repairs")
    return [next(word for word in known if word in call.args[0]) for call in commands.call_args_list]


def test_a_lab_that_was_up_stays_up(commands: Mock) -> None:
    assert live.run()
    assert verbs(commands) == ["status", "up", "check", "env", "test", "run", "tests.lab.repairs"]


def test_a_lab_that_was_down_goes_down_again(commands: Mock) -> None:
    commands.side_effect = answering("status")
    assert live.run()
    assert verbs(commands)[-1] == "down"


def test_the_first_failure_ends_the_run_and_the_lab(commands: Mock) -> None:
    commands.side_effect = answering("status", "molecule")
    assert not live.run()
    assert verbs(commands) == ["status", "up", "check", "env", "test", "down"]


def test_molecule_runs_as_the_operator(commands: Mock) -> None:
    assert live.molecule("test", "--all")
    assert commands.call_args.kwargs["env"] == {"KUBECONFIG": "a b", "AWS_REGION": "us-west-2"}


def test_a_lab_that_is_down_is_named(commands: Mock) -> None:
    commands.side_effect = answering("env")
    with pytest.raises(ToolError, match="the lab is not up"):
        live.molecule("test")


def test_the_smoke_faults_exist() -> None:
    assert [name for name in live.SMOKE_FAULTS if not (REPOSITORY / "tests" / "faults" / f"{name}.yml").exists()] == []
