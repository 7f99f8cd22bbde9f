# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the report, show it to a person, hand its summary to a program, and remove the run's temporary files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.baseline import record
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import discover
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context, parse_time
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.outcome import FIXED, WELL
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import text
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.resume import failed_write, told_of_failure
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import SECTIONS, Settings
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.diagnose import utc_now
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.html import page
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import (
    History,
    Run,
    server_folder,
    write_whole,
)

display = Display()


class ActionModule(RunbookAction):
    """Run the ``report`` action."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        "run": {"type": "str", "required": True},
        "report_digest": {"type": "str", "required": True},
        "require_repair": {"type": "bool", "default": False},
        "first_run": {"type": "str", "default": ""},
        "interrupted": {"type": "str", "default": ""},
    }

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings(writes=arguments["require_repair"])
        run = Run(arguments["run"])
        try:
            report = run.report(arguments["report_digest"])
            first = Run(arguments["first_run"] or arguments["run"])
            report["refused"] = first.notes("refused")
            add_what_was_left(report, run, first, arguments["interrupted"], self.variables)
            path = "" if settings.check_mode else publish(run, report, settings)
        finally:
            for folder in filter(None, (arguments["run"], arguments["first_run"])):
                Run(folder).remove()
        brief = len(self.variables.get("ansible_play_hosts_all") or []) > 1
        display.display("\n" + text(report, brief=brief) + (f"Report: {path}\n" if path else ""))
        verdict = report["verdict"]
        summary = {
            "status": verdict["status"],
            "causes": [cause["id"] for cause in verdict["causes"]],
            "outcome": report["outcome"],
            "report": path,
        }
        failure = failure_of(report, settings, require_repair=arguments["require_repair"])
        if arguments["interrupted"]:
            failure = "; ".join(filter(None, (told_of_failure(report["interrupted"]), failure)))
        return {
            "changed": False,
            "failed": bool(failure),
            "msg": failure or f"{report['server']['namespace']}/{report['server']['name']}: {verdict['status']}",
            **summary,
            "ansible_stats": self.stats(summary),
        }


def add_what_was_left(
    report: dict[str, Any], run: Run, first: Run, interrupted: str, variables: Mapping[str, Any]
) -> None:
    """Add what an earlier run had left behind, or this one whose write has failed.

    Args:
        report: the report, to which it is added.
        run: the run of the report.
        first: the run that a repair began with.
        interrupted: name of the step whose write failed; empty when none did.
        variables: those of the host; Ansible keeps in them what failed.
    """
    left = run.notes("resumed")
    if interrupted:
        why = failed_write(variables.get("ansible_failed_result") or {})
        found = {name: left[-1][name] if left else "" for name in ("outcome", "unrecorded")}
        report["interrupted"] = {"step": interrupted, "why": why, **found}
    report["resumed"] = first.notes("resumed") if interrupted or run.folder != first.folder else left


def publish(run: Run, report: dict[str, Any], settings: Settings) -> str:
    """Write JSON, text and HTML beside each other, and remember baseline and plan; return the JSON's path."""
    folder = server_folder(settings.report_dir, report["server"])
    stem = report["started"].replace(":", "").replace("-", "")
    documents = {"json": json.dumps(report, indent=1, sort_keys=True) + "\n", "txt": text(report), "html": page(report)}
    for suffix, document in documents.items():
        write_whole(folder / f"{stem}.{suffix}", document)
        write_whole(folder / f"latest.{suffix}", document)
    evidence = run.evidence()
    write_whole(folder / f"{stem}.evidence.json", evidence)
    history = History(folder)
    complete = set(settings.sections) == set(SECTIONS)
    if report["verdict"]["status"] == "healthy" and not report["verdict"]["causes"] and complete:
        history.save_baseline(healthy_state(evidence, report, settings, history.baseline()))
    if report["plan"]["steps"] and report["outcome"] is None:
        history.issue(report["plan"]["digest"], utc_now())
    return str(Path(folder) / f"{stem}.json")


def healthy_state(text: str, report: dict[str, Any], settings: Settings, before: dict[str, Any]) -> dict[str, Any]:
    """Return what a later repair may restore; what could not be seen this time stays as it was seen before."""
    evidence = EvidenceSet.from_json(text)
    target = discover(evidence, settings).target
    now = parse_time(report["started"])
    found = record(evidence, report["started"], Context(target, evidence, now) if target else None)
    return {**before, **{name: value for name, value in found.items() if value}}


def failure_of(report: dict[str, Any], settings: Settings, *, require_repair: bool) -> str:
    """Return why the playbook fails, or an empty text: a problem found is a successful diagnosis."""
    verdict = report["verdict"]
    if require_repair and report["outcome"] != FIXED and verdict["status"] not in WELL:
        return "; ".join(["not repaired: " + why_not(report), *owners_next(verdict)])
    choices = [item["what"] for item in verdict["unknown"] if item["needs"] == "mlflow_deployment"]
    if choices and not report["server"]["name"]:
        return choices[0]
    if settings.fail_on in ("cause", "unknown") and verdict["causes"]:
        return "cause found: " + ", ".join(cause["id"] for cause in verdict["causes"])
    if settings.fail_on == "unknown" and verdict["status"] == "unknown":
        return "the server could not be judged"
    return ""


def why_not(report: dict[str, Any]) -> str:
    """Say what stood in the way of a repair."""
    if report["outcome"]:
        return f"the server is {report['verdict']['status']}, the outcome is {report['outcome']}"
    told = [f"{item['step']}: {item['guard']}: {item['reason']}" for item in report["refused"]]
    planned = [step["step"] for step in report["plan"]["steps"] if step["class"] != "proposed"]
    if not told and planned:
        told = [f"{', '.join(planned)}: not named in mlflow_allowed_steps"]
    return "; ".join(told) or f"the server is {report['verdict']['status']}, and no step repairs that"


def owners_next(verdict: dict[str, Any]) -> list[str]:
    """Name for each cause whose turn it is and what is next."""
    return [f"next, {cause['owner']}: {cause['next'][0]}" for cause in verdict["causes"] if cause["next"]]
