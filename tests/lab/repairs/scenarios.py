# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong around a repair: each scenario leaves the server as it found it, or raises LabError."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.lab import clients, kube
from tests.lab.faults import playbooks
from tests.lab.repairs import again, interrupted, killed, new_pods
from tests.lab.repairs.stage import (
    AFTER_WRITE,
    BEFORE_WRITE,
    GUARD,
    STEP,
    WITHIN,
    WRITE_UNDO,
    WRONG,
    Stage,
    clear,
    foreign_lease,
    refused,
    require,
)


def killed_before_write(stage: Stage) -> None:
    """SIGKILL between the record and the write: nothing is written, the next run says so, and may then repair."""
    with stage.broken():
        digest, begin = stage.plan(), datetime.now(UTC)
        stage.kill(BEFORE_WRITE, digest)
        require(stage.attempts() == [(STEP, "begun", "")], f"the record is {stage.attempts()}")
        require(not stage.written(begin), f"written: {stage.written(begin)}")
        done = stage.other("verify")
        require(done.code != 0, "verify did not say that the server is still broken")
        require(stage.attempts() == [(STEP, "judged", "abandoned")], f"the record is {stage.attempts()}")
        stage.repaired()
        require(len(stage.written(begin)) == 1, f"written: {stage.written(begin)}")


def killed_after_write(stage: Stage) -> None:
    """SIGKILL right behind the write: the next run judges it as fixed and writes nothing again."""
    with stage.broken():
        digest, begin = stage.plan(), datetime.now(UTC)
        stage.kill(AFTER_WRITE, digest)
        require(not stage.is_broken(), "the Service was not written")
        clients.wait(stage.server.name, ok=True, timeout=WITHIN, since=datetime.now(UTC))
        _report, done = stage.remediate(digest)
        require(stage.attempts() == [(STEP, "judged", "fixed")], f"the record is {stage.attempts()}: {done.output}")
        require(len(stage.written(begin)) == 1, f"written: {stage.written(begin)}")


def two_at_once(stage: Stage) -> None:
    """Of two runs on one server exactly one acts; the other one names it."""
    with stage.broken():
        digest, begin = stage.plan(), datetime.now(UTC)
        with stage.remediating([BEFORE_WRITE], digest) as first:
            first.reached()
            report, second = stage.remediate(digest)
            guards = {item["guard"] for step in report["plan"]["steps"] for item in step["refused"]}
            require(second.code != 0 and "one_run" in guards, f"the second run was refused for {guards}")
            require(not stage.written(begin), f"written: {stage.written(begin)}")
            first.go()
            code, output = first.finish()
        require(code == 0, f"the first run ended with {code}: {output[-800:]}")
        require(stage.attempts() == [(STEP, "judged", "fixed")], f"the record is {stage.attempts()}")
        require(len(stage.written(begin)) == 1, f"written: {stage.written(begin)}")


def changed_before_write(stage: Stage) -> None:
    """A person changes the object between plan and write: the API server refuses the patch as a whole."""
    with stage.broken():
        digest = stage.plan()
        code, output = stage.meanwhile(
            BEFORE_WRITE, digest, lambda: stage.patch_service({"metadata": {"labels": {"edited": "yes"}}}, person=True)
        )
        stage.patch_service({"metadata": {"labels": {"edited": None}}})
        require(code != 0 and stage.is_broken(), f"it was written over: {output[-800:]}")
        require(stage.attempts() == [(STEP, "judged", "abandoned")], f"the record is {stage.attempts()}")


def healed_before_write(stage: Stage) -> None:
    """The fault is gone between plan and write: nothing is written, not even a Lease."""

    def heal() -> None:
        stage.select()
        clients.wait(stage.server.name, ok=True, timeout=WITHIN, since=datetime.now(UTC))

    with stage.broken():
        digest, begin = stage.plan(), datetime.now(UTC)
        stage.meanwhile(GUARD, digest, heal)
        require(not stage.written(begin, bookkeeping=False), f"written: {stage.written(begin, bookkeeping=False)}")


def again_and_undone(stage: Stage) -> None:
    """A second run behind a repair writes nothing; undo takes the repair back; then a person has to look."""
    with stage.broken():
        stage.repaired()
        begin = datetime.now(UTC)
        report, done = stage.remediate()
        require(done.code == 0 and not report["verdict"]["causes"], f"the second run ended with {done.code}")
        require(not stage.written(begin, bookkeeping=False), f"written: {stage.written(begin, bookkeeping=False)}")
        done = stage.other("undo")
        require(done.code == 0 and stage.is_broken(), f"undo ended with {done.code}: {done.output[-800:]}")
        require(stage.attempts() == [(STEP, "judged", "undone")], f"the record is {stage.attempts()}")
        refused(stage, {"attempts"}, stage.plan())


def undo_of_foreign_fields(stage: Stage) -> None:
    """What a person changed after the repair is not taken back."""
    with stage.broken():
        stage.repaired()
        stage.select("by-hand", person=True)
        begin = datetime.now(UTC)
        done = stage.other("undo")
        require("changed since by somebody else" in done.output, f"undo said: {done.output[-800:]}")
        require(not stage.written(begin, bookkeeping=False), f"written: {stage.written(begin, bookkeeping=False)}")


