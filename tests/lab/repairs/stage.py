# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One server whose Service can be broken and mended, the plan for it, and what was written meanwhile."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.lab import clients, kube, operator, servers, settings
from tests.lab.faults import phases, playbooks, writes
from tests.lab.repairs import runs
from tests.lab.settings import LabError

STEP = "repair_service"
JUDGED = "judged"
GUARD, HELD = "step | Ask the guards", "carry_out | Make sure that the Lease still is ours"
BEFORE_WRITE, AFTER_WRITE = "carry_out | Patch the object", "step | Record that it was written"
IN_POD, RULE = "carry_out | Act inside the server's pod", "carry_out | Authorize the recorded ingress"
INSTANCE, DELETION = "or start or stop the RDS instance", "carry_out | Delete the pods"
WRITTEN = "step | Look again until the answer is stable"
WRITE_UNDO = "take_back | Write the undo"
WRONG = "nobody"
WITHIN = 180.0


def require(holds: bool, text: str) -> None:
    """End a scenario unless something is so."""
    if not holds:
        raise LabError(text)


def flat(text: str) -> str:
    """A text in one line, as nobody knows where it was wrapped."""
    return " ".join(text.split())


@dataclass
class Stage:
    """A server, the folder of the reports about it, and what every repair of it is given besides."""

    server: servers.Server
    reports: Path
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> str:
        """Name of the Lease and of the ConfigMap beside the server."""
        return f"mlflow-runbook-{self.server.deployment}"

    def latest(self, suffix: str) -> str:
        """The newest report as text or as a page."""
        found = max(self.reports.glob(f"*/latest.{suffix}"), key=lambda path: path.stat().st_mtime_ns)
        text = found.read_text(encoding="utf-8")
        return html.unescape(text) if suffix == "html" else text

    def service(self) -> dict[str, Any]:
        """The server's Service as it is now."""
        found = kube.get("v1", "Service", self.server.service, self.server.namespace)
        require(found is not None, "the Service is gone")
        return found or {}

    def patch_service(self, patch: dict[str, Any], *, person: bool = False) -> None:
        """Change the Service as an administrator, or as a person does with kubectl edit."""
        manager = "kubectl-edit" if person else None
        kube.patch("v1", "Service", self.server.service, patch, namespace=self.server.namespace, field_manager=manager)

    def patch_deployment(self, patch: dict[str, Any]) -> None:
        """Change the Deployment as an administrator."""
        kube.patch("apps/v1", "Deployment", self.server.deployment, patch, namespace=self.server.namespace)

    def select(self, value: str | None = None, *, person: bool = False) -> None:
        """Let the Service select something else; nothing given: the server's pods again."""
        label, right = next(iter(self.server.labels.items()))
        self.patch_service({"spec": {"selector": {label: value or right}}}, person=person)

    def is_broken(self) -> bool:
        """Whether the Service still selects nothing."""
        return WRONG in self.service()["spec"]["selector"].values()

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Break the Service until the client fails; afterwards all is well again, and nothing is remembered."""
        begin = datetime.now(UTC)
        self.select(WRONG)
        try:
            clients.wait(self.server.name, ok=False, timeout=WITHIN, since=begin)
            yield
        finally:
            self.select()
            phases.forget_repairs(self.server)
            clients.wait(self.server.name, ok=True, timeout=WITHIN, since=datetime.now(UTC))

    def plan(self, step: str = STEP) -> str:
        """Diagnose, and return the digest of a plan that has the step."""
        report, _run = playbooks.diagnose(self.server, self.reports)
        require(step in [item["step"] for item in report["plan"]["steps"]], f"{step} is not planned")
        return str(report["plan"]["digest"])

    def allowing(self, step: str, digest: str) -> dict[str, Any]:
        """Variables that allow one step by name and approve a plan, with what every repair of this server is given."""
        approval = {"mlflow_approved_plan": digest} if digest else {}
        return {"mlflow_allowed_steps": step, **approval, **self.given}

    def remediate(self, digest: str = "", step: str = STEP, *options: str) -> tuple[dict[str, Any], playbooks.Run]:
        """Run ``remediate`` with one step allowed; return its report (the newest one in check mode) and the run."""
        done = playbooks.run("remediate", self.server, self.reports, self.allowing(step, digest), options=options)
        return playbooks.newest(self.reports), done

    def remediating(self, tasks: list[str], digest: str, step: str = STEP, **more: Any) -> Any:
        """Start ``remediate`` so that it stops at these tasks; ``more`` are options of ``runs.stopping``."""
        return runs.stopping(tasks, "remediate", self.server, self.reports, self.allowing(step, digest), **more)

    def kill(self, task: str, digest: str, step: str = STEP) -> None:
        """Let a run of ``remediate`` end with SIGKILL when it comes to a task."""
        with self.remediating([task], digest, step) as run:
            run.reached()
            run.kill()

    def meanwhile(self, task: str, digest: str, happens: Callable[[], object], **more: Any) -> tuple[int, str]:
        """Let something happen while ``remediate`` stops at a task; return its exit code and output."""
        with self.remediating([task], digest, **more) as run:
            run.reached()
            happens()
            run.go()
            code, output = run.finish()
        return code, output

    def other(self, playbook: str, **more: Any) -> playbooks.Run:
        """Run ``verify``, ``undo`` or ``restart`` with these variables."""
        return playbooks.run(playbook, self.server, self.reports, {**self.given, **more})

    def repaired(self) -> None:
        """Repair the Service with an approved plan."""
        report, done = self.remediate(self.plan())
        require(report.get("outcome") == "fixed", f"the outcome is {report.get('outcome')}: {done.output[-800:]}")

    def attempts(self) -> list[tuple[str, str, str]]:
        """Step, state and outcome of each attempt that is recorded in the cluster."""
        found = kube.get("v1", "ConfigMap", self.record, self.server.namespace)
        rows = json.loads(found["data"]["history.json"]) if found else []
        return [(row["step"], row["state"], row["outcome"]) for row in rows]

    def calls(self, since: datetime) -> list[tuple[str, str]]:
        """Verb and resource of each write that the API server accepted in the server's namespace, in order."""
        found = writes.kubernetes_writes(
            settings.audit_log(), operator.FULL.user, since, datetime.now(UTC), accepted=True
        )
        return [(one["verb"], one["resource"]) for one in found if one["namespace"] == self.server.namespace]

    def written(self, since: datetime, *, bookkeeping: bool = True, accepted: bool = False) -> list[str]:
        """What the operator wrote since then besides probe pods, in words.

        Args:
            since: a moment.
            bookkeeping: whether Leases and histories are left out as well.
            accepted: whether what the API server refused is left out.
        """
        return writes.forbidden_since(self.server, since, ["wait"] if bookkeeping else [], accepted=accepted)


