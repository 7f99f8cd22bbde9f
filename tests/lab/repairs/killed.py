# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL around each kind of write: nothing is half done, and the next run says what it found and finishes."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.lab import clients
from tests.lab.repairs.broken import faulty
from tests.lab.repairs.stage import (
    AFTER_WRITE,
    BEFORE_WRITE,
    DELETION,
    IN_POD,
    INSTANCE,
    JUDGED,
    RULE,
    WITHIN,
    WRITTEN,
    Stage,
    require,
)


def killed_around_a_restart(stage: Stage) -> None:
    """The write is a patch of the Deployment, after which pods are replaced."""
    around(stage, "database_credentials_stale", "restart_stale_pods", BEFORE_WRITE, AFTER_WRITE)


def killed_around_the_end_of_a_session(stage: Stage) -> None:
    """The write is a statement that the server's pod sends to the database."""
    around(stage, "database_session_abandoned", "end_idle_session", IN_POD, AFTER_WRITE, writes=0)


def killed_around_a_clearing(stage: Stage) -> None:
    """The write is the removal of files in the server's pod."""
    around(stage, "temporary_folder_full", "clear_artifact_cache", IN_POD, WRITTEN, writes=0)


def killed_around_a_start(stage: Stage) -> None:
    """The write is a call of RDS."""
    around(stage, "database_stopped_by_schedule", "start_database", INSTANCE, AFTER_WRITE)


def killed_around_a_rule(stage: Stage) -> None:
    """The write is a call of EC2."""
    around(stage, "security_group_rule_removed", "restore_security_group_rule", RULE, WRITTEN)


def killed_around_a_deletion(stage: Stage) -> None:
    """The write is the deletion of pods that have ended."""
    around(stage, "pods_evicted", "delete_failed_pods", DELETION, AFTER_WRITE, writes=2)


def around(stage: Stage, fault: str, step: str, write: str, after: str, *, writes: int = 1) -> None:
    """Kill a run right before its write, the next one behind it, and let a third one judge what was done.

    Args:
        write: the task that writes.
        after: the task behind it at which the second run is killed.
        writes: how many calls to the API server or AWS the whole repair is; none where it acts in a pod.
    """
    with faulty(stage, fault) as broken:
        begin, digest = datetime.now(UTC), broken.plan(step)
        broken.kill(write, digest, step)
        require(not broken.written(begin), f"written: {broken.written(begin)}")
        require(broken.attempts() == [(step, "begun", "")], f"the record is {broken.attempts()}")
        done = broken.other("verify")
        require(broken.attempts() == [(step, JUDGED, "abandoned")], f"then: {broken.attempts()}: {done.output[-800:]}")
        broken.kill(after, digest, step)
        written = broken.written(begin)
        clients.wait(broken.server.name, ok=True, timeout=WITHIN, since=datetime.now(UTC))
        _report, done = broken.remediate(digest, step)
        records = [(step, JUDGED, "abandoned"), (step, JUDGED, "fixed")]
        require(broken.attempts() == records, f"then: {broken.attempts()}: {done.output[-1500:]}")
        require(broken.written(begin) == written, f"written again: {broken.written(begin)}")
        require(len(written) == writes, f"written: {written}")
