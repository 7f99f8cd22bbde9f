# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a migration does to cluster and cloud, one thing at a time: snapshot, replicas, Job."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.aws import CloudReader
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Deadline, Observation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.kubernetes import ClusterReader
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.objects import PROBE_LABEL
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.migration import (
    SNAPSHOT_READY,
    at_rest,
    job_end,
    recent_snapshot,
    scalers,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.redaction import Redactor
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.workload import workload_name
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.probes.upgrade import RESULT

LONGEST_SECONDS = 2 * 86400.0
PAUSE_SECONDS = 2.0
SPEAK_SECONDS = 20.0
SCALER_SECONDS = 60.0
"""An autoscaler looks every 15 seconds (kube-controller-manager, --horizontal-pod-autoscaler-sync-period)."""

JOB_MARGIN_SECONDS = 120
LOG_LINES = 400
PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets"}

Tell = Callable[[str], None]


class MigrationError(Exception):
    """A part of the migration did not do what it should; the text says what."""


def value_of(seen: Observation, what: str) -> Any:
    """Return what was seen.

    Raises:
        MigrationError: nothing was.
    """
    if not seen.seen:
        needs = "needs " if seen.state is State.FORBIDDEN else ""
        raise MigrationError(f"{what}: {needs}{seen.detail or seen.state.value}")
    return seen.value


class Work:
    """Acts on one server.

    Args:
        settings: the operator's variables.
        context: the server, as it was seen before.
        secrets: values that no log line may show.
        say: shows a line to a person.
    """

    def __init__(self, settings: Settings, context: Context, secrets: frozenset[str], say: Tell) -> None:
        self.settings, self.context, self.target, self.say = settings, context, context.target, say
        self.reader = ClusterReader(settings.kubernetes, Deadline(LONGEST_SECONDS))
        self.cloud = CloudReader(settings.aws, Deadline(LONGEST_SECONDS), context.target.region)
        self.redactor = Redactor([*secrets, *self.reader.secrets(), *self.cloud.secrets()])
        resource = PLURALS[self.target.kind]
        self.resource = resource
        self.path = f"/apis/apps/v1/namespaces/{self.target.namespace}/{resource}/{self.target.deployment}"
        self.jobs = f"/apis/batch/v1/namespaces/{self.target.namespace}/jobs"

    def until(self, seconds: float, look: Callable[[], str]) -> str:
        """Look again and again, and say now and then what is waited for.

        Args:
            seconds: when to give up.
            look: returns what is still missing; empty when nothing is.

        Returns:
            what was missing at the end; empty when nothing was.
        """
        begun = spoken = time.monotonic()
        while True:
            missing = look()
            now = time.monotonic()
            if not missing or now - begun > seconds:
                return missing
            if now - spoken >= SPEAK_SECONDS:
                spoken = now
                self.say(f"  {now - begun:.0f} s: {missing}")
            time.sleep(PAUSE_SECONDS)

    def snapshots(self) -> list[dict[str, Any]]:
        instance = self.target.db_instance_identifier
        seen = self.cloud.call("rds", "describe_db_snapshots", DBInstanceIdentifier=instance)
        found: list[dict[str, Any]] = value_of(seen, f"snapshots of {instance}")["DBSnapshots"]
        return found

    def recent_snapshot(self) -> str:
        """Return the name of a snapshot that is recent enough; empty when there is none."""
        found = recent_snapshot(self.snapshots(), datetime.now(UTC), self.settings.snapshot_minutes)
        return str(found["DBSnapshotIdentifier"]) if found else ""

    def take_snapshot(self, name: str) -> None:
        """Take a snapshot and wait until it can be restored."""
        instance = self.target.db_instance_identifier
        made = self.cloud.call("rds", "create_db_snapshot", DBSnapshotIdentifier=name, DBInstanceIdentifier=instance)
        value_of(made, f"snapshot {name}")

        def look() -> str:
            found = next((item for item in self.snapshots() if item["DBSnapshotIdentifier"] == name), {})
            status = str(found.get("Status"))
            return (
                ""
                if status == SNAPSHOT_READY
                else f"the snapshot {name} is {status} ({found.get('PercentProgress', 0)} %)"
            )

        missing = self.until(self.settings.wait_seconds, look)
        if missing:
            raise MigrationError(f"{missing} after {self.settings.wait_seconds} s")

    def workload(self) -> dict[str, Any]:
        found: dict[str, Any] = value_of(
            self.reader.get(self.path, self.resource, self.target.namespace), workload_name(self.context)
        )
        return found

    def replicas(self) -> int:
        return int(self.workload()["spec"].get("replicas", 1))

    def patch(self, operations: Sequence[Mapping[str, Any]]) -> None:
        """Write the workload, if it still is what the patch tests."""
        seen = self.reader.patch(self.path, self.resource, self.target.namespace, operations)
        value_of(seen, f"{workload_name(self.context)} is not what it was, or may not be written")

    def pods(self) -> list[dict[str, Any]]:
        """Return the server's pods, those that are on their way out among them."""
        name, kind = self.target.deployment, self.target.kind
        seen = self.reader.list(f"/api/v1/namespaces/{self.target.namespace}/pods", "pods", self.target.namespace)
        found = []
        for pod in value_of(seen, "the server's pods")["items"]:
            labels = pod["metadata"].get("labels") or {}
            for owner in pod["metadata"].get("ownerReferences") or []:
                set_name = f"{name}-{labels.get('pod-template-hash')}"
                mine = (kind, name) if kind == "StatefulSet" else ("ReplicaSet", set_name)
                if (owner["kind"], owner["name"]) == mine and PROBE_LABEL not in labels:
                    found.append(pod)
        return found

    def wait_until_gone(self) -> None:
        """Wait until no pod of the server is left, and nobody has scaled it up again."""
        spec = self.workload()["spec"]["template"]["spec"]
        seconds = self.settings.verify_seconds + int(spec.get("terminationGracePeriodSeconds") or 30)

        def look() -> str:
            self.still_at_zero()
            names = [pod["metadata"]["name"] for pod in self.pods()]
            return f"still there: {', '.join(names)}" if names else ""

        missing = self.until(seconds, look)
        if missing:
            raise MigrationError(f"{missing}, after {seconds} s")

    def still_at_zero(self) -> None:
        found = self.workload()
        replicas = found["spec"].get("replicas", 1)
        if replicas:
            managers = [item.get("manager", "") for item in found["metadata"].get("managedFields") or []]
            last = managers[-1] if managers else "somebody"
            raise MigrationError(f"{workload_name(self.context)} was scaled up to {replicas} again (written by {last})")

    def wait_until_suspended(self) -> None:
        """See that every autoscaler of the server rests."""
        for known in scalers(self.context):
            name = str(known["metadata"]["name"])
            missing = self.until(SCALER_SECONDS, partial(self.restless, name))
            if missing:
                raise MigrationError(missing)
            self.say(f"  horizontalpodautoscaler/{name} rests (ScalingDisabled at 0 replicas)")

    def restless(self, name: str) -> str:
        namespace, resource = self.target.namespace, "horizontalpodautoscalers"
        seen = self.reader.get(f"/apis/autoscaling/v2/namespaces/{namespace}/{resource}/{name}", resource, namespace)
        rests = at_rest(value_of(seen, f"horizontalpodautoscaler/{name}"))
        return "" if rests else f"horizontalpodautoscaler/{name} does not say yet that it rests"

    def wait_until_ready(self, replicas: int) -> bool:
        """Tell whether so many replicas got ready in time."""

        def look() -> str:
            ready = int((self.workload().get("status") or {}).get("readyReplicas") or 0)
            return "" if ready >= replicas else f"{ready} of {replicas} replicas are ready"

        return not self.until(self.settings.verify_seconds, look)

    def job(self, name: str) -> dict[str, Any] | None:
        """Return a Job; None when there is none."""
        seen = self.reader.get(f"{self.jobs}/{name}", "jobs", self.target.namespace)
        return None if seen.state is State.ABSENT else value_of(seen, f"job/{name}")

    def try_job(self, manifest: Mapping[str, Any]) -> None:
        """See that the Job would be accepted, before the server is stopped for it.

        Raises:
            MigrationError: we may not make it, or the cluster refuses it.
        """
        seen = self.reader.create(f"{self.jobs}?dryRun=All", "jobs", self.target.namespace, manifest)
        value_of(seen, f"job/{manifest['metadata']['name']}")

    def run_job(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Start the Job, show what it says, and return what it said at its end.

        Raises:
            MigrationError: it failed or did not end in time.
        """
        name = str(manifest["metadata"]["name"])
        value_of(self.reader.create(self.jobs, "jobs", self.target.namespace, manifest), f"job/{name}")
        seconds = int(manifest["spec"]["activeDeadlineSeconds"]) + JOB_MARGIN_SECONDS
        shown: list[str] = []
        end: list[str] = []

        def look() -> str:
            job = self.job(name)
            ended = "it was deleted" if job is None else job_end(job)
            shown.extend(self.new_lines(name, len(shown)))
            if ended is None:
                return f"job/{name} runs"
            end.append(ended)
            return ""

        missing = self.until(seconds, look)
        if missing:
            raise MigrationError(f"{missing} after {seconds} s")
        return self.result_of(name, end[0], shown)

    def result_of(self, name: str, end: str, shown: list[str]) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for line in shown:
            if line.startswith(f"{RESULT} "):
                document = json.loads(line.removeprefix(f"{RESULT} "))
        if end or document.get("result") != "done":
            told = [
                f"pid {row['pid']}, user {row['user']}, {row['application']} from {row['address']}, {row['seconds']} s"
                for row in document.get("sessions") or []
            ]
            reason = document.get("error") or self.why(name) or end or "it said nothing at its end"
            raise MigrationError("; ".join([f"job/{name} failed: {reason}", *told]))
        return document

    def why(self, name: str) -> str:
        """Say what the kubelet says about a container that told nothing itself."""
        for pod in self.job_pods(name):
            for item in pod["status"].get("containerStatuses") or []:
                for state in (item.get("state") or {}).values():
                    return f"{state.get('reason', '')} {state.get('message', '')}".strip()
        return ""

    def job_pods(self, name: str) -> list[dict[str, Any]]:
        seen = self.reader.list(
            f"/api/v1/namespaces/{self.target.namespace}/pods",
            "pods",
            self.target.namespace,
            {"labelSelector": f"job-name={name}"},
        )
        return list(seen.value["items"]) if seen.seen else []

    def new_lines(self, name: str, known: int) -> list[str]:
        """Show the Job's further lines, redacted, and return them."""
        found: list[str] = []
        for pod in self.job_pods(name):
            container = pod["spec"]["containers"][0]["name"]
            seen = self.reader.pod_log(self.target.namespace, pod["metadata"]["name"], container, lines=LOG_LINES)
            lines = str(seen.value or "").splitlines()[known:]
            found = [self.redactor.text(line.partition(" ")[2]) for line in lines]
        for line in found:
            if not line.startswith(RESULT):
                self.say(f"  job: {line[:300]}")
        return found

    def remove_job(self, name: str) -> None:
        """Remove the Job, and wait until its pod is gone and with it its connection."""
        self.reader.delete(f"{self.jobs}/{name}", "jobs", self.target.namespace)

        def look() -> str:
            return f"the pod of job/{name} is still there" if self.job_pods(name) else ""

        missing = self.until(self.settings.verify_seconds, look)
        if missing:
            raise MigrationError(missing)
