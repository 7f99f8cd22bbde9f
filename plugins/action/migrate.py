# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrate the database of one server, or say why not."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.bookkeeper import BookkeepingFailed
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import CallFailed
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.diagnose import read_settings
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.identity import run_name
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.migration import Migration
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.migration_work import MigrationError

display = Display()


class ActionModule(ActionBase):
    """Run the ``migrate`` action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self.validate_argument_spec({})
        variables = task_vars or {}
        settings = read_settings(self, variables, writes=True)
        me = run_name(str(variables.get("inventory_hostname", "localhost")), os.getpid())

        def say(line: str) -> None:
            # When the playbook was killed nobody listens any more, and what was begun still has to be finished.
            with contextlib.suppress(OSError):
                display.display(f"{settings.namespace}: {line}")

        migration = Migration(settings, me, say)
        try:
            return migration.run()
        except (MigrationError, BookkeepingFailed, CallFailed) as failure:
            raise AnsibleActionFail(f"{settings.namespace}: {failure}") from failure
