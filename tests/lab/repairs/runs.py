# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of a playbook that can be stopped at a task, let go on, or killed."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab import operator, servers
from tests.lab.faults import playbooks
from tests.lab.settings import LabError

CALLBACKS = Path(__file__).parent / "callbacks"
LONGEST = 600.0


class Stopped:
    """A run of a playbook that stops at the beginning of some tasks.

    Args:
        process: the running ``ansible-playbook``.
        folder: where it tells that it has come to a task, and is told to go on.
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(encoding="utf-8", errors="replace")

    def reached(self, number: int = 0) -> None:
        """Wait until the task with this number begins; LabError when the run ends before."""
        deadline = time.monotonic() + LONGEST
        while not (self.folder / f"reached-{number}").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the run never came to task {number}: {self.output[-playbooks.SHOWN :]}")
            time.sleep(0.1)

    def go(self, number: int = 0) -> None:
        """Let it go on."""
        (self.folder / f"go-{number}").touch()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def finish(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and output."""
        code = self.process.wait(timeout=LONGEST)
        return code, self.output


@contextmanager
def stopping(
    tasks: list[str],
    playbook: str,
    server: servers.Server,
    reports: Path,
    variables: dict[str, Any],
    kubeconfig: Path | None = None,
) -> Iterator[Stopped]:
    """Start a playbook that stops at each of these tasks (a part of the name) once, and never outlives the block.

    ``kubeconfig`` stands instead of the operator's own.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
        environment = {
            **playbooks.environment(operator.FULL),
            "ANSIBLE_CALLBACK_PLUGINS": os.fspath(CALLBACKS),
            "ANSIBLE_CALLBACKS_ENABLED": "rendezvous",
            "LAB_RENDEZVOUS": name,
            **({"KUBECONFIG": os.fspath(kubeconfig)} if kubeconfig else {}),
        }
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                playbooks.command(playbook, server, reports, variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        try:
            yield Stopped(process, folder)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
