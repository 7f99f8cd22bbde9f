# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrate the database of one server, or say why not."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.bookkeeper import BookkeepingFailed
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import CallFailed
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.migration import Migration
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.migration_work import MigrationError

display = Display()


class ActionModule(RunbookAction):
    """Run the ``migrate`` action."""

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings(writes=True)
        me = self.me(os.getpid())

        def say(line: str) -> None:
            # When the playbook was killed nobody listens any more, and what was begun still has to be finished.
            with contextlib.suppress(OSError):
                display.display(f"{settings.namespace}: {line}")

        migration = Migration(settings, me, say)
        try:
            return migration.run()
        except (MigrationError, BookkeepingFailed, CallFailed) as failure:
            raise AnsibleActionFail(f"{settings.namespace}: {failure}") from failure
