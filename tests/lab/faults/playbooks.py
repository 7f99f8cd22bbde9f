# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's playbooks, run as the operator would run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import operator, servers
from tests.lab.settings import LabError

TIME_OUT = 300
REPAIRED_WITHIN = 900
"""A repair waits until it can be judged: for a database that starts, or for a rollout."""
SHOWN = 3000
TIME = re.compile(r"\d{8}T\d{6}Z(-\d+)?")


@dataclass(frozen=True)
class Run:
    """One run of a playbook: its exit code, output (both streams) and seconds."""

    code: int
    output: str
    seconds: float


def ansible_playbook() -> str:
    """The program that belongs to this Python."""
    return str(Path(sys.executable).parent / "ansible-playbook")


PATIENCE = "LAB_TIMEOUT_SECONDS"
"""Environment variable with ``mlflow_timeout_seconds`` for every run, for a machine that has much else to do."""

FOREIGN = ("AWS_", "K8S_AUTH_", "KUBECONFIG")
"""Variables of somebody else's identity."""


def environment(identity: operator.Operator) -> dict[str, str]:
    """Process environment of a run with an operator's identity."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**kept, **operator.environment(identity), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}


def command(playbook: str, server: servers.Server, report_dir: Path, variables: dict[str, Any]) -> list[str]:
    """Arguments that run ``mlops.mlflow_runbook.<playbook>`` for a server."""
    named: dict[str, Any] = {
        "mlflow_namespace": server.namespace,
        "mlflow_report_dir": str(report_dir),
        **variables,
    }
    if os.environ.get(PATIENCE):
        named["mlflow_timeout_seconds"] = os.environ[PATIENCE]
    words = [f"{key}={value}" for key, value in named.items()]
    return [ansible_playbook(), f"mlops.mlflow_runbook.{playbook}", *(part for word in words for part in ("-e", word))]


def run(
    playbook: str,
    server: servers.Server,
    report_dir: Path,
    variables: dict[str, Any] | None = None,
    identity: operator.Operator = operator.FULL,
    options: tuple[str, ...] = (),
) -> Run:
    """Run ``mlops.mlflow_runbook.<playbook>`` for a server with the operator's identity and further options.

    ANSIBLE_COLLECTIONS_PATH has to lead to the collection. Raises LabError when it takes too long.
    """
    longest = REPAIRED_WITHIN if playbook == "remediate" else TIME_OUT
    argv = [*command(playbook, server, report_dir, variables or {}), *options]
    started = time.monotonic()
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=longest,
            check=False,
            env=environment(identity),
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{playbook} took longer than {longest} s") from error
    return Run(done.returncode, done.stdout, time.monotonic() - started)


def diagnose(
    server: servers.Server, report_dir: Path, identity: operator.Operator = operator.FULL, error: str | None = None
) -> tuple[dict[str, Any], Run]:
    """Run ``diagnose`` and return its report; LabError when it fails, unless with ``error``, or leaves none."""
    known = set(reports(report_dir))
    done = run("diagnose", server, report_dir, identity=identity)
    if error is not None and (not done.code or not re.search(error, " ".join(done.output.split()))):
        raise LabError(f"diagnose ended with {done.code} and without the error {error!r}:\n{done.output[-SHOWN:]}")
    if error is None and done.code:
        raise LabError(f"diagnose ended with {done.code}:\n{done.output[-SHOWN:]}")
    return newest(report_dir, known), done


def reports(report_dir: Path) -> list[Path]:
    """JSON documents of a report folder, named by their time, oldest first."""
    found = [path for path in report_dir.glob("*/*.json") if TIME.fullmatch(path.stem)]
    return sorted(found, key=lambda path: path.name)


def newest(report_dir: Path, known: set[Path] | None = None) -> dict[str, Any]:
    """The newest report that is not one of ``known``."""
    found = [path for path in reports(report_dir) if path not in (known or set())]
    if not found:
        raise LabError(f"there is no new report in {report_dir}")
    document: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
    return document


def evidence(report_dir: Path) -> Path:
    """The newest evidence file of a report folder."""
    found = sorted(report_dir.glob("*/*.evidence.json"), key=lambda path: path.name)
    if not found:
        raise LabError(f"there is no evidence file in {report_dir}")
    return found[-1]


def leaks(server: servers.Server, report_dir: Path, done: Run) -> list[str]:
    """Where the database's password can be read after a run: in its output or in a file of the report folder."""
    password = server.database["password"]
    places = [path for path in report_dir.rglob("*") if path.is_file()]
    found = [str(path) for path in places if password in path.read_text(encoding="utf-8", errors="replace")]
    return [f"the password is in {place}" for place in [*found, *(["the output"] if password in done.output else [])]]
