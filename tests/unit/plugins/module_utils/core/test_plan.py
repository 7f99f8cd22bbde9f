# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan puts back what a healthy run saw, and its digest stands for exactly that."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core import baseline
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    API,
    CLOUD,
    Evidence,
    EvidenceSet,
    State,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import (
    TO_DATABASE,
    Context,
    Finding,
    SectionResult,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plan import (
    BUILDERS,
    STARTS_PODS,
    STEPS,
    Plan,
    make_plan,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.step import Situation, StepClass
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.steps_database import module_rules
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.verdict import Impact, judge

AT = "2026-01-01T00:00:00Z"
POSTGRES = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432}
NODES = {**POSTGRES, "UserIdGroupPairs": [{"GroupId": "sg-nodes", "UserId": "1"}]}
OFFICE = {**POSTGRES, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}
SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}
TARGET = Target("mlflow", "mlflow", "Deployment", "mlflow", "uid", "mlflow", "mlflow:3.17.2", 5000, {"app": "mlflow"})


def group(identifier: str = "sg-1", *permissions: dict[str, Any]) -> dict[str, Any]:
    return {"GroupId": identifier, "IpPermissions": list(permissions)}


def evidence(*groups: dict[str, Any], uid: str = "cluster", account: str = "123456789012", at: str = AT) -> EvidenceSet:
    return EvidenceSet(
        [
            Evidence("kubernetes.cluster", API, "", at, State.OK, {"uid": uid}),
            Evidence("aws.caller_identity", CLOUD, "", at, State.OK, {"account": account}),
            Evidence("aws.security_groups", CLOUD, "", at, State.OK, {"items": list(groups)}),
        ]
    )


HEALTHY = baseline.record(evidence(group("sg-1", NODES, OFFICE, SSH)), AT)
BROKEN = evidence(group("sg-1", OFFICE))
CLOSED = Finding(
    "database.security_group_closed",
    "sg-1",
    "closed",
    ("a",),
    TO_DATABASE,
    configured=True,
    measured=True,
    facts={"port": 5432},
)
ROLE = Finding("artifact_store.role_policy_denies", "role", "denied", ("b",))


def plan(
    *findings: Finding, seen: EvidenceSet = BROKEN, known: dict[str, Any] | None = None, target: Target | None = TARGET
) -> Plan:
    verdict = judge([SectionResult(list(findings or (CLOSED,)))], seen, target, Impact())
    context = Context(target, seen, datetime(2026, 1, 1, tzinfo=UTC)) if target else None
    situation = Situation(context, HEALTHY if known is None else known, Settings()) if context else None
    return make_plan(situation, verdict, seen)


def test_the_step_is_the_rule_that_is_gone() -> None:
    (step,) = plan().steps
    rule = {**POSTGRES, "GroupId": "sg-nodes"}
    assert (step.step, step.section, step.object) == ("restore_security_group_rule", "database", "sg-1")
    assert step.step_class is StepClass.DECLARED_STATE
    assert (step.change["operation"], step.change["group_id"]) == ("AuthorizeSecurityGroupIngress", "sg-1")
    assert step.change["rules"] == [rule]
    assert step.undo == {**step.change, "operation": "RevokeSecurityGroupIngress"}
    assert step.blocked == ""
    assert step.proven


@pytest.mark.parametrize(("configured", "measured"), [(True, False), (False, True), (False, False)])
def test_proof_needs_configuration_and_behaviour(configured: bool, measured: bool) -> None:
    (step,) = plan(dataclasses.replace(CLOSED, configured=configured, measured=measured)).steps
    assert not step.proven


@pytest.mark.parametrize(
    ("known", "seen"),
    [
        ({}, BROKEN),
        (baseline.record(evidence(group("sg-1", OFFICE)), AT), BROKEN),
        (baseline.record(evidence(group("sg-9", NODES)), AT), BROKEN),
        (HEALTHY, evidence(group("sg-1", NODES, OFFICE))),
        (HEALTHY, evidence()),
        (HEALTHY, EvidenceSet()),
    ],
)
def test_without_a_record_nothing_is_invented(known: dict[str, Any], seen: EvidenceSet) -> None:
    (step,) = plan(seen=seen, known=known).steps
    assert (step.change, step.undo) == ({}, {})
    assert "TCP 5432" in step.blocked


def test_the_port_of_the_cause_counts() -> None:
    (step,) = plan(dataclasses.replace(CLOSED, facts={"port": 5433})).steps
    assert "TCP 5433" in step.blocked


def test_the_group_that_lost_a_rule_is_the_one_that_gets_it_back() -> None:
    known = baseline.record(evidence(group("sg-1", OFFICE), group("sg-2", NODES)), AT)
    (step,) = plan(seen=evidence(group("sg-1", OFFICE), group("sg-2")), known=known).steps
    assert step.object == step.change["group_id"] == "sg-2"


