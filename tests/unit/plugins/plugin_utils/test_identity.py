# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the process that a name stands for still runs, with real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.identity import begun, ended, run_name

HOST = socket.gethostname()


def test_a_process_has_ended_once_it_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = run_name("one", child.pid)
    alive = ended([name])
    child.communicate(b"\n")
    assert alive == frozenset()
    assert ended([name]) == {name}


def test_another_process_with_the_same_number_is_another_run() -> None:
    pid = os.getpid()
    assert run_name("one", pid) == f"{HOST}:{pid}:{begun(pid)}:one"
    reused = f"{HOST}:{pid}:{int(begun(pid)) - 1}:one"
    assert ended([reused, run_name("one", pid)]) == {reused}


def test_a_run_is_ansible_playbook_s_own_process_unless_told_otherwise() -> None:
    assert run_name("one").split(":")[1] == str(os.getppid())


def test_of_other_machines_nothing_is_known() -> None:
    assert ended(["elsewhere:1:1:one", "somebody", f"{HOST}:x:1:one", ""]) == frozenset()
