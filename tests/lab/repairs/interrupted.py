# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run needs for its write is taken away in the middle: the API server, a right, the Lease."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from tests.lab import clients, kube
from tests.lab.faults import playbooks
from tests.lab.repairs import rights
from tests.lab.repairs.forwarder import way_to_the_api
from tests.lab.repairs.stage import (
    AFTER_WRITE,
    BEFORE_WRITE,
    GUARD,
    HELD,
    JUDGED,
    STEP,
    WITHIN,
    Stage,
    flat,
    foreign_lease,
    require,
)

NEVER_WRITTEN = "nothing of it was written"


def api_gone_before_write(stage: Stage) -> None:
    """The API server is gone between the record and the write: the next run says that nothing was written, repairs."""
    with stage.broken(), way_to_the_api() as (way, kubeconfig):
        digest, begin = stage.plan(), datetime.now(UTC)
        code, output = stage.meanwhile(BEFORE_WRITE, digest, way.cut, kubeconfig=kubeconfig)
        require(code != 0 and "the next run judges it" in flat(output), f"it ended with {code}: {output[-1500:]}")
        require(not stage.written(begin), f"written: {stage.written(begin)}")
        require(stage.attempts() == [(STEP, "begun", "")], f"the record is {stage.attempts()}")
        finishes(stage, digest, begin)


def api_gone_after_write(stage: Stage) -> None:
    """The API server is gone right behind the write: the next run says that it was written, and writes nothing."""
    with stage.broken(), way_to_the_api() as (way, kubeconfig):
        digest, begin = stage.plan(), datetime.now(UTC)
        code, output = stage.meanwhile(AFTER_WRITE, digest, way.cut, kubeconfig=kubeconfig)
        require(code != 0 and "the next run judges it" in flat(output), f"it ended with {code}: {output[-1500:]}")
        require(not stage.is_broken(), "the Service was not written")
        require(stage.attempts() == [(STEP, "begun", "")], f"the record is {stage.attempts()}")
        clients.wait(stage.server.name, ok=True, timeout=WITHIN, since=datetime.now(UTC))
        report, done = stage.remediate(digest)
        require(
            done.code == 0 and "it was written, and the server is repaired" in flat(done.output), done.output[-1500:]
        )
        require(report["resumed"][0]["outcome"] == "fixed", f"the report says {report['resumed']}")
        require(stage.attempts() == [(STEP, JUDGED, "fixed")], f"the record is {stage.attempts()}")
        require(len(stage.written(begin)) == 1, f"written: {stage.written(begin)}")


def right_lost_before_guard(stage: Stage) -> None:
    """Every right to write is gone between plan and guards: the refusal names it, and nothing at all is written."""
    with stage.broken(), given_back(stage):
        digest, begin = stage.plan(), datetime.now(UTC)
        code, output = stage.meanwhile(GUARD, digest, lambda: rights.take(stage.server.namespace))
        require(code != 0 and "leases" in flat(output), f"it ended with {code}: {output[-1500:]}")
        written = stage.written(begin, bookkeeping=False, accepted=True)
        require(not written and stage.is_broken() and not stage.attempts(), f"written: {written}, {stage.attempts()}")
        rights.give_back(stage.server.namespace)
        _report, done = stage.remediate(digest)
        require(stage.attempts() == [(STEP, JUDGED, "fixed")], f"then: {stage.attempts()}: {done.output[-800:]}")


def right_lost_before_write(stage: Stage) -> None:
    """The one right to write is gone behind the guards: not carried out, and text and page say so and why."""
    with stage.broken(), given_back(stage):
        digest, begin = stage.plan(), datetime.now(UTC)
        code, output = stage.meanwhile(
            BEFORE_WRITE,
            digest,
            lambda: rights.take(stage.server.namespace, keep=lambda rule: "services" not in rule["resources"]),
        )
        told_as_refused(stage, code, output, begin)
        require(stage.attempts() == [(STEP, JUDGED, "abandoned")], f"the record is {stage.attempts()}")
        rights.give_back(stage.server.namespace)
        _report, done = stage.remediate(digest)
        records = [(STEP, JUDGED, "abandoned"), (STEP, JUDGED, "fixed")]
        require(stage.attempts() == records, f"then: {stage.attempts()}: {done.output[-800:]}")


