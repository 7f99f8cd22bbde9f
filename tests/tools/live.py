# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live part of `make test`: lab up, Molecule, smoke faults; the lab goes down again unless it was up before."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Mapping

from tests.lab.settings import REPOSITORY
from tests.tools import gates, trees
from tests.tools.environments import MAIN, ToolError, say

SMOKE_REPAIRS = ("killed_before_write", "two_at_once")
SMOKE_FAULTS = (
    "healthy",
    "security_group_rule_removed",
    "selector_matches_nothing",
    "database_stopped",
    "database_password_wrong",
    "database_unknown",
    "image_not_found",
    "out_of_memory",
    "network_policy",
    "role_policy_denies",
    "static_prefix",
    "scaled_to_zero",
)
STEP_SECONDS = 3600
QUESTION_SECONDS = 120
LAB = ("python", "-m", "tests.lab")


def _ask_lab(verb: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAB, verb],
        cwd=REPOSITORY,
        env=gates.variables(MAIN),
        capture_output=True,
        text=True,
        timeout=QUESTION_SECONDS,
        check=False,
    )


def operator() -> dict[str, str]:
    """Settings of the lab's operator, which `lab env` prints as one `export NAME=value` a line."""
    printed = _ask_lab("env")
    if printed.returncode != 0:
        raise ToolError(f"The lab does not tell its settings: {printed.stderr.strip()[-500:]}")
    return dict(word.split("=", 1) for word in shlex.split(printed.stdout) if "=" in word)


def _step(title: str, command: list[str], extra: Mapping[str, str] | None = None) -> bool:
    say(title)
    started = time.monotonic()
    environment = {**gates.variables(MAIN), **(extra or {})}
    passed = subprocess.run(command, cwd=REPOSITORY, env=environment, timeout=STEP_SECONDS, check=False).returncode == 0
    say(f"{title}: {'ok' if passed else 'FAILED'} after {time.monotonic() - started:.0f} s")
    return passed


def molecule(*arguments: str) -> bool:
    """Run Molecule as the lab's operator."""
    return _step(f"molecule {' '.join(arguments)}", ["molecule", *arguments], operator())


def run() -> bool:
    """Everything that needs the lab; True when all of it passed."""
    was_up = _ask_lab("status").returncode == 0
    smoke = ["python", "-m", "tests.lab.faults", "run", "--faults", ",".join(SMOKE_FAULTS)]
    repairs = ["python", "-m", "tests.lab.repairs", "--only", ",".join(SMOKE_REPAIRS)]
    pages = ["env", f"PYTHONPATH={trees.linked(MAIN)}", "python", "-m", "tests.lab.pages", "check"]
    try:
        return (
            _step("lab up", [*LAB, "up"])
            and _step("reports in a browser", pages)
            and molecule("test", "--all")
            and _step("smoke faults", smoke)
            and _step("repairs that are killed or raced", repairs)
        )
    finally:
        if not was_up:
            _step("lab down", [*LAB, "down"])
