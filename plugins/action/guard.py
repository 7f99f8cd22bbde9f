# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide, right before the write, whether a step may be carried out, and record it and its undo if so."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.bookkeeper import BookkeepingFailed
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import CallFailed
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.attempts import JUDGED, Attempt
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.guards import Refusal, refusals
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.outcome import FIXED, IMPROVED
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.step import Step
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.step_changes import (
    change_lines,
    diff_of,
    instructions,
)
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.diagnose import (
    Diagnosis,
    bookkeeper,
    diagnose,
    utc_now,
)
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import Run

LEASE_MARGIN_SECONDS = 180
"""What a write and the diagnosis behind it may take beyond the time that its effect is waited for."""


class ActionModule(RunbookAction):
    """Run the ``guard`` action."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        "step": {"type": "str", "required": True},
        "run": {"type": "str", "required": True},
        "report_digest": {"type": "str", "required": True},
    }

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        run = Run(arguments["run"])
        planned = run.report(arguments["report_digest"])
        settings = self.settings(writes=True)
        me = self.me()
        name = arguments["step"]
        early = [step for step in planned["plan"]["steps"] if step["step"] == name and step["refused"]]
        if early:
            return refused(run, name, [Refusal(**item) for item in early[0]["refused"]])
        now = diagnose(settings, me)
        granted = granted_by(planned, settings, now.policy.history, me)
        now.policy = replace(now.policy, granted=granted)
        step = next((item for item in now.plan.steps if item.step == name), None)
        objections = decide(step, now, planned, name)
        if step is None or objections:
            return refused(run, name, objections)
        if settings.check_mode:
            return permitted(run, step, now, "")
        return self.begin(run, step, now, settings, me)

    def begin(self, run: Run, step: Step, now: Diagnosis, settings: Settings, me: str) -> dict[str, Any]:
        """Take the Lease and record the attempt; only then may anything be written."""
        deployment = str(now.report["server"]["deployment"])
        try:
            keeper = bookkeeper(settings, deployment, me)
            patience = max(step.patience_seconds, settings.verify_seconds)
            busy = keeper.take(patience + LEASE_MARGIN_SECONDS, step.shared)
            if busy:
                return refused(run, step.step, [Refusal("one_run", busy)])
            attempt = Attempt(
                id=secrets.token_hex(8),
                step=step.step,
                cause=step.cause,
                cause_object=step.cause_object,
                object=step.object,
                plan=now.plan.digest,
                at=utc_now(),
                by=me,
                change=dict(step.change),
                undo=dict(step.undo),
                verdict=memory_of(now.report["verdict"]),
            )
            try:
                keeper.begin(attempt)
            except BookkeepingFailed:
                keeper.release()
                raise
        except (BookkeepingFailed, CallFailed) as failure:
            reason = f"the attempt cannot be recorded, so nothing is written: {failure}"
            return refused(run, step.step, [Refusal("undo", reason)])
        now.history.use(now.plan.digest, attempt.at)
        return permitted(run, step, now, attempt.id)


def decide(step: Step | None, now: Diagnosis, planned: dict[str, Any], name: str) -> list[Refusal]:
    """Return every objection to a step as it is planned now."""
    if now.plan.place != planned["plan"]["place"]:
        return [Refusal("same_place", f"this is {dict(now.plan.place)}, the plan is for {planned['plan']['place']}")]
    if step is None:
        return [Refusal("proof", f"the cause of {name} is gone; nothing to repair")]
    before = next((item for item in planned["plan"]["steps"] if item["step"] == name), None)
    if before is not None and before["change"] != dict(step.change):
        return [Refusal("proof", "what would be changed is not what was planned any more; diagnose again")]
    return refusals(step, now.plan, now.policy)


def granted_by(planned: dict[str, Any], settings: Settings, history: Iterable[Attempt], me: str) -> frozenset[str]:
    """Return the single steps of an approved plan that this run has begun to carry out, with success so far."""
    mine = [item for item in history if item.by == me and item.plan == settings.approved_plan]
    if not mine or planned["plan"]["digest"] != settings.approved_plan:
        return frozenset()
    if any(item.state != JUDGED or item.outcome not in (FIXED, IMPROVED) for item in mine):
        return frozenset()
    return frozenset(item["digest"] for item in planned["plan"]["steps"])


def memory_of(verdict: dict[str, Any]) -> dict[str, Any]:
    """Keep of a verdict what a later one is compared with."""
    causes = [{"id": cause["id"], "object": cause["object"]} for cause in verdict["causes"]]
    return {"status": verdict["status"], "impact": verdict["impact"], "causes": causes}


def refused(run: Run, step: str, objections: list[Refusal]) -> dict[str, Any]:
    told = [{"step": step, **item.as_json()} for item in objections]
    run.note("refused", *told)
    return {"changed": False, "permitted": False, "refused": told, "attempt": "", "write": "", "change": {}}


def permitted(run: Run, step: Step, now: Diagnosis, attempt: str) -> dict[str, Any]:
    action = {
        "step": step.step,
        "object": step.object,
        "attempt": attempt,
        "changed": step.change.get("operation") != "wait",
        "diff": change_lines(step.change),
        "patience_seconds": step.patience_seconds,
    }
    run.note("actions", action)
    return {
        "changed": not attempt,  # in check mode this is the task that shows what would be changed
        "permitted": True,
        "refused": [],
        "attempt": attempt,
        "diff": diff_of(step),
        **instructions(step.change, now.collected.evidence),
    }
