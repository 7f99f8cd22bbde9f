# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An attempt that nobody judged is judged by what is there, not by what was meant."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.attempts import Attempt
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    API,
    CLOUD,
    POD,
    Evidence,
    EvidenceSet,
    State,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.kubernetes_patch import edit, patch_change
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.resume import (
    LONGEST_REASON,
    changed_by_others,
    document,
    failed_write,
    in_place,
    judge,
    told,
    told_of_failure,
)

AT = "2026-01-01T12:00:00Z"
RULE = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "GroupId": "sg-nodes"}


def service(selector: str, uid: str = "u-1") -> dict[str, Any]:
    return {"metadata": {"name": "mlflow", "namespace": "ml", "uid": uid}, "spec": {"selector": {"app": selector}}}


CHANGE, UNDO = patch_change(service("old"), "Service", [edit(service("old"), ("spec", "selector"), {"app": "new"})])


def attempt(change: dict[str, Any], undo: dict[str, Any] | None = None) -> Attempt:
    return Attempt("a", "s", "x.cause", "service/mlflow", "o", "d", AT, "me", change=change, undo=undo or {})


def seen(what: str, *items: dict[str, Any]) -> EvidenceSet:
    return EvidenceSet([Evidence(f"kubernetes.{what}", API, "ml", AT, State.OK, {"items": list(items)})])


def cloud(what: str, value: Any) -> EvidenceSet:
    return EvidenceSet([Evidence(f"aws.{what}", CLOUD, "", AT, State.OK, value)])


def probed(kind: str, **value: Any) -> EvidenceSet:
    return EvidenceSet([Evidence(f"probe.{kind}", POD, "", AT, State.OK, value)])


def cached(old_files: int, **more: Any) -> EvidenceSet:
    return probed("disk", cache={"folder": "/tmp/artifacts", "older_than_seconds": 60, "old_files": old_files, **more})


