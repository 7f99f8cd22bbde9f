# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bundle holds, within which limits, and that it says the same again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.changes import Change
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence, EvidenceSet, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.secret_scan import scan
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation import tables
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.archive import BundleError
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.attempts import attempts, attempts_text
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.bundle import Bundle, read_bundle
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.contents import (
    LeftOut,
    Part,
    cut_to_size,
    file_name,
    fit,
    missing_logs,
    smaller,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.replay import Replayed, compared, replay
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.ticket import TEAMS, question, ticket

from .conftest import RECORDS, VERSION, Recorded, recorded

AT = "2026-11-27T12:00:00Z"


def piece(what: str, value: object = None, state: State = State.OK, detail: str = "", subject: str = "") -> Evidence:
    return Evidence(what, "api", subject, AT, state, value, detail)


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json"))[::6], ids=lambda path: path.stem)
def test_a_bundle_says_what_was_recorded_and_holds_no_secret(path: Path) -> None:
    made = recorded(path)
    again = replay(read_bundle(made.packed), VERSION)
    assert again.same
    assert again.report["verdict"]["status"] == made.expected["status"]
    assert {cause["id"] for cause in again.report["verdict"]["causes"]} == {
        cause["id"] for cause in made.expected["causes"]
    }
    assert scan({name: content.decode() for name, content in made.parts.items()}, ["hunter-22-hunter"]) == {}


def test_every_part_that_the_next_team_asks_for(closed: Recorded) -> None:
    names = set(closed.parts)
    assert {
        "report.json",
        "report.txt",
        "evidence.json",
        "context.json",
        "ticket.txt",
        "connections.txt",
        "storage.txt",
        "changes.txt",
        "database.txt",
        "events.txt",
        "not-seen.txt",
    } <= names
    assert any(name.startswith("logs/") and name.endswith(".current.log") for name in names)
    assert any(name.startswith("kubernetes/deployments.") for name in names)
    assert any(name.startswith("aws/security_groups.") for name in names)


def test_the_connection_tests_stand_by_place_and_layer(closed: Recorded) -> None:
    lines = closed.parts["connections.txt"].decode().splitlines()
    assert lines[0].split() == ["FROM", "POD", "LAYER", "TO", "RESULT", "SECONDS", "WHAT", "IT", "SAID"]
    [database] = [line for line in lines if "rds.amazonaws.com:5432" in line and "TCP" in line]
    assert database.startswith("server's pod")
    assert "timeout" in database
    places = [line.partition("  ")[0] for line in lines[2:]]
    assert places == sorted(places, key=lambda place: place.startswith("namespace"))


def test_a_look_that_failed_is_told_and_not_taken_for_a_result() -> None:
    denied = Evidence("probe.tcp", "pod", "db:5432", AT, State.FORBIDDEN, None, "create pods/exec")
    assert "not looked (forbidden)" in tables.probes(EvidenceSet([denied]), tables.LAYERS)
    assert "create pods/exec" in tables.unseen(EvidenceSet([denied]))
    assert "not read: forbidden (rds:DescribeDBInstances)" in tables.database(
        EvidenceSet([Evidence("aws.db_instance", "aws", "x", AT, State.FORBIDDEN, None, "rds:DescribeDBInstances")])
    )


def test_cloud_logs_are_parts_and_what_is_missing_is_said() -> None:
    lines = {"lines": [{"at": AT, "text": "FATAL: no"}]}
    seen = EvidenceSet(
        [
            piece("aws.log", lines, State.PARTIAL, "only the last 400 events", "/aws/rds/instance/x/postgresql/x.0"),
            piece("aws.log", None, State.FORBIDDEN, "logs:DescribeLogGroups", "aws/containerinsights"),
            piece("kubernetes.pod_log", None, State.ABSENT, "no earlier run", "pod/c/previous"),
        ]
    )
    assert missing_logs(seen) == [
        LeftOut("log pod/c/previous", "all of it", "absent: no earlier run"),
        LeftOut("log /aws/rds/instance/x/postgresql/x.0", "older lines", "only the last 400 events"),
        LeftOut("log aws/containerinsights", "all of it", "forbidden: logs:DescribeLogGroups"),
    ]


def test_a_large_log_keeps_its_end_and_says_so() -> None:
    text = "".join(f"line {number}\n" for number in range(10_000))
    kept, left_out = fit([Part("logs/a.log", text, most=2048, newest_last=True)])
    content = kept["logs/a.log"].decode()
    assert content.endswith("line 9999\n")
    assert content.startswith("line ")
    assert len(content) <= 2048
    assert left_out == [
        LeftOut("logs/a.log", f"older lines ({(len(text) - len(content)) // 1024} KiB)", "larger than 2 KiB")
    ]


def test_a_text_is_cut_between_lines_and_never_within_a_character() -> None:
    assert cut_to_size(Part("a", "first\nsecond\nthird", most=14)) == (b"first\nsecond\n", 5)
    content, dummy = cut_to_size(Part("a", "ż" * 10, most=5))
    assert content.decode() == "żż"


def test_what_does_not_fit_in_all_is_left_out_and_the_rest_stays() -> None:
    parts = [Part("a", "x" * 10), Part("b", "y" * 100), Part("c", "z" * 10)]
    kept, left_out = fit(parts, most=30)
    assert set(kept) == {"a", "c"}
    assert left_out == [LeftOut("b", "all of it", "the bundle is full")]


def test_a_needed_part_is_never_cut() -> None:
    with pytest.raises(BundleError, match=r"evidence\.json is larger than a bundle may be"):
        fit([Part("evidence.json", "x" * 100, most=10, needed=True)])


def test_two_objects_with_one_file_name_are_both_kept() -> None:
    kept, dummy = fit([Part("logs/a.log", "1"), Part("logs/a.log", "2"), Part("logs/a.log", "3")])
    assert kept == {"logs/a.log": b"1", "logs/a-2.log": b"2", "logs/a-3.log": b"3"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("pod", "container"), "pod.container"),
        (("../../etc", "passwd"), "etc.passwd"),
        (("arn:aws:iam::1:role/x",), "arn-aws-iam-1-role-x"),
        (("", "..."), "part"),
    ],
)
def test_names_of_objects_become_safe_file_names(names: tuple[str, ...], expected: str) -> None:
    assert file_name(*names) == expected


