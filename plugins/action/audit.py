# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Audit one server in the controller's own process: collect, judge, write the report, hand on its summary."""

from __future__ import annotations

from typing import Any

from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.text import text
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.audit import audit, failure_of, publish, summary_of

display = Display()


class ActionModule(RunbookAction):
    """Run the ``audit`` action."""

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings(writes=False)
        report, evidence = audit(settings)
        path = "" if settings.check_mode else publish(report, evidence, settings)
        display.display("\n" + text(report) + (f"Report: {path}\n" if path else ""))
        summary = {**summary_of(report), "report": path}
        failure = failure_of(report, settings)
        server = report["server"]
        return {
            "changed": False,
            "failed": bool(failure),
            "msg": failure or f"{server['namespace']}/{server['name']}: {report['status']}",
            **summary,
            "ansible_stats": self.stats(summary),
        }
