# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open the dashboard of one server and prove that its page opens, or close it."""

from __future__ import annotations

from typing import Any

from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import text
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.dashboard import (
    DashboardError,
    Opening,
    Result,
    close_all,
    records_folder,
)
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.diagnose import Diagnosis, diagnose
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.forwards import MISSING, ForwardError
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import RunError

display = Display()


class ActionModule(RunbookAction):
    """Run the ``dashboard`` action."""

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings(writes=True)
        if MISSING:
            return {"failed": True, "changed": False, "msg": MISSING}
        try:
            if settings.dashboard_state == "absent":
                return told(settings, close_all(settings, records_folder()), None)
            return present(settings)
        except (DashboardError, ForwardError, RunError) as failure:
            return {"failed": True, "changed": False, "state": "absent", "msg": f"{settings.namespace}: {failure}"}


def present(settings: Settings) -> dict[str, Any]:
    """Look at the server first, then open its dashboard; show the whole report when it does not open."""
    diagnosis = diagnose(settings)
    try:
        return told(settings, Opening(settings, diagnosis, records_folder()).run(), diagnosis)
    except (DashboardError, ForwardError):
        if diagnosis.report["verdict"]["status"] != "healthy":
            display.display("\n" + text(diagnosis.report))
        raise


def told(settings: Settings, result: Result, diagnosis: Diagnosis | None) -> dict[str, Any]:
    """Show a person what was done and return the same for a program."""
    verdict: dict[str, Any] = diagnosis.report["verdict"] if diagnosis else {"status": "", "causes": []}
    display.display("\n" + "\n".join(lines(settings, result, verdict)) + "\n")
    return {
        "changed": result.changed,
        "msg": headline(settings, result),
        "state": result.state,
        "address": result.address,
        "way": result.way,
        "pid": result.pid,
        "status": verdict["status"],
        "causes": [cause["id"] for cause in verdict["causes"]],
        "notes": result.notes,
    }


def headline(settings: Settings, result: Result) -> str:
    would = "would be " if settings.check_mode and result.changed else ""
    if result.state == "absent":
        return (
            f"dashboard of {settings.namespace}: {would}closed"
            if result.changed
            else (f"dashboard of {settings.namespace}: nothing of ours is open")
        )
    already = "" if result.changed or not result.pid else "already "
    return f"dashboard of {settings.namespace}: {would}{already}open at {result.address}"


def lines(settings: Settings, result: Result, verdict: dict[str, Any]) -> list[str]:
    """Return the lines for a person."""
    shown = [headline(settings, result)]
    rows = [("PAGE", result.proof), ("WAY", result.way + (f", process {result.pid}" if result.pid else ""))]
    rows += [("LOG", result.log), ("SERVER", verdict["status"])]
    rows += [("CAUSE", f"{cause['summary']} ({cause['id']})") for cause in verdict["causes"]]
    rows += [("DONE", item) for item in result.done] + [("NOTE", item) for item in result.notes]
    shown += [f"  {name:<8}{value}" for name, value in rows if value]
    if result.pid:
        command = "ansible-playbook mlops.mlflow_runbook.open_dashboard -e mlflow_namespace="
        shown.append(f"  {'CLOSE':<8}{command}{settings.namespace} -e mlflow_dashboard_state=absent")
    return shown
