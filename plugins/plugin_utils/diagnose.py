# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all actions share: variables to settings, one diagnosis, the server's history."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.bookkeeper import (
    LEASES,
    SELECTOR,
    Bookkeeper,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Deadline
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.kubernetes import ClusterReader
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.run import Collected, collect
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core import attempts
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.attempts import Attempt
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.guards import Policy
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plan import (
    STARTS_PODS,
    STEPS,
    Plan,
    make_plan,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import (
    build,
    plan_document,
    server_document,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import (
    KNOWN,
    PREFIX,
    Settings,
    SettingsError,
    from_variables,
    near_misses,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.step import Situation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.terraform import read_outputs
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.diagnosis import Analysis, analyze
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.observations import observe

from .identity import ended
from .run import History, server_folder

display = Display()
BOOKKEEPING_SECONDS = 30.0


def utc_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_settings(action: Any, task_vars: Mapping[str, Any], *, writes: bool) -> Settings:
    """Template and convert the ``mlflow_*`` variables of a host.

    Args:
        action: the action plugin, for its templar and task.
        task_vars: the host's variables.
        writes: whether the playbook may write; then a near miss of a variable's name is an error.

    Raises:
        AnsibleActionFail: a variable cannot be used.
    """
    for wrong, meant in near_misses(task_vars).items():
        message = f"{wrong} is not a variable of this collection; did you mean {meant}?"
        if writes:
            raise AnsibleActionFail(message)
        display.warning(message)
    names = [name for name in task_vars if name in KNOWN and name.startswith(PREFIX)]
    variables = {name: action._templar.template(task_vars[name]) for name in names}
    try:
        settings = from_variables(variables, check_mode=bool(action._task.check_mode))
        settings = replace(settings, outputs=terraform_outputs(settings.terraform_outputs))
        unknown = sorted(set(settings.allowed_steps) - STEPS)
        if unknown:
            raise SettingsError("mlflow_allowed_steps", unknown[0], "any of " + ", ".join(sorted(STEPS)))
        if settings.requested_step:
            settings = replace(settings, allowed_steps=(settings.requested_step,))
        if writes:
            prove = bool(STARTS_PODS & set(settings.allowed_steps))
            settings = replace(settings, writing=True, prove_new_pod=prove)
    except SettingsError as error:
        raise AnsibleActionFail(str(error)) from None
    return settings


def terraform_outputs(path: str) -> dict[str, tuple[str, str]]:
    """Read what a file of Terraform's outputs names.

    Args:
        path: the file; empty for none.

    Raises:
        SettingsError: the file cannot be used.
    """
    if not path:
        return {}
    try:
        return read_outputs(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError("mlflow_terraform_outputs", path, f"output of terraform output -json ({error})") from None


@dataclass
class Diagnosis:
    """One complete look at a server."""

    collected: Collected
    analysis: Analysis
    plan: Plan
    policy: Policy
    history: History
    report: dict[str, Any]


def diagnose(settings: Settings, me: str = "", *, cloud_logs: bool = False) -> Diagnosis:
    """Collect, judge and plan for one server; nothing is written to it.

    Args:
        settings: what to look at and what is allowed.
        me: name of this run, which may hold the server's Lease.
        cloud_logs: read CloudWatch Logs too.
    """
    started, clock = utc_now(), time.monotonic()

    def tell(line: str) -> None:
        display.display(f"{settings.namespace}: {line}")

    collected = collect(settings, utc_now, tell, cloud_logs=cloud_logs)
    now = datetime.now(UTC)
    server = server_document(collected.target, collected.evidence, settings.namespace, collected.cluster)
    history = History(server_folder(settings.report_dir, server))
    analysis = analyze(collected.evidence, settings, now, history.repaired())
    target, baseline = analysis.discovery.target, history.baseline()
    situation = Situation(Context(target, collected.evidence, now), baseline, settings) if target else None
    plan = make_plan(situation, analysis.verdict, collected.evidence)
    policy = policy_of(settings, collected.evidence, history, server, now, me)
    report = build(
        server=server,
        started=started,
        seconds={"total": round(time.monotonic() - clock, 3), **collected.seconds},
        calls=collected.calls,
        verdict=analysis.verdict,
        plan=plan_document(plan, policy),
        observed=observe(analysis.discovery.target, collected.evidence, analysis.verdict, now),
    )
    report["attempts"] = [attempt_document(item) for item in policy.history]
    return Diagnosis(collected, analysis, plan, policy, history, report)


def policy_of(
    settings: Settings,
    evidence: EvidenceSet,
    history: History,
    server: Mapping[str, Any],
    now: datetime,
    me: str,
) -> Policy:
    """Join what the operator allowed with what happened before."""
    plans = history.plans()
    namespace, deployment = settings.namespace, str(server.get("deployment") or "")
    tried, problem = attempts.of_server(evidence, namespace, deployment)
    gone, unwritten = ended(attempts.holders(evidence)), attempts.unwritten_plans(tried)
    return Policy(
        allowed_steps=settings.allowed_steps,
        approved_plan=settings.approved_plan,
        now=now,
        issued={digest: entry["issued"] for digest, entry in plans.items() if "issued" in entry},
        used=frozenset(digest for digest, entry in plans.items() if "used" in entry and digest not in unwritten),
        history=tried,
        history_problem=problem if settings.writing else "",
        cluster_writes=attempts.cluster_writes(evidence),
        busy=attempts.busy(evidence, namespace, deployment, me, gone, now),
        writing=settings.writing,
        most_attempts=settings.attempts,
        cooldown=timedelta(seconds=settings.cooldown_seconds),
        quiet=timedelta(minutes=settings.quiet_minutes),
    )


def attempt_document(attempt: Attempt) -> dict[str, Any]:
    """Describe an attempt for the report."""
    names = ("step", "cause", "object", "at", "state", "outcome")
    return {name: getattr(attempt, name) for name in names}


def bookkeeper(settings: Settings, deployment: str, me: str) -> Bookkeeper:
    """Return the keeper of a server's Lease and history.

    Raises:
        CallFailed: there is no usable connection.
    """
    reader = ClusterReader(settings.kubernetes, Deadline(BOOKKEEPING_SECONDS))
    listed = reader.list(f"{LEASES}/leases", "leases", "", SELECTOR)
    leases = listed.value["items"] if listed.seen else []
    named = [str((item.get("spec") or {}).get("holderIdentity") or "") for item in leases]
    return Bookkeeper(reader, settings.namespace, deployment, me, ended(named), lambda: datetime.now(UTC))
