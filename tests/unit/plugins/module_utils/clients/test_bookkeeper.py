# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper of Lease and history over a fake API: every write carries the version it was made from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.bookkeeper import (
    Bookkeeper,
    BookkeepingFailed,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Observation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core import attempts
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.attempts import Attempt
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import State

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ONE = Attempt("a", "restart", "x.y", "o", "deployment/mlflow", "d", "2026-01-01T12:00:00Z", "me")


class FakeApi:
    """Leases and ConfigMaps with resource versions, as an API server keeps them."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.denied: set[str] = set()
        self.writes: list[str] = []
        self.between: Any = None

    def get(self, path: str, resource: str, namespace: str = "") -> Observation:
        if path not in self.objects:
            return Observation(State.ABSENT, detail="not found")
        return Observation(State.OK, copy.deepcopy(self.objects[path]))

    def list(self, path: str, resource: str, namespace: str, query: Mapping[str, Any]) -> Observation:
        wanted = dict(part.split("=") for part in query["labelSelector"].split(","))
        found = [
            copy.deepcopy(item)
            for item in self.objects.values()
            if item["kind"] == "Lease" and wanted.items() <= (item["metadata"].get("labels") or {}).items()
        ]
        return Observation(State.OK, {"items": found})

    def create(self, path: str, resource: str, namespace: str, body: Mapping[str, Any]) -> Observation:
        return self._write(f"{path}/{body['metadata']['name']}", resource, body, "")

    def update(self, path: str, resource: str, namespace: str, body: Mapping[str, Any]) -> Observation:
        return self._write(path, resource, body, str(body["metadata"].get("resourceVersion")))

    def _write(self, path: str, resource: str, body: Mapping[str, Any], version: str) -> Observation:
        if self.between:
            self.between, happens = None, self.between
            happens()
        if resource in self.denied:
            return Observation(State.FORBIDDEN, detail=f"update {resource}")
        current = (self.objects.get(path) or {"metadata": {"resourceVersion": ""}})["metadata"]["resourceVersion"]
        if version != current:
            return Observation(State.UNREACHABLE, detail="409 Conflict")
        new = copy.deepcopy(dict(body))
        new["metadata"]["resourceVersion"] = str(int(current or 0) + 1)
        self.objects[path] = new
        self.writes.append(path)
        return Observation(State.OK, new)


def keeper(api: FakeApi, me: str = "me", namespace: str = "ml", ended: tuple[str, ...] = ()) -> Bookkeeper:
    return Bookkeeper(api, namespace, "mlflow", me, frozenset(ended), lambda: NOW)  # type: ignore[arg-type]


def test_two_runs_on_one_server_over_a_fake_api() -> None:
    api = FakeApi()
    assert keeper(api).take(60, "") == ""
    assert "me works on it until" in keeper(api, "other").take(60, "")
    assert "me works on it until" in keeper(api, "other", ended=("me",)).take(60, "")
    later = Bookkeeper(api, "ml", "mlflow", "other", frozenset({"me"}), lambda: NOW + attempts.GRACE)  # type: ignore[arg-type]
    assert later.take(60, "") == ""
    assert keeper(api).lost()
    assert keeper(api, "other").lost() == ""


def test_a_lease_that_has_run_out_over_a_fake_api() -> None:
    api = FakeApi()
    keeper(api).take(60, "")
    late = Bookkeeper(api, "ml", "mlflow", "other", frozenset(), lambda: NOW + timedelta(seconds=61))  # type: ignore[arg-type]
    assert late.take(60, "") == ""


def test_a_race_for_the_lease_has_one_winner_over_a_fake_api() -> None:
    api = FakeApi()
    api.between = lambda: keeper(api, "other").take(60, "")
    assert "409 Conflict" in keeper(api).take(60, "")
    assert keeper(api, "other").lost() == ""


def test_a_lease_that_was_lost_is_noticed_over_a_fake_api() -> None:
    api = FakeApi()
    assert keeper(api).lost() == "lease/mlflow-runbook-mlflow is gone"
    keeper(api).take(60, "")
    late = Bookkeeper(api, "ml", "mlflow", "me", frozenset(), lambda: NOW + timedelta(seconds=60))  # type: ignore[arg-type]
    assert "ran out at 2026-01-01T12:01:00Z" in late.lost()
    Bookkeeper(api, "ml", "mlflow", "other", frozenset({"me"}), lambda: NOW + attempts.GRACE).take(60, "")  # type: ignore[arg-type]
    assert keeper(api).lost() == "lease/mlflow-runbook-mlflow was taken by other"
    api.get = lambda *dummy: Observation(State.UNREACHABLE, detail="timed out")  # type: ignore[method-assign]
    assert keeper(api).lost() == "whether lease/mlflow-runbook-mlflow still is ours cannot be seen: timed out"


def test_two_servers_with_one_dependency_over_a_fake_api() -> None:
    api = FakeApi()
    assert keeper(api, "first", "a").take(60, "db-1") == ""
    assert keeper(api, "second", "b").take(60, "db-1").startswith("db-1: first works on it")
    assert keeper(api, "second", "b").lost()
    assert keeper(api, "second", "b").take(60, "db-2") == ""


def test_only_the_holder_gives_a_lease_back_over_a_fake_api() -> None:
    api = FakeApi()
    keeper(api).take(60, "db-1")
    keeper(api, "other").release()
    assert keeper(api).lost() == ""
    keeper(api).release()
    assert keeper(api).lost()
    assert keeper(api, "other").take(60, "db-1") == ""


def history(api: FakeApi) -> tuple[Attempt, ...]:
    stored = api.objects["/api/v1/namespaces/ml/configmaps/mlflow-runbook-mlflow"]
    return attempts.read(stored["data"][attempts.HISTORY_KEY])


def test_an_attempt_is_recorded_and_counted_before_the_write_over_a_fake_api() -> None:
    api = FakeApi()
    kept = keeper(api)
    kept.take(60, "")
    kept.begin(ONE)
    assert [item.state for item in history(api)] == ["begun"]
    lease = api.objects["/apis/coordination.k8s.io/v1/namespaces/ml/leases/mlflow-runbook-mlflow"]
    assert lease["metadata"]["annotations"][attempts.WRITES_ANNOTATION] == ONE.at
    kept.mark("a", "judged", "fixed")
    assert [(item.state, item.outcome) for item in history(api)] == [("judged", "fixed")]


@pytest.mark.parametrize("denied", ["configmaps", "leases"])
def test_what_cannot_be_recorded_is_not_begun_over_a_fake_api(denied: str) -> None:
    api = FakeApi()
    kept = keeper(api)
    kept.take(60, "")
    api.denied = {denied}
    with pytest.raises(BookkeepingFailed, match=f"update {denied}"):
        kept.begin(ONE)
