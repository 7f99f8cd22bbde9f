# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide, right before the write, whether a step may be carried out."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.guards import Refusal, refusals
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plan import Step, module_rules
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.diagnose import diagnose, read_settings, utc_now
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import Run, RunError


class ActionModule(ActionBase):
    """Run the ``guard`` action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        dummy, arguments = self.validate_argument_spec(
            {
                "step": {"type": "str", "required": True},
                "run": {"type": "str", "required": True},
                "report_digest": {"type": "str", "required": True},
            }
        )
        try:
            planned = Run(arguments["run"]).report(arguments["report_digest"])
        except RunError as error:
            raise AnsibleActionFail(str(error)) from error
        settings = read_settings(self, task_vars or {}, writes=True)
        early = [step for step in planned["plan"]["steps"] if step["step"] == arguments["step"] and step["refused"]]
        if early:
            return answer([Refusal(**refusal) for refusal in early[0]["refused"]], None)
        now = diagnose(settings)
        step = next((item for item in now.plan.steps if item.step == arguments["step"]), None)
        if step is None:
            objections = [Refusal("proof", f"the cause of {arguments['step']} is gone; nothing to repair")]
        elif now.plan.digest != planned["plan"]["digest"]:
            reason = f"the plan changed since it was made: {planned['plan']['digest']} became {now.plan.digest}"
            objections = [Refusal("proof", reason)]
        else:
            objections = refusals(step, now.plan, now.policy)
        if step is not None and not objections and not settings.check_mode:
            now.history.use(now.plan.digest, utc_now())
        return answer(objections, step)


def answer(objections: list[Refusal], step: Step | None) -> dict[str, Any]:
    return {
        "changed": False,
        "permitted": not objections,
        "refused": [item.as_json() for item in objections],
        "change": dict(step.change) if step is not None else {},
        "undo": dict(step.undo) if step is not None else {},
        "module_rules": module_rules(step) if step is not None else [],
    }
