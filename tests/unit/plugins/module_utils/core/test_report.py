# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report reads: cause, impact, since, do now, do not."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.content import ago
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    API,
    Evidence,
    EvidenceSet,
    State,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import (
    TO_DATABASE,
    Finding,
    RuledOut,
    SectionResult,
    Unknown,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.guards import Policy
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plan import Plan
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import (
    WIDTH,
    build,
    plan_document,
    server_document,
    text,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.step import Step, StepClass
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.verdict import Impact, judge

AT = "2026-01-01T12:00:00Z"
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
DIGEST = "0a" * 32
TARGET = Target(
    "tracking",
    "mlflow",
    "Deployment",
    "tracking",
    "uid",
    "mlflow",
    "mlflow:3.17.2",
    5000,
    {"app": "mlflow"},
    options={"port": "5000"},
    secrets=("db",),
)
SEEN = EvidenceSet([Evidence("kubernetes.cluster", API, "", AT, State.OK, {"uid": "cluster-uid"})])
CLOSED = Finding(
    "database.security_group_closed",
    "sg-1",
    "security group sg-1 does not admit TCP 5432 from the pods",
    ("aws.security_groups@aws",),
    TO_DATABASE,
    since="2026-01-01T11:00:00Z",
    configured=True,
    measured=True,
    facts={"port": 5432, "source": "sg-nodes", "group": "sg-1"},
)
TIMEOUT = Finding("database.connect_timeout", "db:5432", "TCP to db:5432 times out", ("probe.tcp@pod/db",), TO_DATABASE)
RULE = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "GroupId": "sg-nodes"}
STEP = Step(
    step="restore_security_group_rule",
    section="database",
    cause=CLOSED.id,
    object="sg-1",
    step_class=StepClass.DECLARED_STATE,
    change={"service": "ec2", "operation": "AuthorizeSecurityGroupIngress", "group_id": "sg-1", "rules": [RULE]},
    undo={"service": "ec2", "operation": "RevokeSecurityGroupIngress", "group_id": "sg-1", "rules": [RULE]},
    proven=True,
)
PLACE = {"cluster": "cluster-uid", "account": "1"}
DOWN = Impact(("argo",), False, False, None, False)
WELL = Impact((), True, True, True, True)


def report(*findings: Finding, impact: Impact = DOWN, steps: tuple[Step, ...] = (), **more: Any) -> dict[str, Any]:
    verdict = judge([SectionResult(list(findings), **more)], SEEN, TARGET, impact)
    return build(
        server=server_document(TARGET, SEEN, "mlflow", "lab"),
        started=AT,
        seconds={"total": 2.5},
        calls={"kubernetes": 3},
        verdict=verdict,
        plan=plan_document(Plan(DIGEST, steps, PLACE), Policy((), "", NOW)),
    )


def headings(written: str) -> list[str]:
    return [line.split()[0] for line in written.splitlines() if line[:2].isupper() and not line.startswith("MLflow")]


def test_a_cause_with_its_repair() -> None:
    written = text(report(CLOSED, TIMEOUT, steps=(STEP,), ruled_out=[RuledOut("database.password_wrong", ("x@pod",))]))
    assert written.startswith("MLflow mlflow/tracking is DOWN   2026-01-01 12:00:00 UTC · cluster lab\n")
    assert headings(written) == ["CAUSE", "IMPACT", "SINCE", "DO", "DO"]
    assert f"CAUSE     {CLOSED.summary}\n" in written
    assert "database.security_group_closed · sg-1 · owner: network" in written
    assert "reads NO · writes NO · artifacts unknown · registry NO" in written
    assert "argo" in written
    assert "SINCE     2026-01-01 11:00:00 UTC (60 min ago)" in written
    assert "DO NOW    put the ingress rule for TCP 5432 from sg-nodes back into sg-1" in written
    assert (
        "ansible-playbook mlops.mlflow_runbook.remediate -e mlflow_namespace=mlflow"
        f" -e mlflow_allowed_steps=restore_security_group_rule -e mlflow_approved_plan={DIGEST}\n"
    ) in written
    assert "DO NOT    restart: a new pod could not connect to its database" in written
    assert "tcp 5432 from sg-nodes" in written
    assert "database.connect_timeout: TCP to db:5432 times out" in written
    assert "aws.security_groups@aws" in written
    assert "database.password_wrong: by x@pod" in written


def test_an_operating_step_needs_no_digest() -> None:
    written = text(report(CLOSED, steps=(dataclasses.replace(STEP, step_class=StepClass.OPERATING),)))
    assert "mlflow_approved_plan" not in written


def test_a_step_that_cannot_be_done_says_why() -> None:
    blocked = dataclasses.replace(STEP, change={}, undo={}, blocked="no healthy run has recorded it")
    written = text(report(CLOSED, steps=(blocked,)))
    assert "(restore_security_group_rule cannot do it: no healthy run has recorded it)" in written
    assert "ansible-playbook" not in written


def test_a_healthy_server() -> None:
    written = text(report(impact=WELL))
    assert written.startswith("MLflow mlflow/tracking is healthy")
    assert "CAUSE     none" in written
    assert headings(written) == ["CAUSE", "IMPACT"]


def test_a_server_that_could_not_be_judged() -> None:
    written = text(report(impact=Impact(), unknown=[Unknown("whether it runs", "not permitted", "list pods")]))
    assert written.startswith("MLflow mlflow/tracking could NOT be judged")
    assert "CAUSE     not known: whether it runs (not permitted)" in written
    assert "whether it runs: not permitted; needs list pods" in written


def test_two_causes_are_both_told() -> None:
    other = Finding("artifact_store.role_policy_denies", "role", "role lacks s3:PutObject", ("r",))
    written = text(report(CLOSED, other))
    assert "CAUSES    " in written
    assert CLOSED.summary in written
    assert other.summary in written


def test_the_outcome_of_a_repair() -> None:
    document = report(impact=WELL)
    document |= {"outcome": "fixed", "actions": [{"step": "restart", "changed": True, "diff": ["a -> b"]}]}
    assert "OUTCOME   fixed\n          restart: a -> b\n" in text(document)


def test_a_write_that_failed_and_what_an_earlier_run_has_left() -> None:
    document = report(CLOSED)
    failure = {"step": "scale_out", "why": "the API server answered 403: no", "outcome": "abandoned", "unrecorded": ""}
    left = {"step": "restart", "object": "deployment/mlflow", "at": AT, "by": "x", "outcome": "fixed", "unrecorded": ""}
    written = text(document | {"interrupted": failure, "resumed": [left]})
    assert "OUTCOME   scale_out was not carried out: the API server answered 403: no\n" in written
    assert "restart on deployment/mlflow was begun at 2026-01-01T12:00:00Z by a run that ended" in written


def test_long_lines_are_wrapped_but_commands_are_not() -> None:
    long = dataclasses.replace(CLOSED, summary="word " * 60)
    lines = text(report(long, steps=(STEP,))).splitlines()
    too_long = [line for line in lines if len(line) > WIDTH]
    assert len(too_long) == 1
    assert "ansible-playbook" in too_long[0]


def test_the_document() -> None:
    document = report(CLOSED, TIMEOUT, steps=(STEP,))
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == 1
    assert document["server"]["cluster_uid"] == "cluster-uid"
    assert "secrets" not in document["server"]
    assert "options" not in document["server"]
    assert [(item["id"], item["explained_by"]) for item in document["findings"]] == [
        ("database.security_group_closed", None),
        ("database.connect_timeout", "database.security_group_closed"),
    ]
    (step,) = document["plan"]["steps"]
    assert not step["eligible"]
    assert [item["guard"] for item in step["refused"]] == ["allowed", "approval"]
    assert (document["actions"], document["outcome"]) == ([], None)


def test_a_step_that_every_guard_lets_pass_is_eligible() -> None:
    policy = Policy((STEP.step,), DIGEST, NOW, {DIGEST: AT})
    (step,) = plan_document(Plan(DIGEST, (STEP,), PLACE), policy)["steps"]
    assert step["eligible"]
    assert step["refused"] == []


def test_a_server_that_was_not_found() -> None:
    assert server_document(None, SEEN, "mlflow", "lab") == {
        "name": "",
        "namespace": "mlflow",
        "cluster": "lab",
        "cluster_uid": "cluster-uid",
    }


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("2026-01-01T12:00:01Z", "0 s ago"),
        ("2026-01-01T11:58:01Z", "119 s ago"),
        ("2026-01-01T11:58:00Z", "2 min ago"),
        ("2026-01-01T10:00:01Z", "119 min ago"),
        ("2026-01-01T10:00:00Z", "2 h ago"),
        ("2025-12-30T12:00:00.123456789Z", "47 h ago"),
    ],
)
def test_how_long_ago(since: str, expected: str) -> None:
    assert ago(since, AT) == expected
