# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New pods that would not live are not started; those that a copy has proven are; and a rollout may still get stuck."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.lab import clients, kube, node, processes, settings
from tests.lab.faults import phases, playbooks
from tests.lab.repairs import runs
from tests.lab.repairs.broken import faulty
from tests.lab.repairs.stage import BEFORE_WRITE, JUDGED, WITHIN, Stage, flat, require

PATCH = ("patch", "deployments")
QUOTA = "no-more-pods"
PATIENCE = 40
REPOSITORY = settings.SERVER_IMAGE.rpartition(":")[0]


def rotated_password(stage: Stage) -> None:
    """The password was rotated: a copy of the pod logs in with the new one first, only then the pods are restarted."""
    with faulty(stage, "database_credentials_stale"):
        begin = datetime.now(UTC)
        report, done = stage.remediate("", "restart_stale_pods")
        require(report["outcome"] == "fixed", f"it ended as {report['outcome']}: {done.output[-1500:]}")
        calls = stage.calls(begin)
        require(calls.count(PATCH) == 1, f"written: {calls}")
        require(("create", "pods") in calls[: calls.index(PATCH)], f"no copy was made before the restart: {calls}")
        written = [one for one in stage.written(begin) if not one.startswith("patch deployments")]
        require(not written, f"written besides: {written}")


def rotated_to_a_wrong_password(stage: Stage) -> None:
    """The Secret has a password that the database does not know: the old pods live, new ones would not; no restart."""
    with faulty(stage, "database_secret_wrong_pods_alive"):
        not_restarted(stage, {"new_pod"}, "could not log in")


def newer_schema(stage: Stage) -> None:
    """The schema is newer than the image: no restart."""
    with faulty(stage, "database_schema_newer"):
        not_restarted(stage, {"new_pod"}, "the schema is at")


def stopped_database(stage: Stage) -> None:
    """The database is stopped: no restart, whoever asks for it."""
    with faulty(stage, "database_stopped"):
        not_restarted(stage, {"circuit_breaker", "new_pod"}, "nothing done to this one helps")


def moved_tag(stage: Stage) -> None:
    """The tag of the image leads to another image now: a restart would be an upgrade, so there is none."""
    image = f"{REPOSITORY}:moving"
    before = stage.server.image
    tag(settings.SERVER_IMAGE, image)
    try:
        use(stage, image)
        playbooks.diagnose(stage.server, stage.reports)
        tag(settings.OLDER_SERVER_IMAGE, image)
        not_restarted(stage, {"new_pod"}, "its tag was moved")
    finally:
        use(stage, before)
        untag(image)
        phases.forget_repairs(stage.server)


def rollout_never_ready(stage: Stage) -> None:
    """The new pods never come: that is not called fixed, and the next run leaves the rollout to a person."""
    variables = {"mlflow_verify_seconds": PATIENCE}
    with runs.stopping([BEFORE_WRITE], "restart", stage.server, stage.reports, variables) as run:
        run.reached()
        try:
            no_more_pods(stage)
            run.go()
            code, output = run.finish()
            report = playbooks.newest(stage.reports)
            told = (code != 0, report["outcome"])
            # The server was well before, and is at risk now: the quota is told as its cause.
            require(told == (True, "worse"), f"it ended as {told}: {output[-1500:]}")
            require("pods.quota_exceeded" in str(report["verdict"]["causes"]), f"told: {report['verdict']['causes']}")
            require(stage.attempts() == [("restart", JUDGED, report["outcome"])], f"the record is {stage.attempts()}")
            not_restarted(stage, {"attempts", "rollout"}, "a rollout is under way")
            clients.wait(stage.server.name, ok=True, timeout=WITHIN, since=datetime.now(UTC))
        finally:
            kube.delete("v1", "ResourceQuota", QUOTA, stage.server.namespace)
            kube.wait_ready("Deployment", stage.server.deployment, stage.server.namespace, WITHIN)
            phases.forget_repairs(stage.server)


def not_restarted(stage: Stage, guards: set[str], words: str) -> None:
    """Require that ``restart`` is refused for these reasons among others, and that nothing at all was written."""
    begin = datetime.now(UTC)
    done = stage.other("restart")
    told = {item["guard"] for item in playbooks.newest(stage.reports)["refused"]}
    require(guards <= told, f"it was refused for {told or 'nothing'}, not for {guards}: {done.output[-1500:]}")
    require(done.code != 0 and words in flat(done.output), f"it ended with {done.code}: {done.output[-1500:]}")
    written = stage.written(begin, bookkeeping=False)
    require(not written, f"written: {written}")


def no_more_pods(stage: Stage) -> None:
    """Let the namespace admit no pod beyond those that are there."""
    pods = [pod for pod in kube.list_objects("v1", "Pod", stage.server.namespace) if is_live(pod)]
    namespace = stage.server.namespace
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": QUOTA, "namespace": namespace},
        "spec": {"hard": {"pods": str(len(pods))}},
    }
    kube.apply([quota])
    kube.wait_until(lambda: is_counted(namespace), "the quota to be counted", WITHIN)


def is_live(pod: kube.Object) -> bool:
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


def is_counted(namespace: str) -> bool:
    quota = kube.get("v1", "ResourceQuota", QUOTA, namespace) or {}
    return "pods" in (quota.get("status") or {}).get("used", {})


def use(stage: Stage, image: str) -> None:
    """Let the server run an image, and wait for it."""
    container = {"name": stage.server.container, "image": image}
    stage.patch_deployment({"spec": {"template": {"spec": {"containers": [container]}}}})
    kube.wait_ready("Deployment", stage.server.deployment, stage.server.namespace, WITHIN)
    clients.wait(stage.server.name, ok=True, timeout=WITHIN, since=datetime.now(UTC))


def tag(image: str, name: str) -> None:
    """Let the name of an image lead to another one on the node, as a tag that was pushed again does."""
    images("tag", "--force", image, name)


def untag(name: str) -> None:
    images("rm", name)


def images(*words: str) -> None:
    processes.run(["ctr", "-a", str(node.containerd_socket()), "-n", "k8s.io", "images", *words], timeout=60)
