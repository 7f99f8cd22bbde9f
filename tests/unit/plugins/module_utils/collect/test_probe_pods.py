# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe pods are made, used and always removed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import CallFailed, Observation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect import pod_specs
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.probe_pods import ProbeRunner, to_evidence
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.threads import Notebook
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import State

from .conftest import IMAGE, FakeCluster

WANTED = {"seconds": 5}
MANIFEST = pod_specs.source_pod("argo", None, IMAGE, "mlflow-runbook-1", 90)
ROWS = [
    {"what": "probe.tcp", "subject": "db:5432", "state": "ok", "value": {"result": "ok"}},
    {"what": "probe.tls", "subject": "db:5432", "state": "ok", "value": {"result": "ok", "der": ""}},
    {"what": "probe.login", "subject": "db", "state": "skipped", "detail": "why"},
]


@pytest.fixture
def reader() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def runner(reader: FakeCluster, notebook: Notebook) -> ProbeRunner:
    return ProbeRunner(reader, notebook, 60)  # type: ignore[arg-type]


def test_to_evidence(notebook: Notebook) -> None:
    tcp, tls, login = to_evidence(json.dumps({"rows": ROWS}), "pod", "mlflow-1", notebook)
    assert tcp.value == {"result": "ok", "probe_pod": "mlflow-1"}
    assert tls.value == {"result": "ok", "probe_pod": "mlflow-1"}
    assert (login.state, login.detail, login.value) == (State.SKIPPED, "why", None)


@pytest.mark.parametrize("text", ["", "Traceback", "{}", '{"rows": [{}]}'])
def test_what_is_no_document(notebook: Notebook, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        to_evidence(text, "pod", "mlflow-1", notebook)


def test_a_source_pod(reader: FakeCluster, runner: ProbeRunner) -> None:
    [item] = runner.finish("source:argo", MANIFEST, runner.start(MANIFEST), WANTED)
    assert item.state is State.OK
    assert item.value["labels"] == MANIFEST["metadata"]["labels"]
    assert [verb for verb, dummy in reader.asked] == ["create", "exec", "delete"]
    assert reader.pods == {}


def placed(reader: FakeCluster, refusals: int) -> dict[str, Any]:
    """A pod with a node, whose container cannot be entered for some tries."""
    left = ['container not found ("probe")'] * refusals
    usual = reader.answer
    reader.answer = lambda pod: Observation(State.UNREACHABLE, detail=left.pop()) if left else usual(pod)
    return {**MANIFEST, "spec": {**MANIFEST["spec"], "nodeName": "node-1"}}


def test_a_pod_without_policies_is_entered_before_it_is_said_to_run(reader: FakeCluster, runner: ProbeRunner) -> None:
    manifest = placed(reader, 2)
    reader.started = {}
    [item] = runner.finish("source:argo", manifest, runner.start(manifest), WANTED, early=True)
    assert item.state is State.OK
    assert [verb for verb, dummy in reader.asked] == ["create", "exec", "exec", "exec", "delete"]


def test_where_policies_have_to_reach_it_first_it_is_waited_for(reader: FakeCluster, runner: ProbeRunner) -> None:
    manifest = placed(reader, 0)
    reader.started = {}
    [item] = runner.finish("source:argo", manifest, runner.start(manifest), WANTED)
    assert item.detail.endswith("not started yet after 25 s")
    assert "exec" not in reader.verbs()


@pytest.mark.parametrize(
    ("started", "detail"),
    [
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}, "ErrImagePull"),
        ({}, "not started yet after 25 s"),
    ],
)
def test_a_pod_that_does_not_start(
    reader: FakeCluster, runner: ProbeRunner, started: dict[str, Any], detail: str
) -> None:
    reader.started = started
    [item] = runner.copy(MANIFEST, WANTED)
    assert item.state is State.UNREACHABLE
    assert detail in item.detail
    assert reader.pods == {}


def test_a_pod_that_may_not_be_made(reader: FakeCluster, runner: ProbeRunner) -> None:
    reader.objects["create"] = Observation(State.FORBIDDEN, detail="create pods in namespace argo")
    [item] = runner.copy(MANIFEST, WANTED)
    assert (item.state, item.detail) == (State.FORBIDDEN, "create pods in namespace argo")
    runner.remove_all()
    assert reader.verbs() == {"create"}


def test_a_pod_of_which_nobody_knows_is_removed_as_well(reader: FakeCluster, runner: ProbeRunner) -> None:
    reader.objects["create"] = Observation(State.UNREACHABLE, detail="timed out")
    runner.start(MANIFEST)
    runner.remove_all([("mlflow", "mlflow-runbook-old")])
    assert [name for verb, name in reader.asked if verb == "delete"] == ["mlflow-runbook-1", "mlflow-runbook-old"]


def test_a_watch_that_breaks(reader: FakeCluster, runner: ProbeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Any:
        raise CallFailed(Observation(State.UNREACHABLE, detail="connection was reset"))

    monkeypatch.setattr(reader, "watch_pod", broken)
    [item] = runner.copy(MANIFEST, WANTED)
    assert item.detail == "connection was reset"
    assert reader.pods == {}


@pytest.mark.parametrize(
    ("answer", "state", "detail"),
    [
        (Observation(State.FORBIDDEN, detail="get pods/exec in namespace mlflow"), State.FORBIDDEN, "get pods/exec"),
        (
            Observation(State.OK, {"out": "", "error": "", "problem": "exec: python3: not found"}),
            State.UNREACHABLE,
            "mlflow-1: exec: python3: not found",
        ),
        (
            Observation(State.OK, {"out": "x", "error": "Traceback\n  KeyError", "problem": ""}),
            State.UNREACHABLE,
            "mlflow-1: Traceback KeyError",
        ),
    ],
)
def test_a_container_that_cannot_be_entered(
    reader: FakeCluster, runner: ProbeRunner, answer: Observation, state: State, detail: str
) -> None:
    reader.answer = lambda pod: answer
    [item] = runner.enter("mlflow", "mlflow-1", "mlflow", WANTED)
    assert item.state is state
    assert item.detail.startswith(detail)
