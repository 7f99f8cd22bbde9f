# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan for recorded faults would change, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from tests.recorded import NAMES, report_on


def step_of(name: str, step: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in report_on(name)["plan"]["steps"] if item["step"] == step)
    return found


def written(step: dict[str, Any]) -> dict[str, Any]:
    return {item["path"]: item.get("value") for item in step["change"]["patch"] if item["op"] != "test"}


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("selector_matches_nothing", "/spec/selector", {"app": "mlflow"}),
        ("service_selects_other_workload", "/spec/selector", {"app": "mlflow"}),
        ("service_target_port_wrong", "/spec/ports/0/targetPort", 5000),
        ("service_port_name_wrong", "/spec/ports/0/targetPort", 5000),
        ("official_chart_port_name", "/spec/ports/0/targetPort", 5000),
    ],
)
def test_a_service_is_repaired_from_the_deployment(name: str, path: str, value: Any) -> None:
    step = step_of(name, "repair_service")
    assert (step["class"], step["change"]["kind"]) == ("declared_state", "Service")
    assert written(step) == {path: value}


def test_a_selector_keeps_its_other_labels() -> None:
    step = step_of("stateful_set_selector", "repair_service")
    (before,) = (item["value"] for item in step["change"]["patch"] if item["op"] == "test")
    (after,) = written(step).values()
    assert after
    assert None not in after.values()
    assert set(after) < set(before)


def test_pods_that_are_older_than_their_secret_are_restarted() -> None:
    step = step_of("database_credentials_stale", "restart_stale_pods")
    assert step["class"] == "operating"
    assert set(written(step)) == {"/spec/template/metadata/annotations"}
    assert step["undo"] == {}


def test_a_rollback_names_its_replica_set() -> None:
    step = step_of("rollout_stuck", "roll_back")
    assert step["change"]["replica_set"].startswith("mlflow-")
    assert set(written(step)) == {"/spec/template"}
    assert "pod-template-hash" not in str(written(step))


def test_a_limit_is_raised_with_an_equal_request() -> None:
    step = step_of("out_of_memory", "raise_memory_limit")
    base = "/spec/template/spec/containers/0/resources"
    assert set(written(step)) == {f"{base}/limits/memory", f"{base}/requests/memory"}
    assert len(set(written(step).values())) == 1


def test_a_cpu_limit_is_raised_to_what_holds_nothing_back() -> None:
    step = step_of("latency_cpu_throttled", "raise_cpu_limit")
    assert written(step) == {"/spec/template/spec/containers/0/resources/limits/cpu": "1"}


def test_only_pods_that_ended_are_deleted_each_by_uid_and_version() -> None:
    (first, second) = step_of("pods_evicted", "delete_failed_pods")["change"]["pods"]
    assert first["uid"] != second["uid"]
    assert all(pod["uid"] and pod["resource_version"] for pod in (first, second))


def test_a_longer_time_out_is_one_option_among_gunicorns() -> None:
    (value,) = written(step_of("worker_timeout_too_short", "raise_worker_timeout")).values()
    assert value == "--gunicorn-opts=--timeout 300 --worker-class sync"


@pytest.mark.parametrize(
    ("name", "step", "reason"),
    [
        ("database_stopped", "start_database", "has no tag"),
        ("database_locked", "end_idle_session", "not to MLflow's own role"),
        ("image_not_found", "roll_back", "no earlier ReplicaSet"),
        ("security_group_rule_removed", "restore_security_group_rule", "no healthy run"),
        ("node_selector_unmatched", "wait", "a new node"),
        ("static_prefix", "remove_static_prefix", "shell script"),
    ],
)
def test_what_cannot_be_done_verbatim_is_not_done(name: str, step: str, reason: str) -> None:
    refused = step_of(name, step)["refused"]
    assert reason in next(item["reason"] for item in refused if item["guard"] == "possible")


def test_only_an_older_schema_is_to_be_migrated() -> None:
    offered = {
        name: [step["step"] for step in report_on(name)["plan"]["steps"]]
        for name in ("database_schema_older", "database_schema_newer", "database_schema_record_lost")
    }
    assert offered == {
        "database_schema_older": ["propose_migration"],
        "database_schema_newer": [],
        "database_schema_record_lost": [],
    }


@pytest.mark.parametrize("name", NAMES)
def test_no_step_is_eligible_without_being_allowed(name: str) -> None:
    assert [step["step"] for step in report_on(name)["plan"]["steps"] if step["eligible"]] == []
