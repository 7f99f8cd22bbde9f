# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Diagnose one server in the controller's own process: collect, judge, plan."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.outcome import UNCHANGED, UNKNOWN, judge_outcome
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import before as kept
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.diagnose import Diagnosis, diagnose, read_settings
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import Run, RunError

PAUSE_SECONDS = 3.0


class ActionModule(ActionBase):
    """Run the ``assess`` action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        dummy, arguments = self.validate_argument_spec(
            {
                "sections": {"type": "list", "elements": "str"},
                "writes": {"type": "bool", "default": False},
                "verify": {"type": "dict"},
                "actions": {"type": "list", "elements": "dict", "default": []},
            }
        )
        variables = dict(task_vars or {})
        if arguments["sections"]:
            variables["mlflow_sections"] = arguments["sections"]
        settings = read_settings(self, variables, writes=arguments["writes"])
        if arguments["verify"]:
            diagnosis = verify(settings, earlier(arguments["verify"]), arguments["actions"])
        else:
            diagnosis = diagnose(settings)
        return handed_over(diagnosis)


def earlier(reference: Mapping[str, Any]) -> dict[str, Any]:
    """Read the report of the diagnosis that a repair was made from."""
    try:
        return Run(str(reference["run"])).report(str(reference["report_digest"]))
    except (KeyError, RunError) as error:
        raise AnsibleActionFail(f"verify needs the result of an earlier assess: {error}") from error


def handed_over(diagnosis: Diagnosis) -> dict[str, Any]:
    """Save the run and return only what later tasks need: no collected text passes through templates."""
    run = Run()
    digest = run.save(diagnosis.report, diagnosis.collected.evidence.to_json())
    report = diagnosis.report
    return {
        "changed": False,
        "run": str(run.folder),
        "server": name_of_server(report["server"]),
        "report_digest": digest,
        "status": report["verdict"]["status"],
        "causes": [cause["id"] for cause in report["verdict"]["causes"]],
        "plan_digest": report["plan"]["digest"],
        "steps": [step["step"] for step in report["plan"]["steps"]],
        "outcome": report["outcome"],
    }


def name_of_server(server: Mapping[str, Any]) -> str:
    """Name a server so that two hosts with the same name are one server; empty when none was found."""
    if not server.get("uid"):
        return ""
    return f"{server['namespace']}/{server['name']} {server['cluster_uid']} {server['uid']}"


def verify(settings: Settings, before: Mapping[str, Any], actions: list[dict[str, Any]]) -> Diagnosis:
    """Look again until the answer is good for the whole settle window, or the time for it is over."""
    done = {action["step"] for action in actions}
    repaired = {(step["cause"], step["object"]) for step in before["plan"]["steps"] if step["step"] in done}
    end = time.monotonic() + settings.verify_seconds
    good_since: float | None = None
    while True:
        diagnosis = diagnose(settings)
        outcome = judge_outcome(before["verdict"], diagnosis.report["verdict"], repaired)
        now = time.monotonic()
        if outcome in (UNCHANGED, UNKNOWN) or diagnosis.report["verdict"]["status"] != "healthy":
            good_since = None
        else:
            good_since = good_since if good_since is not None else now
        settled = good_since is not None and now - good_since >= settings.settle_seconds
        if settled or now >= end:
            diagnosis.report["outcome"] = outcome
            diagnosis.report["actions"] = actions
            diagnosis.report["before"] = kept(before)
            return diagnosis
        time.sleep(PAUSE_SECONDS)
