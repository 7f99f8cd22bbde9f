# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was tried is remembered, counted, and not repeated without end."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core import attempts
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.attempts import (
    BEGUN,
    JUDGED,
    MOST_ATTEMPTS,
    MOST_BYTES,
    WRITTEN,
    Attempt,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    API,
    Evidence,
    EvidenceSet,
    State,
)

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
AT = "2026-01-01T12:00:00Z"
ME = "host:1:1:localhost"
ONE = Attempt("a", "restart", "x.y", "o", "deployment/mlflow", "d", AT, ME, JUDGED, "fixed", {"operation": "patch"})


def ago(minutes: float, **fields: Any) -> Attempt:
    moment = (NOW - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return dataclasses.replace(ONE, at=moment, **fields)


def test_a_history_survives_its_way() -> None:
    assert attempts.read(attempts.write([ONE])) == (ONE,)
    assert attempts.read("") == ()
    for text in ('[{"id": 1}]', "[1]", "{"):
        with pytest.raises(ValueError):  # noqa: PT011 - the reader's own words differ
            attempts.read(text)


def test_a_history_stays_small_and_keeps_the_newest() -> None:
    many = [dataclasses.replace(ONE, id=str(number)) for number in range(MOST_ATTEMPTS + 5)]
    assert [item.id for item in attempts.read(attempts.write(many))] == [str(n) for n in range(5, MOST_ATTEMPTS + 5)]
    large = [dataclasses.replace(ONE, id=str(number), change={"x": "y" * (MOST_BYTES // 3)}) for number in range(5)]
    text = attempts.write(large)
    assert len(text) <= MOST_BYTES
    assert json.loads(text)[-1]["id"] == "4"


def test_an_attempt_goes_on() -> None:
    begun = dataclasses.replace(ONE, state=BEGUN, outcome="")
    assert attempts.unfinished([begun]) == begun
    written = attempts.with_state([begun], "a", WRITTEN)
    assert attempts.unfinished(written) is not None
    assert attempts.unfinished(attempts.with_state(written, "a", JUDGED, "fixed")) is None
    assert attempts.unfinished([begun, ONE]) is None
    assert attempts.unfinished([]) is None


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ([], ""),
        ([ago(30)], ""),
        ([ago(5)], "the next one is allowed 600 s later"),
        ([ago(30, outcome="unchanged")], "ended unchanged"),
        ([ago(30, outcome="", state=BEGUN)], "never judged"),
        ([ago(60), ago(30)], "2 times in 6 hours"),
        ([ago(7 * 60, outcome="unchanged")], ""),
        ([ago(30, outcome="unchanged", cause="other.cause")], ""),
        ([ago(30, outcome="unchanged", step="scale_out")], ""),
        ([ago(30, outcome="unchanged", change={"operation": "wait"})], ""),
    ],
)
def test_anything_but_success_uses_the_budget_up(known: list[Attempt], words: str) -> None:
    told = attempts.exhausted(known, "restart", "x.y", NOW, 2, timedelta(minutes=10))
    assert words in told
    assert bool(told) == bool(words)


@pytest.mark.parametrize(
    ("own", "cluster", "words"),
    [
        ([], (), ""),
        ([ago(30), ago(59)], (), "2 writes on this server"),
        ([ago(30), ago(61)], (), ""),
        ([], None, "list leases of all namespaces"),
        ([], ("2026-01-01T11:30:00Z",) * 5, "5 writes on servers of this cluster"),
        ([], ("2026-01-01T10:59:00Z",) * 5, ""),
    ],
)
def test_all_steps_together_have_a_rate(own: list[Attempt], cluster: tuple[str, ...] | None, words: str) -> None:
    told = attempts.over_rate(own, cluster, NOW)
    assert words in told
    assert bool(told) == bool(words)


def lease(holder: str = "other", renewed: str = "2026-01-01T11:59:30.000000Z", **metadata: Any) -> dict[str, Any]:
    named = {"name": "mlflow-runbook-mlflow", "namespace": "ml", **metadata}
    return {"metadata": named, "spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 60}}


@pytest.mark.parametrize(
    ("held", "busy"),
    [
        (lease(), True),
        (lease(ME), False),
        (lease("dead"), False),
        (lease("dead", renewed="2026-01-01T11:59:51.000000Z"), True),
        (lease(""), False),
        (lease(renewed="2026-01-01T11:58:59.000000Z"), False),
        (lease(namespace="elsewhere"), False),
        (lease(name="mlflow-runbook-tracking"), False),
    ],
)
def test_one_run_has_a_server(held: dict[str, Any], busy: bool) -> None:
    seen = EvidenceSet([Evidence("kubernetes.leases", API, "", AT, State.OK, {"items": [held]})])
    told = attempts.busy(seen, "ml", "mlflow", ME, frozenset({"dead"}), NOW)
    assert bool(told) == busy


def test_writes_are_counted_over_all_servers_or_not_at_all() -> None:
    rows = [lease(annotations={attempts.WRITES_ANNOTATION: "t1,t2"}), lease(name="b", annotations=None)]
    seen = EvidenceSet([Evidence("kubernetes.leases", API, "", AT, State.OK, {"items": rows})])
    assert attempts.cluster_writes(seen) == ("t1", "t2")
    assert attempts.cluster_writes(EvidenceSet([])) is None
    denied = Evidence("kubernetes.leases", API, "", AT, State.FORBIDDEN, detail="list leases")
    assert attempts.cluster_writes(EvidenceSet([denied])) is None


def config_map(text: str) -> EvidenceSet:
    item = {"metadata": {"name": "mlflow-runbook-mlflow"}, "data": {attempts.HISTORY_KEY: text}}
    return EvidenceSet([Evidence("kubernetes.configmaps", API, "ml", AT, State.OK, {"items": [item]})])


def test_a_history_that_was_not_seen_is_not_an_empty_one() -> None:
    assert attempts.of_server(config_map(attempts.write([ONE])), "ml", "mlflow") == ((ONE,), "")
    assert attempts.of_server(config_map("["), "ml", "mlflow")[1].startswith("configmap/mlflow-runbook-mlflow cannot")
    assert "could not be seen" in attempts.of_server(EvidenceSet([]), "ml", "mlflow")[1]


def test_what_can_be_taken_back() -> None:
    undo = {"operation": "patch"}
    assert attempts.last_to_undo([dataclasses.replace(ONE, undo=undo)]) is not None
    assert attempts.last_to_undo([dataclasses.replace(ONE, undo=undo, outcome="undone")]) is None
    assert attempts.last_to_undo([dataclasses.replace(ONE, undo=undo), ONE]) is None


def test_what_was_never_written_may_be_tried_once_more() -> None:
    abandoned = ago(1, outcome="abandoned")
    assert attempts.exhausted([abandoned], ONE.step, ONE.cause, NOW, 2, timedelta(minutes=10)) == ""
    again = attempts.exhausted([abandoned, abandoned], ONE.step, ONE.cause, NOW, 2, timedelta(minutes=10))
    assert "begun 2 times and never written" in again
    assert attempts.over_rate([abandoned, abandoned], (), NOW) == ""
    assert attempts.unwritten_plans([abandoned]) == {ONE.plan}
    assert attempts.unwritten_plans([abandoned, ONE]) == frozenset()