def clear(stage: Stage) -> None:
    """Forget the repairs, and wait for the client."""
    with stage.broken():
        pass


def refused(stage: Stage, guards: set[str], digest: str, *options: str, step: str = STEP) -> playbooks.Run:
    """Require that ``remediate`` is refused for exactly these reasons, and that nothing at all was written."""
    begin = datetime.now(UTC)
    report, done = stage.remediate(digest, step, *options)
    wanted = [item for item in report["plan"]["steps"] if item["step"] == STEP]
    told = {reason["guard"] for item in wanted for reason in item["refused"]}
    require(told == guards, f"it was refused for {told or 'nothing'}, not for {guards}: {done.output[-800:]}")
    require(done.code != 0, "remediate did not fail")
    require(not stage.written(begin, bookkeeping=False), f"written: {stage.written(begin, bookkeeping=False)}")
    return done


def foreign_lease(stage: Stage) -> dict[str, Any]:
    """The Lease of a run on another machine that has just begun."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": stage.record,
            "namespace": stage.server.namespace,
            "labels": {"app.kubernetes.io/managed-by": "mlflow-runbook"},
        },
        "spec": {
            "holderIdentity": "another-machine:1:1:localhost",
            "leaseDurationSeconds": 900,
            "acquireTime": now,
            "renewTime": now,
        },
    }