def test_what_only_its_owner_may_change_is_proposed() -> None:
    (step,) = plan(ROLE).steps
    assert (step.step, step.step_class) == ("propose_role_policy", StepClass.PROPOSED)
    assert (step.change, step.undo) == ({}, {})
    assert "aws iam put-role-policy" in step.proposal


def test_causes_without_a_repair_make_no_step() -> None:
    assert plan(dataclasses.replace(ROLE, id="database.unknown_database")).steps == ()


@pytest.mark.parametrize("identifier", sorted(BUILDERS))
def test_every_builder_makes_a_known_step(identifier: str) -> None:
    """A builder that has seen nothing says what is missing instead of a change."""
    steps = list(plan(dataclasses.replace(CLOSED, id=identifier), seen=BROKEN, known={}).steps)
    repairs = [item for item in steps if item.step_class is not StepClass.PROPOSED]
    assert {item.step for item in repairs} <= STEPS
    assert all(item.blocked or item.change for item in repairs)
    assert {item.step for item in repairs if item.starts_pods} <= STARTS_PODS


def test_place_is_empty_when_it_was_not_seen() -> None:
    assert plan(seen=EvidenceSet()).place == {"cluster": "", "account": ""}


OTHER_RULES = baseline.record(evidence(group("sg-1", {**NODES, "FromPort": 5000})), AT)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(plan(target=dataclasses.replace(TARGET, uid="other")), id="server"),
        pytest.param(plan(target=None), id="no server"),
        pytest.param(plan(seen=evidence(group("sg-1", OFFICE), uid="other")), id="cluster"),
        pytest.param(plan(seen=evidence(group("sg-1", OFFICE), account="210987654321")), id="account"),
        pytest.param(plan(CLOSED, ROLE), id="causes"),
        pytest.param(plan(dataclasses.replace(CLOSED, object="sg-9")), id="object"),
        pytest.param(plan(known=OTHER_RULES), id="change"),
        pytest.param(plan(known={}), id="no change"),
        pytest.param(plan(seen=evidence(group("sg-1", OFFICE, SSH))), id="state"),
    ],
)
def test_the_digest_changes_with_every_part(other: Plan) -> None:
    assert other.digest != plan().digest
    assert len(other.digest) == 64


TWO = (CLOSED, dataclasses.replace(CLOSED, object="sg-2"), ROLE)
TWO_GROUPS = baseline.record(evidence(group("sg-1", NODES), group("sg-2", NODES)), AT)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(plan(), plan(seen=evidence(group("sg-1", OFFICE), at="2026-01-02T00:00:00Z")), id="time"),
        pytest.param(plan(), plan(known={**HEALTHY, "at": "2026-01-02T00:00:00Z"}), id="time of the record"),
        pytest.param(plan(), plan(dataclasses.replace(CLOSED, since=AT, evidence=("z",))), id="evidence"),
        pytest.param(plan(*TWO), plan(*TWO[::-1]), id="order of causes"),
        pytest.param(
            plan(seen=evidence(group("sg-1"), group("sg-2")), known=TWO_GROUPS),
            plan(seen=evidence(group("sg-2"), group("sg-1")), known=TWO_GROUPS),
            id="order of groups",
        ),
        pytest.param(
            plan(seen=evidence(group("sg-1", OFFICE, SSH))),
            plan(seen=evidence(group("sg-1", SSH, OFFICE))),
            id="order of rules",
        ),
        pytest.param(
            plan(),
            plan(
                seen=evidence(group("sg-1", {**OFFICE, "IpRanges": [{"CidrIp": "192.0.2.0/24", "Description": "x"}]}))
            ),
            id="description",
        ),
    ],
)
def test_the_digest_does_not_change_with_time_or_order(one: Plan, other: Plan) -> None:
    assert one.digest == other.digest


def test_rules_in_the_form_of_the_module() -> None:
    every = {
        **POSTGRES,
        "IpRanges": [{"CidrIp": "192.0.2.0/24"}],
        "Ipv6Ranges": [{"CidrIpv6": "fd00::/64"}],
        "PrefixListIds": [{"PrefixListId": "pl-1"}],
    }
    known = baseline.record(
        evidence(group("sg-1", every, NODES, {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.1/32"}]})), AT
    )
    (step,) = plan(seen=evidence(group("sg-1")), known=known).steps
    ports = {"proto": "tcp", "from_port": 5432, "to_port": 5432}
    expected = [
        {"proto": "all", "cidr_ip": "10.0.0.1/32"},
        {**ports, "cidr_ip": "192.0.2.0/24"},
        {**ports, "cidr_ipv6": "fd00::/64"},
        {**ports, "group_id": "sg-nodes"},
        {**ports, "ip_prefix": "pl-1"},
    ]
    assert sorted(module_rules(step.change), key=str) == sorted(expected, key=str)
