# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Diagnose one server and write everything that another team needs into one archive."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.action.assess import handed_over
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.archive import BundleError
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.escalate import Escalation, escalate

display = Display()


class ActionModule(RunbookAction):
    """Run the ``escalate`` action."""

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings(writes=False)
        try:
            done = escalate(settings)
        except BundleError as error:
            raise AnsibleActionFail(str(error)) from None
        display.display("\n" + summary(done))
        left_out = [f"{item.part}: {item.what} ({item.why})" for item in done.left_out]
        return {**handed_over(done.diagnosis), "bundle": done.path, "size": done.size, "left_out": left_out}


def summary(done: Escalation) -> str:
    """Show the text for the ticket, then where the bundle is."""
    where = f"Bundle: {done.path}" if done.path else "Bundle: not written in check mode"
    left = f", {len(done.left_out)} things left out (see its manifest.json)" if done.left_out else ""
    return f"{done.ticket}\n{where} ({-(-done.size // 1024)} KiB{left})\n"
