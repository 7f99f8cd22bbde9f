# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The migration of one server's database, from the look at it to the answer of the server."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.bookkeeper import BookkeepingFailed
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import CallFailed
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.migration_job import migration_job
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core import migration
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.attempts import JUDGED, WRITTEN, Attempt
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.kubernetes_patch import edit, patch_change
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.migration import (
    FINISH,
    NOTHING,
    REFUSED,
    Decision,
    Schema,
    job_end,
    may_restore,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.outcome import (
    FIXED,
    IMPROVED,
    UNKNOWN,
    WELL,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.resume import ABANDONED
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.step_changes import instructions
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.workload import workload, workload_name

from .diagnose import Diagnosis, bookkeeper, diagnose, utc_now
from .migration_work import MigrationError, Work

SESSION_SECONDS = 60
"""How long the Job waits for the sessions of others before it gives up."""

MARGIN_SECONDS = 1800
"""What diagnoses, scaling and waiting for pods may take beside snapshot and Job."""


STAYS_DOWN = "on this schema a pod that starts would exit, or migrate by itself; to go on, run this once more"


class Migration:
    """Migrates once.

    Args:
        settings: the operator's variables.
        me: name of this run.
        say: shows a line to a person.
    """

    def __init__(self, settings: Settings, me: str, say: Callable[[str], None]) -> None:
        self.settings = replace(settings, prove_new_pod=True)
        self.me, self.say = me, say
        self.snapshot = self.job = ""
        self.scaled = self.upgrading = False

    def run(self) -> dict[str, Any]:
        """Look, decide and, when everything allows it, migrate."""
        self.say("1/6 looking at the server and, with a copy of its pod, at the schema")
        seen = diagnose(self.settings, self.me)
        if seen.analysis.discovery.target is None:
            return self.answer("refused", failed=True, msg=seen.analysis.discovery.problem)
        self.context = context_of(seen)
        history_problem = seen.policy.history_problem
        self.decision = migration.decide(self.context, self.settings, seen.policy.history, seen.policy.busy)
        schema = self.decision.schema
        self.say(
            f"schema {schema.current or 'not seen'}, image {schema.head or 'not seen'} ({self.context.target.image})"
        )
        if self.decision.what == NOTHING:
            return self.answer("current", msg="nothing to do: the schema is what the image expects")
        self.tell_earlier()
        self.tell_plan()
        if self.decision.what == REFUSED or history_problem:
            reasons = [*self.decision.reasons, *([history_problem] if history_problem else [])]
            return self.refused(reasons)
        if self.settings.check_mode:
            return self.answer("planned", changed=True, msg=self.decision.schema.problem or "nothing was changed")
        self.work = Work(self.settings, self.context, seen.collected.secrets, self.say)
        return self.hold(seen)

    def tell_earlier(self) -> None:
        earlier, found = self.decision.earlier, workload(self.context)
        if earlier is not None:
            replicas = int(found["spec"].get("replicas", 1)) if found else 0
            for line in migration.earlier_lines(earlier, self.decision.schema, replicas):
                self.say(line)

    def tell_plan(self) -> None:
        instance = self.context.target.db_instance_identifier or "the database"
        snapshot = migration.snapshot_line(self.settings, instance)
        self.say("what a migration does:")
        for line in migration.plan_lines(self.context, self.decision, self.settings, snapshot):
            self.say(f"  - {line}")

    def refused(self, reasons: list[str]) -> dict[str, Any]:
        for reason in reasons:
            self.say(f"refused: {reason}")
        return self.answer("refused", failed=True, msg="; ".join(reasons), reasons=reasons)

    def hold(self, seen: Diagnosis) -> dict[str, Any]:
        """Have the server for ourselves while it is migrated."""
        seconds = self.settings.wait_seconds + self.settings.migrate_minutes * 60 + MARGIN_SECONDS
        busy = self.keeper().take(seconds, self.context.target.db_instance_identifier)
        if busy:
            return self.refused([busy])
        try:
            problem = self.take_up()
            if problem:
                return self.refused([problem])
            self.choose_snapshot()
            self.begin(seen)
        except (MigrationError, BookkeepingFailed) as failure:
            self.keeper().release()
            return self.refused([f"nothing was changed: {failure}"])
        return self.carry_out()

    def keeper(self) -> Any:
        return bookkeeper(self.settings, self.context.target.deployment, self.me)

    def take_up(self) -> str:
        """Remove the Job of an earlier run, unless it still works; return why nothing may be done."""
        earlier = self.decision.earlier
        if earlier is None:
            return ""
        name = str(earlier.change.get("job") or "")
        job = self.work.job(name) if name else None
        if job is not None and job_end(job) is None:
            self.keeper().release()
            return f"job/{name} of the earlier run still runs; wait until it has ended"
        if job is not None:
            self.work.remove_job(name)
        self.snapshot = str(earlier.change.get("snapshot") or "")
        return ""

    def choose_snapshot(self) -> None:
        """Find a snapshot, or name the one that is to be taken.

        Raises:
            MigrationError: there is none, and none may be taken.
        """
        instance, wanted = self.context.target.db_instance_identifier, self.settings.snapshot
        self.take = False
        if self.decision.what == FINISH or wanted == "none":
            return
        described = self.context.evidence.value("aws.db_instance", "aws") or {}
        if not instance or described.get("DBClusterIdentifier"):
            kind = "a member of an Aurora cluster" if instance else "no RDS instance that is known"
            raise MigrationError(f"the database is {kind}: back it up yourself, then say mlflow_snapshot=none")
        self.snapshot = self.work.recent_snapshot()
        if self.snapshot:
            return
        if wanted == "require":
            raise MigrationError(f"no snapshot of {instance} is younger than {self.settings.snapshot_minutes} minutes")
        self.take = True
        self.snapshot = f"mlflow-{instance}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}"

    def begin(self, seen: Diagnosis) -> None:
        """Record what will be changed and its undo, before anything is."""
        found = self.work.workload()
        schema, target = self.decision.schema, self.context.target
        self.job = f"mlflow-migrate-{secrets.token_hex(4)}"
        replicas = int(found["spec"].get("replicas", 1))
        down, up = patch_change(found, target.kind, [edit(found, ("spec", "replicas"), 0)])
        self.down = down if replicas else {}
        self.up = (
            up
            if replicas
            else patch_change(found, target.kind, [edit(found, ("spec", "replicas"), self.decision.replicas)])[0]
        )
        earlier = self.decision.earlier
        facts = {
            "from": earlier.change.get("from") if earlier and self.decision.what == FINISH else schema.current,
            "to": schema.head,
            "replicas": replicas or self.decision.replicas,
            "snapshot": self.snapshot,
            "job": self.job,
        }
        verdict = seen.report["verdict"]
        self.attempt = Attempt(
            id=secrets.token_hex(8),
            step=migration.STEP,
            cause=migration.CAUSE,
            cause_object=target.db_instance_identifier or target.deployment,
            object=workload_name(self.context),
            plan=f"{facts['from']}:{facts['to']}",
            at=utc_now(),
            by=self.me,
            change={**down, **facts},
            undo={**self.up} if replicas else {},
            verdict={key: verdict[key] for key in ("status", "impact")}
            | {"causes": [{"id": item["id"], "object": item["object"]} for item in verdict["causes"]]},
        )
        self.keeper().begin(self.attempt)
        if earlier:
            self.keeper().mark(earlier.id, JUDGED, ABANDONED)

    def carry_out(self) -> dict[str, Any]:
        """Do it, and whatever happens, say and leave the server in the best state that is safe."""
        try:
            if self.decision.what != FINISH:
                self.back_up()
                self.stop_server()
                self.upgrade()
            self.upgrading = True
        except (MigrationError, CallFailed) as failure:
            return self.finish(self.work.redactor.text(str(failure)))
        except BaseException as failure:
            self.finish(f"interrupted ({type(failure).__name__})")
            raise
        return self.finish("")

    def back_up(self) -> None:
        if self.take:
            self.say(f"2/6 taking the RDS snapshot {self.snapshot}")
            self.work.take_snapshot(self.snapshot)
        told = f"{self.snapshot} is complete" if self.snapshot else "none: mlflow_snapshot=none"
        self.say(f"2/6 snapshot: {told}")

    def stop_server(self) -> None:
        self.still_ours("before anything was changed")
        self.work.try_job(self.manifest())
        name = workload_name(self.context)
        self.say(
            f"3/6 scaling {name} from {self.work.replicas()} to 0"
            if self.down
            else f"3/6 {name} is at 0 replicas already"
        )
        if self.down:
            self.scaled = True
            self.work.patch(instructions(self.down)["change"]["patch"])
        self.work.wait_until_gone()
        self.work.wait_until_suspended()
        self.say("  no pod of the server is left")

    def still_ours(self, when: str) -> None:
        """Raise MigrationError when the Lease was lost."""
        lost = self.keeper().lost()
        if lost:
            raise MigrationError(f"{lost}, {when}")

    def manifest(self) -> dict[str, Any]:
        schema, seconds = self.decision.schema, self.settings.migrate_minutes * 60
        found, target = self.work.workload(), self.context.target
        return migration_job(found, target, self.job, schema.current, schema.head, seconds, SESSION_SECONDS)

    def upgrade(self) -> None:
        schema = self.decision.schema
        self.work.still_at_zero()
        self.still_ours("before the upgrade")
        self.say(f"4/6 upgrading {schema.current} to {schema.head} in job/{self.job}")
        self.upgrading = True
        self.work.run_job(self.manifest())

    def finish(self, problem: str) -> dict[str, Any]:
        """Remove the Job, read the schema, bring the server back where that is safe, and record what became of it."""
        if problem:
            self.say(f"failed: {problem}")
        if not self.touched():
            self.keeper().mark(self.attempt.id, JUDGED, ABANDONED)
            self.keeper().release()
            return self.answer("failed", failed=True, msg=f"{problem}; the server was not touched")
        self.say("5/6 reading the schema with a copy of the server's pod")
        try:
            self.work.remove_job(self.job)
            schema = self.look()
        except (MigrationError, CallFailed) as failure:
            schema = Schema(problem=str(failure))
        self.say(f"  schema {schema.current or schema.problem}, image {schema.head or 'not seen'}")
        if not may_restore(schema):
            return self.left_at_zero(problem, schema)
        return self.restore(problem, schema)

    def touched(self) -> bool:
        """Tell whether the server was stopped, or a Job may have changed its database."""
        stopped = self.scaled or self.decision.earlier is not None
        return self.upgrading or (stopped and not self.work.replicas())

    def look(self) -> Schema:
        seen = diagnose(replace(self.settings, source_namespaces=()), self.me)
        return migration.schema_of(context_of(seen)) if seen.analysis.discovery.target else Schema(problem="not seen")

    def left_at_zero(self, problem: str, schema: Schema) -> dict[str, Any]:
        """Leave the server down, since its pods and the schema may not fit, and say how to go back."""
        self.keeper().mark(self.attempt.id, WRITTEN)
        self.keeper().release()
        self.say(f"the server stays at 0 replicas: {STAYS_DOWN}")
        for line in self.way_back():
            self.say(f"  {line}")
        told = f"{problem}; the schema is at {schema.current or schema.problem}; {'; '.join(self.way_back())}"
        return self.answer("stopped", changed=True, failed=True, msg=told, outcome=UNKNOWN)

    def way_back(self) -> list[str]:
        target, replicas = self.context.target, int(self.attempt.change["replicas"])
        name = workload_name(self.context)
        return migration.way_back(target.namespace, name, replicas, self.snapshot, target.db_instance_identifier)

    def restore(self, problem: str, schema: Schema) -> dict[str, Any]:
        """Give the replicas back and see whether the server answers."""
        replicas = int(self.attempt.change["replicas"])
        self.say(f"6/6 scaling {workload_name(self.context)} back to {replicas}")
        ready = False
        try:
            if not self.work.replicas():
                self.work.patch(instructions(self.up)["change"]["patch"])
            ready = self.work.wait_until_ready(replicas)
        except (MigrationError, CallFailed) as failure:
            problem = "; ".join(filter(None, (problem, str(failure))))
        status, causes = self.verify()
        outcome = FIXED if status in WELL and ready else IMPROVED
        self.keeper().mark(self.attempt.id, JUDGED, outcome)
        self.keeper().release()
        return self.told(problem, schema, outcome, status, causes)

    def verify(self) -> tuple[str, list[str]]:
        verdict = diagnose(replace(self.settings, prove_new_pod=False), self.me).report["verdict"]
        return str(verdict["status"]), [str(cause["id"]) for cause in verdict["causes"]]

    def told(self, problem: str, schema: Schema, outcome: str, status: str, causes: list[str]) -> dict[str, Any]:
        text = f"migrated {self.attempt.change['from']} to {schema.current}; the server is {status}"
        if outcome != FIXED:
            why = ", ".join([*causes, *([problem] if problem else [])]) or "not every replica is ready"
            text = f"the schema is at {schema.current}, but the server is {status}: {why}"
            for line in self.way_back():
                self.say(f"  way back: {line}")
        self.say(text)
        return self.answer(
            "migrated", changed=True, failed=outcome != FIXED, msg=text, outcome=outcome, status=status, causes=causes
        )

    def answer(self, state: str, **more: Any) -> dict[str, Any]:
        """Return the action's result."""
        decision: Decision | None = getattr(self, "decision", None)
        usual = {
            "changed": False,
            "failed": False,
            "state": state,
            "current": decision.schema.current if decision else "",
            "target": decision.schema.head if decision else "",
            "replicas": decision.replicas if decision else 0,
            "snapshot": self.snapshot,
            "outcome": "",
            "status": "",
            "causes": [],
            "reasons": [],
        }
        return {**usual, **more}


def context_of(seen: Diagnosis) -> Context:
    """Return the server and what was seen of it just now."""
    target = seen.analysis.discovery.target
    if target is None:
        raise LookupError("no server was found")
    return Context(target, seen.collected.evidence, datetime.now(UTC))