def made_worse(stage: Stage) -> None:
    """What worked before the repair does not work behind it: the repair is taken back, and that is verified."""
    image = {"name": stage.server.container, "image": f"{stage.server.image}-next"}
    template = {"spec": {"template": {"spec": {"containers": [image]}}}}
    stage.patch_deployment(template)
    try:
        kube.wait_until(lambda: image_missing(stage), "a pod whose image does not exist", WITHIN)
        digest = stage.plan("roll_back")
        with stage.remediating([AFTER_WRITE, WRITE_UNDO], digest, "roll_back") as run:
            run.reached(0)
            stage.select(WRONG)
            run.go(0)
            run.reached(1)
            stage.select()
            run.go(1)
            code, output = run.finish()
        report = playbooks.newest(stage.reports)
        outcome = (report.get("outcome"), report.get("undone"))
        require(code != 0 and outcome == ("worse", True), f"it ended as {outcome}: {output[-800:]}")
        found = kube.get("apps/v1", "Deployment", stage.server.deployment, stage.server.namespace) or {}
        require(image["image"] in str(found), "the repair was not taken back")
    finally:
        stage.select()
        image["image"] = stage.server.image
        stage.patch_deployment(template)
        clear(stage)


def image_missing(stage: Stage) -> bool:
    """Whether a pod of the server waits for an image that does not exist."""
    pods = kube.list_objects("v1", "Pod", stage.server.namespace, stage.server.selector)
    return any(text in str(pods) for text in ("ErrImagePull", "ImagePullBackOff"))


def digests(stage: Stage) -> None:
    """No digest, an edited one and that of an older plan are refused; in check mode the right one shows the change."""
    with stage.broken():
        old = stage.plan()
        refused(stage, {"approval"}, "")
        refused(stage, {"allowed"}, old, step="restart")
        stage.patch_service({"metadata": {"labels": {"release": "two"}}})
        refused(stage, {"approval"}, old)
        digest, begin = stage.plan(), datetime.now(UTC)
        refused(stage, {"approval"}, digest[:-1] + ("0" if digest[-1] != "0" else "1"))
        _report, done = stage.remediate(digest, STEP, "--check", "--diff")
        require("/spec/selector" in done.output, f"check mode showed no change: {done.output[-800:]}")
        require(not stage.written(begin, bookkeeping=False), f"written: {stage.written(begin, bookkeeping=False)}")
        require(stage.is_broken(), "check mode repaired it")
        stage.patch_service({"metadata": {"labels": {"release": None}}})


def owners(stage: Stage) -> None:
    """What has an owner, is paused, was edited a minute ago or is being worked on is left alone."""
    helm, pause = {"app.kubernetes.io/managed-by": "Helm"}, {"mlflow-runbook.mlops/pause": "a migration runs"}
    argo = {"argocd.argoproj.io/tracking-id": "mlflow:/Service:x/y"}
    attempts: list[tuple[str, dict[str, Any], bool]] = [
        ("ownership", {"labels": helm}, False),
        ("ownership", {"annotations": argo}, False),
        ("paused", {"annotations": pause}, False),
        ("recently_touched", {"labels": {"edited": "yes"}}, True),
    ]
    with stage.broken():
        for guard, metadata, person in attempts:
            stage.patch_service({"metadata": metadata}, person=person)
            done = refused(stage, {guard}, stage.plan())
            require(guard != "paused" or "a migration runs" in done.output, "the reason of the pause is not told")
            gone = {part: dict.fromkeys(values) for part, values in metadata.items()}
            stage.patch_service({"metadata": gone})
        kube.apply([foreign_lease(stage)])
        refused(stage, {"one_run"}, stage.plan())


SCENARIOS: dict[str, Callable[[Stage], None]] = {
    scenario.__name__: scenario
    for scenario in (
        killed_before_write,
        killed_after_write,
        two_at_once,
        changed_before_write,
        healed_before_write,
        again_and_undone,
        undo_of_foreign_fields,
        digests,
        owners,
        made_worse,
        interrupted.api_gone_before_write,
        interrupted.api_gone_after_write,
        interrupted.right_lost_before_guard,
        interrupted.right_lost_before_write,
        interrupted.all_rights_lost_before_write,
        interrupted.lease_deleted_before_write,
        interrupted.lease_taken_before_write,
        new_pods.rotated_password,
        new_pods.rotated_to_a_wrong_password,
        new_pods.newer_schema,
        new_pods.stopped_database,
        new_pods.moved_tag,
        new_pods.rollout_never_ready,
        killed.killed_around_a_restart,
        killed.killed_around_the_end_of_a_session,
        killed.killed_around_a_clearing,
        killed.killed_around_a_start,
        killed.killed_around_a_rule,
        killed.killed_around_a_deletion,
        again.comes_back,
        again.undo_of_a_start,
        again.shared_database,
    )
}
"""Every scenario by its name."""
