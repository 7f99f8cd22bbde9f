# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a run is, so that another one can tell whether it still lives."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path

NAME = re.compile(r"^(?P<host>[^:]+):(?P<pid>\d+):(?P<begun>\d+):(?P<server>.*)$")
BEGUN_FIELD = 19
"""Position of the start time behind the command's name in ``/proc/<pid>/stat`` (proc(5), field 22)."""


def begun(pid: int) -> str:
    """Return when a process began, in clock ticks since boot; empty when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[BEGUN_FIELD]


def run_name(server: str, pid: int = 0) -> str:
    """Name the running ``ansible-playbook`` and the inventory host for which it works.

    Args:
        server: name of the inventory host.
        pid: another process that does the work; a worker of Ansible's outlives a playbook that is killed.
    """
    pid = pid or os.getppid()
    return f"{socket.gethostname()}:{pid}:{begun(pid) or 0}:{server}"


def ended(holders: Iterable[str]) -> frozenset[str]:
    """Return the holders that are processes of this machine and no longer run."""
    found = set()
    for holder in holders:
        match = NAME.match(holder)
        if match and match["host"] == socket.gethostname() and begun(int(match["pid"])) != match["begun"]:
            found.add(holder)
    return frozenset(found)