def group(*rules: dict[str, Any]) -> dict[str, Any]:
    pairs = [
        {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": rule["GroupId"]}]}
        for rule in rules
    ]
    return {"items": [{"GroupId": "sg-1", "IpPermissions": pairs}]}


DELETE = {"service": "kubernetes", "operation": "delete", "namespace": "ml", "pods": [{"uid": "p-1"}]}
AUTHORIZE = {"service": "ec2", "operation": "AuthorizeSecurityGroupIngress", "group_id": "sg-1", "rules": [RULE]}
END = {"service": "pod", "operation": "end_session", "pid": 7, "backend_start": "2026-01-01 11:00:00+00"}
WAITS = {"pid": 8, "blocker": {"pid": 7, "backend_start": "2026-01-01 11:00:00+00"}}
CLEAR = {"service": "pod", "operation": "clear_cache", "directory": "/tmp/artifacts", "older_than_seconds": 60}
START = {"service": "rds", "operation": "StartDBInstance", "status": "stopped"}


@pytest.mark.parametrize(
    ("change", "evidence", "there"),
    [
        (CHANGE, seen("services", service("new")), True),
        (CHANGE, seen("services", service("old")), False),
        (CHANGE, seen("services", service("new", uid="u-2")), None),
        (CHANGE, EvidenceSet([]), None),
        (DELETE, seen("pods", {"metadata": {"uid": "p-1"}}), False),
        (DELETE, seen("pods", {"metadata": {"uid": "p-2"}}), True),
        (AUTHORIZE, cloud("security_groups", group(RULE)), True),
        (AUTHORIZE, cloud("security_groups", group()), False),
        (AUTHORIZE, EvidenceSet([]), None),
        (START, cloud("db_instance", {"DBInstanceStatus": "starting"}), True),
        (START, cloud("db_instance", {"DBInstanceStatus": "stopped"}), False),
        (START, EvidenceSet([]), None),
        ({"service": "none", "operation": "wait"}, EvidenceSet([]), False),
        (END, EvidenceSet([]), None),
        (END, probed("query", blocked="permission denied"), None),
        (END, probed("query", blocked=[WAITS]), False),
        (END, probed("query", blocked=[]), True),
        ({**END, "backend_start": "later"}, probed("query", blocked=[WAITS]), True),
        (CLEAR, EvidenceSet([]), None),
        (CLEAR, probed("disk", cache=None), None),
        (CLEAR, cached(2, folder="/elsewhere"), None),
        (CLEAR, cached(0, older_than_seconds=3600), None),
        (CLEAR, cached(2), False),
        (CLEAR, cached(0), True),
    ],
)
def test_a_change_is_there_or_not_or_cannot_be_seen(
    change: dict[str, Any], evidence: EvidenceSet, there: bool | None
) -> None:
    assert in_place(attempt(change), evidence) is there


def verdict(status: str, *causes: str) -> dict[str, Any]:
    return {"status": status, "causes": [{"id": name, "object": "service/mlflow"} for name in causes]}


@pytest.mark.parametrize(
    ("selector", "now", "outcome"),
    [
        ("old", verdict("down", "x.cause"), "abandoned"),
        ("new", verdict("down", "x.cause"), "unchanged"),
        ("new", verdict("healthy"), "fixed"),
        ("new", verdict("recovered"), "fixed"),
        ("new", verdict("degraded", "y.cause"), "improved"),
        ("new", verdict("unknown"), "unknown"),
    ],
)
def test_the_outcome_of_a_run_that_was_killed(selector: str, now: dict[str, Any], outcome: str) -> None:
    assert judge(attempt(CHANGE), seen("services", service(selector)), now) == outcome


def test_nothing_is_taken_back_from_somebody_else() -> None:
    ours = attempt(CHANGE, UNDO)
    assert changed_by_others(ours, seen("services", service("new"))) == []
    assert changed_by_others(ours, seen("services", service("newer"))) == ["/spec/selector"]
    assert changed_by_others(ours, seen("services", service("new", uid="u-2"))) == ["the object is another one now"]
    authorized = attempt(AUTHORIZE, {**AUTHORIZE, "operation": "RevokeSecurityGroupIngress"})
    assert changed_by_others(authorized, cloud("security_groups", group(RULE))) == []
    assert changed_by_others(authorized, cloud("security_groups", group())) == ["the change is not there any more"]


FORBIDDEN = (
    'Failed to patch existing object: b\'{"kind":"Status","status":"Failure","message":"services \\"mlflow\\" is '
    'forbidden: User \\"operator\\" cannot patch resource","reason":"Forbidden","code":403}\\n\''
)


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        ({"msg": FORBIDDEN, "status": 403}, 'the API server answered 403: services "mlflow" is forbidden: User'),
        ({"msg": 'x "message":"test failed"', "status": 422}, "not the one any more that was looked at"),
        ({"msg": "One or more items failed", "results": [{}, {"failed": True, "msg": "gone"}]}, "gone"),
        ({"msg": "first\n  second"}, "first second"),
        ({"msg": "password=hunter2hunter2"}, "password=***"),
        ({"msg": "Task failed: Module failed: refused"}, "refused"),
        ({}, "no reason is given"),
    ],
)
def test_a_failed_write_is_told_in_one_line(failed: dict[str, Any], words: str) -> None:
    why = failed_write(failed)
    assert words in why
    assert "hunter2" not in why
    assert "Module failed" not in why
    assert len(failed_write({"msg": "x" * 999})) == LONGEST_REASON


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("abandoned", "scale_out was not carried out: forbidden"),
        ("fixed", "scale_out failed on its way: forbidden; it was written, and the server is repaired"),
        ("", "what became of it is not known, the next run judges it"),
    ],
)
def test_what_became_of_a_failed_write_is_told(outcome: str, words: str) -> None:
    assert words in told_of_failure({"step": "scale_out", "why": "forbidden", "outcome": outcome})


def test_what_a_run_has_left_is_told() -> None:
    found = document(attempt(CHANGE), "abandoned")
    assert found["by"] == "me"
    again = document(attempt(CHANGE), "abandoned", "needs update leases")
    assert told(again).endswith("this could not be recorded (needs update leases), so the next run judges it again")
    assert told(found).endswith("by a run that ended before it judged it: nothing of it was written")
