# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requirement files of the repository agree with each other."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.lab.settings import REPOSITORY
from tests.tools.environments import MAIN, NEWEST, OLDEST, Environment


def lines(name: str) -> dict[str, str]:
    """Package name to version specifier of a requirement file."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(\[[^]]*\])?([^#\s]*)", (REPOSITORY / name).read_text(), re.MULTILINE)
    return {package.lower(): version for package, _extras, version in found}


@pytest.mark.parametrize("environment", [MAIN, OLDEST, NEWEST], ids=lambda environment: environment.name)
def test_solved_requirements_are_exact_and_name_no_host(environment: Environment) -> None:
    solved = [line for line in environment.requirements.read_text().splitlines() if not line.startswith("#")]
    assert solved
    assert [line for line in solved if not re.fullmatch(r"[a-z0-9._-]+==[\w.]+", line)] == []


def test_the_oldest_environment_proves_the_lower_bounds() -> None:
    solved = lines("tests/tools/requirements/oldest.txt")
    for package in ("boto3", "kubernetes"):
        assert lines("requirements.txt")[package].removeprefix(">=") == solved[package].removeprefix("==")


def test_the_execution_environment_is_the_requirements_under_the_constraints() -> None:
    metadata = yaml.safe_load((REPOSITORY / "meta/execution-environment.yml").read_text())["dependencies"]
    caps = lines("constraints.txt")
    expected = {name: ",".join(filter(None, (low, caps.get(name)))) for name, low in lines("requirements.txt").items()}
    assert lines(metadata["python"]) == expected
    assert (REPOSITORY / metadata["system"]).exists()


def test_the_collections_that_we_need_have_lower_bounds() -> None:
    dependencies = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text())["dependencies"]
    assert set(dependencies) == {"kubernetes.core", "amazon.aws"}
    assert all(re.fullmatch(r">=\d+\.\d+\.\d+", bound) for bound in dependencies.values())