def all_rights_lost_before_write(stage: Stage) -> None:
    """Not even the record can be kept any more: the report says what happened, the next run records it and repairs."""
    with stage.broken(), given_back(stage):
        digest, begin = stage.plan(), datetime.now(UTC)
        code, output = stage.meanwhile(BEFORE_WRITE, digest, lambda: rights.take(stage.server.namespace))
        told_as_refused(stage, code, output, begin)
        require("could not be recorded" in flat(output), f"it said: {output[-1500:]}")
        require(stage.attempts() == [(STEP, "begun", "")], f"the record is {stage.attempts()}")
        rights.give_back(stage.server.namespace)
        finishes(stage, digest, begin)


def lease_deleted_before_write(stage: Stage) -> None:
    """Somebody deletes the Lease behind the guards: the run does not write."""
    with stage.broken():
        lost(stage, lambda: forget_lease(stage), "is gone")
        require(stage.attempts() == [(STEP, JUDGED, "abandoned")], f"the record is {stage.attempts()}")


def lease_taken_before_write(stage: Stage) -> None:
    """Another run has the Lease behind the guards: the run does not write, and touches neither Lease nor record."""
    with stage.broken():
        digest, begin = lost(stage, lambda: kube.apply([foreign_lease(stage)]), "was taken by another-machine:1:1")
        require(stage.attempts() == [(STEP, "begun", "")], f"the record is {stage.attempts()}")
        holder = kube.get("coordination.k8s.io/v1", "Lease", stage.record, stage.server.namespace) or {}
        require("another-machine" in holder["spec"]["holderIdentity"], f"the Lease is {holder['spec']}")
        forget_lease(stage)
        finishes(stage, digest, begin)


def lost(stage: Stage, lose: Callable[[], None], words: str) -> tuple[str, datetime]:
    """Let a run lose its Lease right before the write; return the plan's digest and when it began."""
    digest, begin = stage.plan(), datetime.now(UTC)
    code, output = stage.meanwhile(HELD, digest, lose)
    require(code != 0 and words in flat(output), f"it ended with {code}: {output[-1500:]}")
    require(not stage.written(begin) and stage.is_broken(), f"written: {stage.written(begin)}")
    told_as_not_carried_out(stage)
    return digest, begin


def forget_lease(stage: Stage) -> None:
    kube.delete("coordination.k8s.io/v1", "Lease", stage.record, stage.server.namespace)


def finishes(stage: Stage, digest: str, begin: datetime) -> None:
    """Require that the next run says what it found, records it, and repairs with the same approval and one write."""
    report, done = stage.remediate(digest)
    require(NEVER_WRITTEN in flat(done.output), f"the next run did not say what it found: {done.output[-1500:]}")
    require(report["resumed"][0]["outcome"] == "abandoned", f"the report says {report['resumed']}")
    require(done.code == 0 and report["outcome"] == "fixed", f"it ended as {report['outcome']}: {done.output[-800:]}")
    records = [(STEP, JUDGED, "abandoned"), (STEP, JUDGED, "fixed")]
    require(stage.attempts() == records, f"the record is {stage.attempts()}")
    written = stage.written(begin, accepted=True)
    require(len(written) == 1, f"written: {written}")


def told_as_refused(stage: Stage, code: int, output: str, begin: datetime) -> None:
    """Require that a write which the API server refused failed clearly, changed nothing, and is told as that."""
    require(code != 0 and "403" in output, f"it ended with {code}: {output[-1500:]}")
    written = stage.written(begin, accepted=True)
    require(not written and stage.is_broken(), f"written: {written}")
    require("cannot patch resource" in told_as_not_carried_out(stage), "the missing right is not told")


def told_as_not_carried_out(stage: Stage) -> str:
    """Require that text and page say that the step was not carried out; return why."""
    report = playbooks.newest(stage.reports)
    why = str(report["interrupted"]["why"])
    for suffix in ("txt", "html"):
        text = stage.latest(suffix)
        require(f"{STEP} was not carried out" in flat(text), f"the {suffix} does not say that it was not carried out")
        require("never judged" not in text or "could not be recorded" in flat(text), f"the {suffix} says: never judged")
    return why


@contextmanager
def given_back(stage: Stage) -> Iterator[None]:
    """Give the operator its rights back whatever happens."""
    try:
        yield
    finally:
        rights.give_back(stage.server.namespace)
