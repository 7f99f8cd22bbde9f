# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is noted down before a change, and how it is taken back, against a cluster in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lab import kube, servers, settings
from tests.lab.faults import actions, injection, model, templates

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "mlflow", "namespace": "sample", "uid": "1", "resourceVersion": "5"},
    "spec": {"selector": {"app": "mlflow"}},
    "status": {},
}


class Cluster:
    """Objects by kind and name, with the functions of ``kube`` that the actions use."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {("Service", "mlflow"): SERVICE}

    def get(self, _version: str, kind: str, name: str, _namespace: str | None = None) -> dict[str, Any] | None:
        found = self.objects.get((kind, name))
        return None if found is None else {**found, "metadata": dict(found["metadata"])}

    def apply(self, objects: list[dict[str, Any]]) -> None:
        for item in objects:
            self.objects[item["kind"], item["metadata"]["name"]] = item

    def replace(self, item: dict[str, Any]) -> None:
        self.apply([item])

    def patch(self, _version: str, kind: str, name: str, patch: dict[str, Any], **_options: Any) -> None:
        self.objects[kind, name] = {**self.objects[kind, name], **patch}

    def delete(self, _version: str, kind: str, name: str, *_others: Any, **_options: Any) -> None:
        self.objects.pop((kind, name), None)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cluster:
    made = Cluster()
    for name in ("get", "apply", "replace", "patch", "delete"):
        monkeypatch.setattr(kube, name, getattr(made, name))
    monkeypatch.setattr(settings, "state_dir", lambda: tmp_path)
    return made


@pytest.fixture
def fault(cluster: Cluster) -> injection.Injection:
    facts = templates.sample()["server"]
    fields = {name: facts[name] for name in servers.Server.model_fields}
    return injection.Injection("a_fault", Path("/faults"), servers.Server(**fields))


def perform(fault: injection.Injection, **action: Any) -> None:
    actions.perform(model.Action.model_validate(action), fault)


def test_a_patched_object_is_put_back(cluster: Cluster, fault: injection.Injection) -> None:
    change = {"spec": {"selector": {"app": "{{ server.name }}"}}}
    perform(fault, patch={"apiVersion": "v1", "kind": "Service", "name": "mlflow", "patch": change})
    assert cluster.objects["Service", "mlflow"]["spec"] == {"selector": {"app": "sample"}}
    actions.undo_all(fault)
    restored = cluster.objects["Service", "mlflow"]
    assert restored["spec"] == SERVICE["spec"]
    assert restored["metadata"] == {"name": "mlflow", "namespace": "sample"}


def test_a_new_object_is_deleted_and_a_deleted_one_made_again(cluster: Cluster, fault: injection.Injection) -> None:
    perform(fault, apply={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}})
    assert cluster.objects["ConfigMap", "new"]["metadata"]["namespace"] == "sample"
    perform(fault, delete={"apiVersion": "v1", "kind": "Service", "name": "mlflow"})
    assert ("Service", "mlflow") not in cluster.objects
    actions.undo_all(fault)
    assert list(cluster.objects) == [("Service", "mlflow")]


def test_what_a_controller_makes_anew_is_not_noted(cluster: Cluster, fault: injection.Injection) -> None:
    owned = {"name": "mlflow-1", "uid": "2", "ownerReferences": [{"controller": True}]}
    cluster.objects["Pod", "mlflow-1"] = {"apiVersion": "v1", "kind": "Pod", "metadata": owned}
    perform(fault, delete={"apiVersion": "v1", "kind": "Pod", "name": "mlflow-1"})
    assert fault.undo == []


def test_another_process_can_take_the_fault_back(
    cluster: Cluster, fault: injection.Injection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "get", lambda _name: fault.server)
    perform(fault, apply={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}}, register="made")
    assert injection.current() == {"sample": "a_fault"}
    resumed = injection.resume("sample")
    assert resumed.registered["made"]["kind"] == "ConfigMap"
    actions.undo_all(resumed)
    resumed.forget()
    assert ("ConfigMap", "new") not in cluster.objects
    assert injection.current() == {}
