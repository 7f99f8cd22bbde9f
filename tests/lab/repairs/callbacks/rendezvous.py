# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A callback that stops a playbook at the beginning of named tasks until somebody lets it go on."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: rendezvous
type: aggregate
short_description: Stops at tasks
description: Stops a playbook at the beginning of named tasks until a file appears.
"""


class CallbackModule(CallbackBase):
    """LAB_RENDEZVOUS names a folder whose ``tasks.json`` lists names of tasks; each is waited at once."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "rendezvous"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        folder = Path(os.environ["LAB_RENDEZVOUS"])
        for number, name in enumerate(json.loads((folder / "tasks.json").read_text(encoding="utf-8"))):
            reached = folder / f"reached-{number}"
            if name in task.get_name() and not reached.exists():
                reached.touch()
                while not (folder / f"go-{number}").exists():
                    time.sleep(0.05)
