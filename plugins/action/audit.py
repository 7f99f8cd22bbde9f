# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Audit one server in the controller's own process: collect, judge, write the report, hand on its summary."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.text import text
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.audit import audit, failure_of, publish, summary_of
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.diagnose import read_settings
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import RunError

display = Display()


class ActionModule(ActionBase):
    """Run the ``audit`` action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self.validate_argument_spec({})
        variables = task_vars or {}
        settings = read_settings(self, variables, writes=False)
        try:
            report, evidence = audit(settings)
            path = "" if settings.check_mode else publish(report, evidence, settings)
        except RunError as error:
            raise AnsibleActionFail(str(error)) from error
        display.display("\n" + text(report) + (f"Report: {path}\n" if path else ""))
        summary = {**summary_of(report), "report": path}
        host = variables.get("inventory_hostname", "localhost")
        failure = failure_of(report, settings)
        server = report["server"]
        return {
            "changed": False,
            "failed": bool(failure),
            "msg": failure or f"{server['namespace']}/{server['name']}: {report['status']}",
            **summary,
            "ansible_stats": {"data": {host: summary}, "per_host": False, "aggregate": True},
        }
