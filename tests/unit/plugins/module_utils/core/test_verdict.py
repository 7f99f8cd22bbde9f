# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which finding explains which, and what the whole comes to."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    POD,
    Evidence,
    EvidenceSet,
    State,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import (
    FROM_INGRESS,
    SERVER,
    TO_DATABASE,
    TO_DNS,
    TO_IDENTITY,
    TO_OBJECT_STORAGE,
    Finding,
    RuledOut,
    SectionResult,
    Unknown,
    source_flow,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.verdict import (
    Cause,
    Impact,
    Verdict,
    conflicts,
    explains,
    flow_reaches,
    judge,
    status_of,
    unique,
    unseen,
)

AT = "2026-01-01T00:00:00Z"
WELL = Impact((), True, True, True, True)
DOWN = Impact(("argo",), False, False, False, False)
ARGO = source_flow("argo")

CLOSED = Finding(
    "database.security_group_closed", "sg-1", "closed", ("a",), TO_DATABASE, configured=True, measured=True
)
TIMEOUT = Finding("database.connect_timeout", "db:5432", "TCP times out", ("b",), TO_DATABASE, measured=True)
API_FAILS = Finding("web_server.api_failing", "deployment/mlflow", "the API answers 503", ("c",), measured=True)
UNREACHABLE = Finding("service.unreachable", "service/mlflow", "argo gets no answer", ("d",), ARGO, measured=True)
DENIED = Finding("artifact_store.access_denied", "bucket", "S3 refuses", ("e",), TO_OBJECT_STORAGE, measured=True)
ROLE = Finding("artifact_store.role_policy_denies", "role", "role lacks s3:PutObject", ("f",), TO_OBJECT_STORAGE)
NAME = Finding("database.name_not_found", "deployment/mlflow", "no such name", ("g",), TO_DATABASE, measured=True)


@pytest.mark.parametrize(
    ("origin", "other", "expected"),
    [
        (TO_DATABASE, TO_DATABASE, True),
        (TO_DATABASE, SERVER, True),
        (TO_DATABASE, ARGO, True),
        (TO_DATABASE, FROM_INGRESS, True),
        (TO_DATABASE, TO_OBJECT_STORAGE, False),
        (TO_OBJECT_STORAGE, TO_DATABASE, False),
        (TO_OBJECT_STORAGE, SERVER, True),
        (TO_IDENTITY, TO_OBJECT_STORAGE, True),
        (TO_IDENTITY, TO_DATABASE, False),
        (TO_DNS, TO_DATABASE, True),
        (TO_DNS, TO_OBJECT_STORAGE, True),
        (TO_DNS, TO_IDENTITY, True),
        (TO_DNS, ARGO, True),
        (SERVER, ARGO, True),
        (SERVER, FROM_INGRESS, True),
        (SERVER, TO_DATABASE, False),
        (ARGO, ARGO, True),
        (ARGO, source_flow("batch"), False),
        (ARGO, SERVER, False),
        (ARGO, FROM_INGRESS, False),
        (FROM_INGRESS, SERVER, False),
        (FROM_INGRESS, ARGO, False),
    ],
)
def test_flows(origin: str, other: str, expected: bool) -> None:
    assert flow_reaches(origin, other) is expected


def changed(finding: Finding, **fields: Any) -> Finding:
    return Finding(**{**finding.__dict__, **fields})


@pytest.mark.parametrize(
    ("cause", "effect", "expected"),
    [
        (CLOSED, TIMEOUT, True),
        (CLOSED, API_FAILS, True),
        (CLOSED, UNREACHABLE, True),
        (TIMEOUT, CLOSED, False),
        (TIMEOUT, API_FAILS, True),
        (API_FAILS, TIMEOUT, False),
        (CLOSED, DENIED, False),
        (ROLE, TIMEOUT, False),
        (CLOSED, changed(TIMEOUT, flow=TO_OBJECT_STORAGE), False),
        (changed(CLOSED, flow=ARGO), API_FAILS, False),
        (CLOSED, CLOSED, False),
    ],
)
def test_explains_needs_an_edge_and_a_flow(cause: Finding, effect: Finding, expected: bool) -> None:
    assert explains(cause, effect) is expected


@pytest.mark.parametrize(
    ("cause", "effect", "expected"),
    [
        ("2026-01-01T10:00:00Z", "2026-01-01T10:05:00Z", True),
        ("2026-01-01T10:05:00Z", "2026-01-01T10:00:00Z", False),
        ("2026-01-01T10:02:00Z", "2026-01-01T10:00:00Z", True),
        ("2026-01-01T10:02:01Z", "2026-01-01T10:00:00Z", False),
        ("2026-01-01T10:00:00.123456789Z", "2026-01-01T10:00:00Z", True),
        ("2026-01-01T12:00:00+02:00", "2026-01-01T10:00:00Z", True),
        (None, "2026-01-01T10:00:00Z", True),
        ("2026-01-01T10:05:00Z", None, True),
    ],
)
def test_a_cause_does_not_begin_after_its_effect(cause: str | None, effect: str | None, expected: bool) -> None:
    assert explains(changed(CLOSED, since=cause), changed(TIMEOUT, since=effect)) is expected


def test_findings_of_the_same_thing_are_joined() -> None:
    one = changed(CLOSED, evidence=("a", "b"), since="2026-01-01T10:00:00Z", measured=False, facts={"port": 5432})
    two = changed(
        CLOSED, evidence=("b", "c"), since="2026-01-01T09:00:00Z", configured=False, facts={"port": 1, "x": 2}
    )
    (joined,) = unique([one, two])
    assert joined.evidence == ("a", "b", "c")
    assert joined.since == "2026-01-01T09:00:00Z"
    assert joined.configured
    assert joined.measured
    assert joined.facts == {"port": 5432, "x": 2}
    (turned,) = unique([two, one])
    assert turned.configured
    assert turned.measured


@pytest.mark.parametrize("fields", [{"object": "sg-2"}, {"flow": SERVER}, {"id": "database.connect_timeout"}])
def test_findings_of_different_things_are_not(fields: dict[str, str]) -> None:
    assert len(unique([CLOSED, changed(CLOSED, **fields)])) == 2


def probe(
    result: str, subject: str = "db:5432", what: str = "probe.tcp", place: str = POD, state: State = State.OK
) -> Evidence:
    return Evidence(what, place, subject, AT, state, {"result": result})


@pytest.mark.parametrize(
    ("first", "second", "contradiction"),
    [
        (probe("ok"), probe("timeout"), True),
        (probe("ok"), probe("ok"), False),
        (probe("ok"), probe("timeout", place="source:argo"), False),
        (probe("ok"), probe("timeout", subject="db:5433"), False),
        (probe("ok"), probe("timeout", what="probe.dns"), False),
        (probe("ok", what="aws.x"), probe("timeout", what="aws.x"), False),
        (probe("ok"), probe("timeout", state=State.UNREACHABLE), False),
    ],
)
def test_only_the_same_key_contradicts(first: Evidence, second: Evidence, contradiction: bool) -> None:
    assert bool(conflicts(EvidenceSet([first, second]))) is contradiction


@pytest.mark.parametrize(
    ("what", "state", "detail", "why", "needs"),
    [
        ("aws.role", State.FORBIDDEN, "iam:GetRole", "not permitted", "iam:GetRole"),
        ("aws.role", State.UNREACHABLE, "timed out", "timed out", "a route"),
        ("aws.role", State.UNREACHABLE, "", "not reachable", "a route"),
        ("probe.pod", State.SKIPPED, "off", "not looked: off", "mlflow_probe_pods"),
    ],
)
def test_what_could_not_be_seen(what: str, state: State, detail: str, why: str, needs: str) -> None:
    piece = Evidence(what, "pod", "", AT, state, detail=detail)
    (told,) = unseen(EvidenceSet([piece, piece]))
    assert (told.what, told.why) == (f"{what}@pod", why)
    assert told.needs.startswith(needs)


@pytest.mark.parametrize("state", [State.OK, State.PARTIAL, State.ABSENT])
def test_what_was_seen_is_not_unknown(state: State) -> None:
    assert unseen(EvidenceSet([Evidence("probe.pod", "pod", "", AT, state)])) == []


def cause_of(finding: Finding) -> Cause:
    return Cause(finding, (), None, (), ())


@pytest.mark.parametrize(
    ("impact", "causes", "unexplained", "expected"),
    [
        (WELL, [], [], "healthy"),
        (Impact((), True), [], [], "healthy"),
        (WELL, [cause_of(CLOSED)], [], "at_risk"),
        (WELL, [], [API_FAILS], "degraded"),
        (WELL, [], [changed(API_FAILS, id="logs.worker_died")], "healthy"),
        (Impact((), True, writes=False), [], [], "degraded"),
        (Impact((), True, artifacts=False), [cause_of(ROLE)], [], "degraded"),
        (Impact((), True, registry=False), [], [], "degraded"),
        (Impact(("argo",), True, True), [], [], "degraded"),
        (DOWN, [cause_of(CLOSED)], [], "down"),
        (DOWN, [], [], "down"),
        (Impact(), [], [], "unknown"),
        (Impact(), [cause_of(CLOSED)], [], "unknown"),
        (Impact(("argo",)), [], [], "degraded"),
    ],
)
def test_status(impact: Impact, causes: list[Cause], unexplained: list[Finding], expected: str) -> None:
    assert status_of(impact, causes, unexplained) == expected


def verdict(*findings: Finding, impact: Impact = DOWN, evidence: EvidenceSet | None = None, **more: Any) -> Verdict:
    return judge([SectionResult(list(findings), **more)], evidence or EvidenceSet(), None, impact)


def ids(found: Verdict) -> list[str]:
    return [cause.finding.id for cause in found.causes]


def test_one_cause_explains_everything() -> None:
    found = verdict(UNREACHABLE, API_FAILS, TIMEOUT, CLOSED)
    assert ids(found) == ["database.security_group_closed"]
    assert set(found.causes[0].explains) == {
        "service.unreachable",
        "web_server.api_failing",
        "database.connect_timeout",
    }
    assert set(found.explained_by) == {
        f"{item.id} {item.object} {item.flow}" for item in (UNREACHABLE, API_FAILS, TIMEOUT)
    }
    assert found.status == "down"
    assert not [item for item in found.unknown if item.what == UNREACHABLE.summary]


def test_two_independent_causes_stay_two() -> None:
    found = verdict(ROLE, DENIED, CLOSED, TIMEOUT)
    assert ids(found) == ["database.security_group_closed", "artifact_store.role_policy_denies"]
    assert found.causes[0].explains == ("database.connect_timeout",)
    assert found.causes[1].explains == ("artifact_store.access_denied",)


def test_symptoms_alone_are_no_cause_but_a_question() -> None:
    found = verdict(TIMEOUT, API_FAILS)
    assert found.causes == ()
    assert [item.what for item in found.unknown] == [TIMEOUT.summary]


def test_either_is_a_cause_only_when_nothing_explains_it() -> None:
    stopped = Finding("database.instance_stopped", "mlflow", "RDS is stopped", ("s",), TO_DATABASE)
    assert ids(verdict(NAME)) == ["database.name_not_found"]
    assert ids(verdict(NAME, stopped)) == ["database.instance_stopped"]


def test_a_cause_that_another_explains_is_not_named() -> None:
    dns = Finding("network_policy.egress_denied", "networkpolicy/deny", "egress is denied", ("n",), TO_DNS)
    failing = Finding("network_policy.dns_failing", "kube-dns", "no names", ("m",), TO_DNS)
    found = verdict(failing, NAME, dns)
    assert ids(found) == ["network_policy.egress_denied"]


def test_a_later_cause_does_not_explain_an_earlier_symptom() -> None:
    late = changed(CLOSED, since="2026-01-01T12:00:00Z")
    early = changed(TIMEOUT, since="2026-01-01T10:00:00Z")
    found = verdict(late, early)
    assert ids(found) == ["database.security_group_closed"]
    assert found.causes[0].explains == ()
    assert [item.what for item in found.unknown] == [TIMEOUT.summary]


def test_a_cause_began_when_its_first_effect_did() -> None:
    first = changed(TIMEOUT, since="2026-01-01T10:00:00Z")
    second = changed(API_FAILS, since="2026-01-01T10:01:00Z")
    assert verdict(CLOSED, second, first).causes[0].since == "2026-01-01T10:00:00Z"
    own = changed(CLOSED, since="2026-01-01T09:59:00Z")
    assert verdict(own, second, first).causes[0].since == "2026-01-01T09:59:00Z"


def test_the_answer_does_not_depend_on_the_order_of_findings() -> None:
    other = changed(CLOSED, object="sg-2")
    findings = [UNREACHABLE, API_FAILS, TIMEOUT, other, CLOSED, ROLE, DENIED]
    names = [
        [(cause.finding.id, cause.finding.object) for cause in verdict(*turned).causes]
        for turned in (findings, findings[::-1])
    ]
    assert (
        names[0]
        == names[1]
        == [
            ("database.security_group_closed", "sg-1"),
            ("database.security_group_closed", "sg-2"),
            ("artifact_store.role_policy_denies", "role"),
        ]
    )


def test_nothing_found_on_a_working_server_is_healthy() -> None:
    found = verdict(impact=WELL, ruled_out=[RuledOut("database.security_group_closed", ("a",))])
    assert (found.status, found.causes, found.unknown) == ("healthy", (), ())
    assert [item.what for item in found.ruled_out] == ["database.security_group_closed"]


def test_what_was_found_is_not_ruled_out() -> None:
    found = verdict(CLOSED, ruled_out=[RuledOut("database.security_group_closed", ("a",)), RuledOut("x.y", ())])
    assert [item.what for item in found.ruled_out] == ["x.y"]


def test_conflicts_and_blind_spots_are_told() -> None:
    blind = Evidence("aws.role", "aws", "role", AT, State.FORBIDDEN, detail="iam:GetRole")
    mine = Unknown("whether it rains", "no window", "a window")
    found = verdict(evidence=EvidenceSet([probe("ok"), probe("timeout"), blind]), unknown=[mine, mine])
    assert [item.needs for item in found.unknown] == ["another run", "a window", "iam:GetRole"]


def test_a_contradiction_makes_the_answer_unknown() -> None:
    found = verdict(CLOSED, evidence=EvidenceSet([probe("ok"), probe("timeout")]))
    assert (found.status, found.causes) == ("unknown", ())
    assert [item.id for item in found.findings] == [CLOSED.id]


def test_advice_is_filled_from_facts_and_told_once() -> None:
    facts = {"port": 5432, "source": "sg-nodes", "group": "sg-1"}
    found = verdict(changed(CLOSED, facts=facts), changed(CLOSED, object="sg-2", facts=facts))
    assert found.causes[0].next == ("put the ingress rule for TCP 5432 from sg-nodes back into sg-1",)
    assert found.do_not == ["restart: a new pod could not connect to its database"]
    assert verdict(CLOSED).causes[0].next == ("put the ingress rule for TCP <port> from <source> back into <group>",)


def test_json_of_a_cause() -> None:
    document = verdict(CLOSED, TIMEOUT).as_json()["causes"][0]
    assert document["id"] == "database.security_group_closed"
    assert document["section"] == "database"
    assert document["explains"] == ["database.connect_timeout"]
    again, other = verdict(CLOSED).causes[0], verdict(changed(CLOSED, object="sg-2")).causes[0]
    assert document["fingerprint"] == again.fingerprint != other.fingerprint


def test_one_object_on_several_flows_is_one_cause() -> None:
    facts = {"policies": "networkpolicy/p", "destination": "the database"}
    first = Finding("network_policy.egress_denied", "networkpolicy/p", "no way out", ("a",), TO_DATABASE, facts=facts)
    second = changed(
        first, flow=TO_OBJECT_STORAGE, evidence=("b",), measured=True, facts={**facts, "destination": "S3"}
    )
    found = verdict(first, second, TIMEOUT)
    [cause] = found.causes
    assert cause.finding.evidence == ("a", "b")
    assert cause.finding.measured
    assert [line.rpartition(" to ")[2] for line in cause.next] == ["the database", "S3"]
    assert "database.connect_timeout" in cause.explains
