# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.audit import (
    document,
    judge,
    remarks,
    status_of,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.catalogue import BY_ID, KINDS
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.items import Grade, Item
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.text import text

from .conftest import PREPARED, Audited

AREAS = {
    "aws.db_instance": ("database.",),
    "aws.alarms": ("alarms.",),
    "aws.bucket": ("storage.",),
    "aws.role": ("identity.trust",),
    "aws.role_policies": ("identity.least_privilege",),
    "kubernetes.prometheusrules": ("alerts.",),
    "kubernetes.secrets": ("connections.secret_age",),
    "kubernetes.horizontalpodautoscalers": ("scaling.autoscaler",),
    "kubernetes.poddisruptionbudgets": ("scaling.disruption_budget",),
    "probe.query": ("scaling.connection_budget",),
}


def test_a_server_that_was_put_right_by_the_printed_commands_is_all_right(audited: Audited) -> None:
    assert {item.summary for item in audited.items().values() if item.grade is not Grade.OK} == set()


def test_every_item_of_the_catalogue_is_judged_once(audited: Audited) -> None:
    assert [item.id for item in judge(audited.context())] == [kind.id for kind in KINDS]


@pytest.mark.parametrize("state", [State.FORBIDDEN, State.UNREACHABLE])
@pytest.mark.parametrize("what", list(AREAS))
def test_what_could_not_be_looked_at_is_unknown_and_says_what_would_reveal_it(
    audited: Audited, what: str, state: State
) -> None:
    audited.hide(what, state, "some:Right")
    hidden = [item for item in audited.items().values() if item.id.startswith(AREAS[what])]
    assert hidden
    assert {item.grade for item in hidden} == {Grade.UNKNOWN}
    assert all(item.needs for item in hidden)
    assert state is not State.FORBIDDEN or all(item.needs == "some:Right" for item in hidden)


@pytest.mark.parametrize("what", list(AREAS))
def test_what_nobody_looked_at_is_unknown(audited: Audited, what: str) -> None:
    audited.drop(what)
    hidden = [item for item in audited.items().values() if item.id.startswith(AREAS[what])]
    assert {item.grade for item in hidden} == {Grade.UNKNOWN}


def test_nothing_but_the_workload_is_seen(audited: Audited) -> None:
    kept = ("kubernetes.namespace", "kubernetes.deployments")
    audited.drop(*{item.what for item in audited.evidence if item.what not in kept})
    graded = audited.items()
    assert {item.grade for id_, item in graded.items() if id_.startswith(("database", "alarms", "storage"))} == {
        Grade.UNKNOWN
    }
    assert {item.grade for id_, item in graded.items() if id_.startswith("pods.")} == {Grade.OK}


def test_status_is_the_worst() -> None:
    good, weak = Item("pods.startup", Grade.OK, ""), Item("pods.startup", Grade.WEAK, "")
    blind, missing = Item("pods.startup", Grade.UNKNOWN, ""), Item("pods.startup", Grade.MISSING, "")
    assert status_of([good]) == "ok"
    assert status_of([good, blind]) == "unknown"
    assert status_of([good, blind, weak]) == status_of([good, missing]) == "weak"


def test_owner_of_the_workload_is_named(audited: Audited) -> None:
    def helm(value: dict[str, list[dict[str, dict[str, dict[str, str]]]]]) -> None:
        value["items"][0]["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"

    assert remarks(audited.context()) == []
    said = remarks(audited.change("kubernetes.deployments", helm).context())
    assert said == ["deployment/mlflow is managed by Helm: put the change into the chart's values"]


def test_text_holds_every_gap_with_its_risk_and_every_patch(audited: Audited) -> None:
    audited.hide("aws.bucket", State.FORBIDDEN, "s3:ListBucket")
    audited.change("aws.db_instance", lambda value: value.update(MultiAZ=False, BackupRetentionPeriod=0))
    items = judge(audited.context())
    report = document(
        server={"namespace": "pv", "name": "mlflow"},
        started="2026-01-01T12:00:00Z",
        seconds={"total": 1.0},
        calls={},
        items=items,
        said=["managed by Helm"],
    )
    shown, flat = text(report), " ".join(text(report).split())
    assert json.loads(json.dumps(report)) == report
    assert "3 missing · 0 weak · 3 unknown" in shown
    assert "aws rds modify-db-instance --db-instance-identifier pv --multi-az --apply-immediately" in shown
    assert shown.count("--backup-retention-period 7") == 1
    assert BY_ID["database.multi_az"].risk in flat
    assert "needs: s3:ListBucket" in flat
    assert "managed by Helm" in shown


def test_text_of_a_server_that_was_not_found() -> None:
    report = document(
        server={"namespace": "pv", "name": ""},
        started="2026-01-01T12:00:00Z",
        seconds={},
        calls={},
        items=(),
        said=(),
        problem="namespace pv does not exist",
    )
    assert report["status"] == "unknown"
    assert "namespace pv does not exist" in text(report)


UNDECIDED = frozenset({"two_servers"})
"""Records in which no one server can be chosen."""
RECORDS = [path for path in sorted(PREPARED.parents[1].glob("*.json")) if path.stem not in UNDECIDED]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_every_recorded_server_can_be_audited_and_what_a_diagnosis_does_not_read_stays_unknown(path: Path) -> None:
    audited = Audited(json.dumps(json.loads(path.read_text(encoding="utf-8"))["evidence"]))
    items = {item.id: item for item in judge(audited.context())}
    assert list(items) == [kind.id for kind in KINDS]
    assert all(item.needs for item in items.values() if item.grade is Grade.UNKNOWN)
    unread = {item.grade for id_, item in items.items() if id_.startswith(("alarms.", "alerts."))}
    assert unread == {Grade.UNKNOWN}
