# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interpreters and virtual environments of the tools."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tests.tools import environments
from tests.tools.environments import MAIN, Environment, Python, ToolError


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What one test found must not answer the next."""
    for function in (environments.find_python, environments.python_of, environments.collections_of):
        function.cache_clear()
    yield
    environments.find_python.cache_clear()


def test_an_interpreter_that_does_not_run_is_passed_over(tmp_path: Path, mocker: MockerFixture) -> None:
    broken = tmp_path / "python3.11"
    broken.write_text("#!/bin/sh\necho 'command not found' >&2; exit 127\n")
    broken.chmod(0o755)
    mocker.patch.object(environments, "_candidates", return_value=[str(broken), sys.executable])
    found = environments.find_python(11, 11)
    assert found is not None
    assert Path(found.executable).samefile(sys.executable)
    assert found.minor == f"3.{sys.version_info.minor}"


def test_no_interpreter_and_no_root_is_one_sentence(mocker: MockerFixture) -> None:
    mocker.patch.object(environments, "_candidates", return_value=[])
    mocker.patch("os.geteuid", return_value=1000)
    with pytest.raises(ToolError, match=r"between 3\.11 and 3\.13"):
        environments.python_of(MAIN)


def test_a_venv_is_made_once_and_again_when_its_requirements_change(tmp_path: Path, mocker: MockerFixture) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("a==1\n")
    environment = Environment("tried", requirements, (11, 11), "0", "get_pip_0.py")
    mocker.patch.object(environments, "cache_dir", return_value=tmp_path)
    mocker.patch.object(environments, "_required_python", return_value=Python(sys.executable, "3.11.0"))
    made: list[Path] = []

    def make(base: Python, folder: Path, requirements: Path) -> None:
        folder.mkdir()
        (folder / ".complete").touch()
        made.append(folder)

    mocker.patch.object(environments, "_make_venv", side_effect=make)
    for content in ("a==1\n", "a==1\n", "a==2\n"):
        requirements.write_text(content)
        environments.python_of.cache_clear()
        environments.python_of(environment)
    assert len(made) == 2
    assert made[0] != made[1]


def test_the_pip_bootstrap_lies_where_ansible_test_looks(tmp_path: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(environments, "cache_dir", return_value=tmp_path)
    home = environments.ansible_test_home(MAIN)
    assert (home / ".ansible/test/cache" / MAIN.get_pip).read_text().startswith("# Copyright")
