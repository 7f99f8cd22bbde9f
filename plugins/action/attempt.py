# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the record of a step: written, judged, taken up again after a run that was killed, and given back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.bookkeeper import (
    Bookkeeper,
    BookkeepingFailed,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import CallFailed
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core import attempts, resume
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.step_changes import instructions
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.diagnose import bookkeeper
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import Run, RunError

display = Display()
TAKE_SECONDS = 600
STATES = ("held", "written", "judged", "resume", "undo", "release")


class ActionModule(RunbookAction):
    """Run the ``attempt`` action."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        "state": {"type": "str", "required": True, "choices": list(STATES)},
        "attempt": {"type": "str", "default": ""},
        "outcome": {"type": "str", "default": ""},
        "run": {"type": "str", "required": True},
        "report_digest": {"type": "str", "required": True},
    }

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings(writes=True)
        run = Run(arguments["run"])
        try:
            report = run.report(arguments["report_digest"])
            evidence = EvidenceSet.from_json(run.evidence())
        except (RunError, OSError, ValueError) as error:
            raise AnsibleActionFail(str(error)) from error
        deployment = str(report["server"].get("deployment") or "")
        if settings.check_mode or not deployment:
            return answer()
        known, dummy = attempts.of_server(evidence, settings.namespace, deployment)
        try:
            keeper = bookkeeper(settings, deployment, self.me())
            result = carry_out(keeper, arguments, known, evidence, report)
            found = result.pop("resumed", None)
            if found:
                run.note("resumed", found)
        except (BookkeepingFailed, CallFailed) as failure:
            raise AnsibleActionFail(str(failure)) from failure
        if result["msg"]:
            display.display(f"{settings.namespace}: {result['msg']}")
        return result


def carry_out(
    keeper: Bookkeeper,
    arguments: Mapping[str, Any],
    known: tuple[attempts.Attempt, ...],
    evidence: EvidenceSet,
    report: Mapping[str, Any],
) -> dict[str, Any]:
    state, identifier = arguments["state"], arguments["attempt"]
    if state == "release":
        keeper.release()
        return answer()
    if state == "held":
        lost = keeper.lost()
        if lost:
            raise BookkeepingFailed(f"nothing is written: {lost}")
        return answer()
    if state == "written":
        lost = keeper.lost()
        if lost:
            raise BookkeepingFailed(f"it was written, and that could not be recorded: {lost}")
        keeper.mark(identifier, attempts.WRITTEN)
        return answer()
    if state == "judged":
        keeper.mark(identifier, attempts.JUDGED, arguments["outcome"])
        keeper.release()
        return answer(outcome=arguments["outcome"])
    return take_up(keeper, known, evidence, report) if state == "resume" else take_back(keeper, known, evidence)


def take_up(
    keeper: Bookkeeper,
    known: tuple[attempts.Attempt, ...],
    evidence: EvidenceSet,
    report: Mapping[str, Any],
) -> dict[str, Any]:
    """Judge what an earlier run began and could not finish; its own attempt even where that cannot be recorded."""
    last = attempts.unfinished(known)
    if last is None:
        return answer()
    problem = taken_over(keeper)
    if problem and last.by != keeper.me:
        return answer(msg=problem)
    outcome = resume.judge(last, evidence, report["verdict"])
    if not problem:
        try:
            keeper.mark(last.id, attempts.JUDGED, outcome)
            keeper.release()
        except BookkeepingFailed as failure:
            problem = str(failure)
    found = resume.document(last, outcome, problem)
    return answer(outcome="" if problem else outcome, msg=resume.told(found), resumed=found)


def taken_over(keeper: Bookkeeper) -> str:
    """Take the Lease of a run that has ended, once nothing that it began can still write; say who has it otherwise."""
    for dummy in range(int(attempts.GRACE.total_seconds())):
        busy = keeper.take(TAKE_SECONDS, "")
        if not any(holder in busy for holder in keeper.ended):
            return busy
        time.sleep(1)
    return keeper.take(TAKE_SECONDS, "")


def take_back(keeper: Bookkeeper, known: tuple[attempts.Attempt, ...], evidence: EvidenceSet) -> dict[str, Any]:
    """Return the change that takes the last attempt back, if its fields are still ours."""
    last = attempts.last_to_undo(known)
    if last is None:
        return answer(msg="no step is recorded that could be taken back")
    others = resume.changed_by_others(last, evidence)
    if others:
        return answer(
            msg=f"{last.object} was changed since by somebody else: {', '.join(others)}; nothing is taken back"
        )
    busy = keeper.take(TAKE_SECONDS, "")
    if busy:
        return answer(msg=busy)
    told = f"taking back {last.step} of {last.at}"
    return answer(permitted=True, attempt=last.id, msg=told, **instructions(last.undo))


def answer(**more: Any) -> dict[str, Any]:
    nothing = {"attempt": "", "outcome": "", "msg": "", "write": "", "change": {}}
    return {"changed": False, "permitted": False, "refused": False, **nothing, **more}
