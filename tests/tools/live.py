# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live part of `make test`: lab up, Molecule, smoke faults; the lab goes down again unless it was up before."""

from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path

from tests.lab.settings import REPOSITORY
from tests.tools import gates
from tests.tools.environments import MAIN, ToolError, python_of, say

SMOKE_FAULTS = ("healthy", "security_group_rule_removed", "selector_matches_nothing")
STEP_SECONDS = 3600
QUESTION_SECONDS = 120


def variables() -> dict[str, str]:
    """The lab's process environment: the tools and collections of the checks, the user's own XDG folders."""
    return gates.variables(MAIN)


def python(*arguments: str) -> list[str]:
    """Command line of the main environment's interpreter."""
    return [python_of(MAIN).executable, *arguments]


def _lab(verb: str) -> subprocess.CompletedProcess[str]:
    command = python("-m", "tests.lab", verb)
    return subprocess.run(
        command, cwd=REPOSITORY, env=variables(), capture_output=True, text=True, timeout=QUESTION_SECONDS, check=False
    )


def lab_variables() -> dict[str, str]:
    """The operator's settings as `lab env` prints them, one `export NAME=value` a line."""
    printed = subprocess.run(
        python("-m", "tests.lab", "env"),
        cwd=REPOSITORY,
        env=variables(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if printed.returncode != 0:
        raise ToolError(f"The lab does not tell its settings: {printed.stderr.strip()[-500:]}")
    words = shlex.split(printed.stdout, comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def _step(title: str, argv: list[str], extra: dict[str, str] | None = None) -> bool:
    say(title)
    started = time.monotonic()
    done = subprocess.run(argv, cwd=REPOSITORY, env={**variables(), **(extra or {})}, timeout=STEP_SECONDS, check=False)
    say(f"{title}: {'ok' if done.returncode == 0 else 'FAILED'} after {time.monotonic() - started:.0f} s")
    return done.returncode == 0


def lab_is_up() -> bool:
    """Whether somebody already uses the lab."""
    status = subprocess.run(
        python("-m", "tests.lab", "status"),
        cwd=REPOSITORY,
        env=variables(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    return status.returncode == 0


def molecule(*arguments: str) -> bool:
    """Run Molecule as the lab's operator."""
    program = str(Path(python_of(MAIN).executable).with_name("molecule"))
    return _step(f"molecule {' '.join(arguments)}", [program, *arguments], lab_variables())


def run() -> bool:
    """Everything that needs the lab; True when all of it passed."""
    was_up = lab_is_up()
    try:
        if not _step("lab up", python("-m", "tests.lab", "up")):
            return False
        if not molecule("test", "--all"):
            return False
        return _step("smoke faults", python("-m", "tests.lab.faults", "run", "--faults", ",".join(SMOKE_FAULTS)))
    finally:
        if not was_up:
            _step("lab down", python("-m", "tests.lab", "down"))