def test_a_long_name_keeps_both_ends() -> None:
    name = file_name("begin" + "x" * 200, "current")
    assert name.startswith("beginx")
    assert name.endswith(".current")
    assert len(name) <= 100


def test_evidence_that_is_too_large_loses_what_no_cause_cites() -> None:
    evidence = EvidenceSet([piece("a", "x" * 500), piece("b", "y" * 400), piece("c", "z" * 10)])
    kept, left_out = smaller(evidence, ["a@api"], most=1000)
    assert [item.state for item in kept] == [State.OK, State.SKIPPED, State.OK]
    assert [item.what for item in left_out] == ["b@api"]
    with pytest.raises(BundleError, match="evidence of the causes alone"):
        smaller(evidence, ["a@api", "b@api", "c@api"], most=1000)


def test_a_newer_version_may_judge_otherwise_and_says_so(closed: Recorded) -> None:
    bundle = read_bundle(closed.packed)
    older = Bundle(
        {**bundle.manifest, "version": "0.0.1"}, bundle.context, {**bundle.report, "verdict": {}}, bundle.evidence
    )
    again = replay(older, VERSION)
    assert not again.same
    assert again.remarks == (
        "the bundle was written by version 0.0.1, this is version 0.1.0",
        "the verdict differs: then None (no cause), now down (database.security_group_closed)",
    )


def test_a_replay_says_which_evidence_is_missing(closed: Recorded) -> None:
    bundle = read_bundle(closed.packed)
    left_out = [{"part": "evidence.json", "what": "x", "why": "y"}]
    manifest = {**bundle.manifest, "left_out": left_out}
    remarks = compared(replace(bundle, manifest=manifest), bundle.report, VERSION, same=True)
    assert remarks[-1] == "1 pieces of evidence were too large for the bundle"


def test_a_replay_shows_nothing_that_a_terminal_would_obey(closed: Recorded) -> None:
    from ansible_collections.mlops.mlflow_runbook.plugins.action.replay import shown

    bundle = read_bundle(closed.packed)
    report = replay(bundle, VERSION).report
    report["verdict"]["causes"][0]["summary"] = "\x1b]0;owned\x07\x1b[2J"
    assert "\x1b" not in shown(Replayed(report, (), same=True))


def test_the_ticket_asks_each_team_one_question(closed: Recorded) -> None:
    text = ticket(closed.report, "bundle.tar.gz")
    for team in TEAMS:
        assert sum(line.startswith(f"{team}: ") for line in text.splitlines()) == 1
    assert "Attached: bundle.tar.gz" in text
    assert "Can you put it right" in question("Network", closed.report)
    assert question("Database", closed.report).startswith("nothing to repair on your side was found")


def test_a_team_is_asked_for_what_could_not_be_seen(closed: Recorded) -> None:
    hidden = {"what": "aws.db_instance@aws/x", "why": "not permitted", "needs": "rds:DescribeDBInstances"}
    verdict = {**closed.report["verdict"], "causes": [], "status": "unknown", "unknown": [hidden]}
    report = {**closed.report, "verdict": verdict}
    assert "grant rds:DescribeDBInstances" in question("Database", report)
    assert question("Network", report).startswith("no cause was found")


def test_earlier_attempts_and_their_outcome() -> None:
    reports: list[dict[str, Any]] = [
        {"started": "2026-11-27T11:00:00Z", "verdict": {"status": "down", "causes": [{"id": "a.b"}]}},
        {
            "started": "2026-11-27T11:05:00Z",
            "verdict": {"status": "down"},
            "actions": [{"step": "restart", "changed": True}],
            "outcome": "unchanged",
        },
    ]
    record = {
        "step": "restart",
        "cause": "a.b",
        "object": "deployment/x",
        "at": AT,
        "state": "judged",
        "outcome": "fixed",
    }
    rows = attempts(reports, [record])
    assert rows == [
        ("2026-11-27T11:00:00Z", "down (a.b)", "diagnosed", ""),
        ("2026-11-27T11:05:00Z", "down", "restart (changed)", "unchanged"),
        (AT, "a.b", "restart of deployment/x", "fixed"),
    ]
    assert "unchanged" in attempts_text(rows)
    assert attempts_text([]).startswith("Nothing was tried before")


def test_changes_name_who_changed_what() -> None:
    text = tables.changed([Change(AT, "secret/x", "kubectl-edit", "changed")])
    assert text.splitlines()[2].split() == [AT, "secret/x", "kubectl-edit", "changed"]


def test_the_report_in_a_bundle_is_the_whole_report(closed: Recorded) -> None:
    assert json.loads(closed.parts["report.json"]) == json.loads(json.dumps(closed.report))
