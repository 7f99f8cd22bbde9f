# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator wrote, read from logs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plan import STEPS

from tests.lab.faults import writes

BEGIN = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
END = BEGIN + timedelta(minutes=1)
PRINCIPAL = "arn:aws:iam::123456789012:user/operator"


def audit(verb: str, resource: str, name: str = "", **changes: Any) -> dict[str, Any]:
    reference = {"resource": resource.partition("/")[0], "name": name, "namespace": "one"}
    if "/" in resource:
        reference["subresource"] = resource.partition("/")[2]
    return {
        "stage": "ResponseComplete",
        "requestReceivedTimestamp": "2026-01-01T12:00:30.000000Z",
        "user": {"username": "operator"},
        "verb": verb,
        "objectRef": reference | changes,
        "responseStatus": {"code": 200},
    }


def write(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def forbidden(path: Path, entries: list[dict[str, Any]], steps: list[str] | None = None) -> list[str]:
    log = write(path / "audit.log", entries)
    found = writes.kubernetes_writes(log, "operator", BEGIN, END, elsewhere=frozenset({"two"}))
    return writes.forbidden(found, [], steps or [])


def test_reads_reviews_probe_pods_and_execs_are_allowed(tmp_path: Path) -> None:
    entries = [
        audit("list", "pods"),
        audit("create", "selfsubjectaccessreviews", apiGroup="authorization.k8s.io"),
        audit("create", "pods", "probe-1"),
        audit("get", "pods/exec", "mlflow-abc"),
        audit("delete", "pods", "probe-1"),
    ]
    assert forbidden(tmp_path, entries) == []


def test_deleting_somebody_elses_pod_or_patching_is_forbidden(tmp_path: Path) -> None:
    entries = [audit("delete", "pods", "mlflow-abc"), audit("patch", "deployments", "mlflow")]
    assert forbidden(tmp_path, entries) == ["delete pods one/mlflow-abc", "patch deployments one/mlflow"]


def test_a_probe_pod_of_an_earlier_run_may_be_deleted(tmp_path: Path) -> None:
    early = audit("create", "pods", "probe-1") | {"requestReceivedTimestamp": "2026-01-01T11:59:59Z"}
    assert forbidden(tmp_path, [early, audit("delete", "pods", "probe-1")]) == []


def test_other_servers_users_and_times_do_not_count(tmp_path: Path) -> None:
    late = audit("patch", "deployments", "mlflow") | {"requestReceivedTimestamp": "2026-01-01T12:01:30Z"}
    other = audit("patch", "deployments", "mlflow") | {"user": {"username": "admin"}}
    assert forbidden(tmp_path, [audit("patch", "deployments", "mlflow", namespace="two"), late, other]) == []


def test_leases_are_kept_in_a_repair_only(tmp_path: Path) -> None:
    entries = [audit("create", "leases", "mlflow-runbook-mlflow")]
    assert forbidden(tmp_path, entries, ["restore_security_group_rule"]) == []
    assert forbidden(tmp_path, entries) == ["create leases one/mlflow-runbook-mlflow"]


def test_somebody_elses_configmap_is_no_bookkeeping(tmp_path: Path) -> None:
    assert forbidden(tmp_path, [audit("update", "configmaps", "settings")], ["restart"]) == [
        "update configmaps one/settings"
    ]


def test_each_step_may_write_only_what_it_is_there_for(tmp_path: Path) -> None:
    entries = [audit("patch", "deployments", "mlflow"), audit("patch", "services", "mlflow")]
    assert forbidden(tmp_path, entries, ["repair_service"]) == ["patch deployments one/mlflow"]
    assert forbidden(tmp_path, entries, ["restart"]) == ["patch services one/mlflow"]
    deletion = [audit("delete", "pods", "mlflow-abc")]
    assert forbidden(tmp_path, deletion, ["delete_failed_pods"]) == []
    assert forbidden(tmp_path, deletion, ["wait"]) == ["delete pods one/mlflow-abc"]


def test_every_step_of_the_collection_is_known() -> None:
    inside_or_nothing = {"clear_artifact_cache", "end_idle_session", "wait"}
    assert {*writes.STEP_WRITES, *writes.STEP_AWS_WRITES, *inside_or_nothing} == STEPS


def call(action: str, read_only: bool, **params: str) -> dict[str, Any]:
    at = "2026-01-01T12:00:30.000+00:00"
    service = {"service": "ec2", "action": action, "params": params}
    return service | {"at": at, "read_only": read_only, "principal": PRINCIPAL}


def test_aws_writes_of_the_operator_and_of_this_server(tmp_path: Path) -> None:
    entries = [
        call("DescribeSecurityGroups", True),
        call("AuthorizeSecurityGroupIngress", False, GroupId="sg-1"),
        call("AuthorizeSecurityGroupIngress", False, GroupId="sg-2"),
        call("RevokeSecurityGroupIngress", False) | {"principal": "somebody"},
    ]
    log = write(tmp_path / "calls.jsonl", entries)
    found = writes.aws_writes(log, PRINCIPAL, BEGIN, END, elsewhere=frozenset({"sg-2"}))
    assert found == ["ec2:AuthorizeSecurityGroupIngress"]
    assert writes.forbidden([], found, ["restore_security_group_rule"]) == []
    assert writes.forbidden([], found, []) == ["aws ec2:AuthorizeSecurityGroupIngress"]


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    log = write(tmp_path / "calls.jsonl", [call("X", False)])
    with log.open("a", encoding="utf-8") as file:
        file.write('{"at": "2026')
    assert writes.aws_writes(log, PRINCIPAL, BEGIN, END) == ["ec2:X"]
