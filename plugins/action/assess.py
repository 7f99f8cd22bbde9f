# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Diagnose one server in the controller's own process: collect, judge, plan."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.guards_server import under_way
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.outcome import (
    FIXED,
    IMPROVED,
    WORSE,
    believed,
    judge_outcome,
    names,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import before as kept
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.workload import workload
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.diagnose import Diagnosis, diagnose
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import Run, RunError

PAUSE_SECONDS = 3.0
WORSE_SECONDS = 45.0
"""A rollout may take something away for a moment; what is lost for longer is lost."""

display = Display()


class ActionModule(RunbookAction):
    """Run the ``assess`` action."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        "sections": {"type": "list", "elements": "str"},
        "writes": {"type": "bool", "default": False},
        "verify": {"type": "dict"},
        "undone": {"type": "bool", "default": False},
        "instead_of": {"type": "str", "default": ""},
    }

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["sections"]:
            self.variables["mlflow_sections"] = arguments["sections"]
        settings = self.settings(writes=arguments["writes"])
        if arguments["verify"]:
            before, actions = earlier(arguments["verify"])
            settled = replace(settings, prove_new_pod=False)
            diagnosis = verify(settled, before, actions, self.me(), undone=arguments["undone"])
        else:
            diagnosis = diagnose(settings, self.me())
        return handed_over(diagnosis, arguments["instead_of"])


def earlier(reference: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read the report of the diagnosis that a repair was made from, and what was done since."""
    try:
        run = Run(str(reference["run"]))
        return run.report(str(reference["report_digest"])), run.notes("actions")
    except (KeyError, RunError) as error:
        raise AnsibleActionFail(f"verify needs the result of an earlier assess: {error}") from error


def handed_over(diagnosis: Diagnosis, instead_of: str = "") -> dict[str, Any]:
    """Save the run and return only what later tasks need: no collected text passes through templates.

    Args:
        diagnosis: what was found.
        instead_of: folder of an earlier run that this one replaces; what was noted there is kept.
    """
    run = Run()
    if instead_of:
        run.replace(Run(instead_of))
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
        "steps": [
            {"step": step["step"], "section": step["section"]}
            for step in report["plan"]["steps"]
            if step["class"] != "proposed" and step["step"] in diagnosis.policy.allowed_steps
        ],
        "outcome": report["outcome"],
        "done": report["outcome"] not in (None, IMPROVED),
    }


def name_of_server(server: Mapping[str, Any]) -> str:
    """Name a server so that two hosts with the same name are one server; empty when none was found."""
    if not server.get("uid"):
        return ""
    return f"{server['namespace']}/{server['name']} {server['cluster_uid']} {server['uid']}"


def verify(
    settings: Settings, before: Mapping[str, Any], actions: list[dict[str, Any]], me: str, *, undone: bool
) -> Diagnosis:
    """Look again until the answer is stable for the settle window, or the time for it is over.

    Args:
        settings: how long to look, and how long an answer has to stay.
        before: the report that the repair was made from.
        actions: what was done; ``patience_seconds`` says how long the effect of a step may take.
        me: name of this run.
        undone: whether the last step was taken back: then what it took away has to be there again.
    """
    done = {action["step"] for action in actions}
    steps = [step for step in before["plan"]["steps"] if step["step"] in done]
    repaired = (
        names(before["verdict"])
        if settings.requested_step
        else {(step["cause"], step["cause_object"]) for step in steps}
    )
    patience = max([settings.verify_seconds, *(int(action["patience_seconds"]) for action in actions)])
    end, seen, since = time.monotonic() + patience, "", time.monotonic()
    while True:
        diagnosis = diagnose(settings, me)
        outcome, now = judge_outcome(before["verdict"], diagnosis.report["verdict"], repaired), time.monotonic()
        rolling = is_rolling(diagnosis)
        seen, since = (seen, since) if outcome == seen and not rolling else (outcome, now)
        stable = now - since >= stable_after(outcome, settings.settle_seconds, undone=undone)
        if stable or now >= end:
            outcome_told = WORSE if undone else believed(outcome, stable=stable)
            diagnosis.report |= {"actions": actions, "before": kept(before), "outcome": outcome_told}
            for row in diagnosis.report["attempts"]:
                row["outcome"] = row["outcome"] or outcome_told
            if undone:
                diagnosis.report["undone"] = outcome != WORSE
            return diagnosis
        told = f"{outcome} so far{', the rollout goes on' if rolling else ''}"
        display.display(f"{settings.namespace}: {told}, looking again for up to {max(0, end - now):.0f} s")
        time.sleep(PAUSE_SECONDS)


def is_rolling(diagnosis: Diagnosis) -> bool:
    """Tell whether pods still come and go: until then nothing is known about the new ones."""
    situation = diagnosis.plan.situation
    found = workload(situation.context) if situation is not None else None
    return found is not None and situation is not None and under_way(found, situation)


def stable_after(outcome: str, settle_seconds: float, *, undone: bool) -> float:
    """Return for how many seconds an outcome has to stay the same until it is believed; others wait for the end."""
    if outcome == WORSE:
        return float("inf") if undone else WORSE_SECONDS
    return settle_seconds if undone or outcome in (FIXED, IMPROVED) else float("inf")
