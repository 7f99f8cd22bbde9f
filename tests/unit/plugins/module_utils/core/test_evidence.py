# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence holds facts; its state is about our looking, not about the target."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    API,
    CLOUD,
    POD,
    Evidence,
    EvidenceSet,
    State,
    source_place,
)

AT = "2026-01-01T00:00:00Z"


def piece(
    state: State = State.OK, what: str = "probe.tcp", place: str = POD, subject: str = "db:5432", value: object = None
) -> Evidence:
    return Evidence(what, place, subject, AT, state, value)


@pytest.mark.parametrize(
    ("state", "seen", "conclusive"),
    [
        (State.OK, True, True),
        (State.PARTIAL, True, False),
        (State.ABSENT, False, True),
        (State.FORBIDDEN, False, False),
        (State.UNREACHABLE, False, False),
        (State.SKIPPED, False, False),
    ],
)
def test_what_a_state_may_prove(state: State, seen: bool, conclusive: bool) -> None:
    assert (piece(state).seen, piece(state).conclusive) == (seen, conclusive)


def test_keys() -> None:
    assert piece().key == "probe.tcp@pod/db:5432"
    assert piece(place=source_place("argo"), subject="").key == "probe.tcp@source:argo"


def test_looking_up() -> None:
    first = piece(State.UNREACHABLE)
    second = piece(value={"result": "ok"})
    other = piece(place=source_place("argo"), subject="mlflow:80", value={"result": "timeout"})
    items = EvidenceSet([first, second, other])
    assert items.all("probe.tcp") == [first, second, other]
    assert items.all("probe.tcp", POD) == [first, second]
    assert items.all("probe.tcp", subject="mlflow:80") == [other]
    assert items.first("probe.tcp", POD) is first
    assert items.first("probe.dns") is None
    assert items.value("probe.tcp", POD) == {"result": "ok"}
    assert items.value("probe.dns", default=7) == 7


def test_a_false_value_is_still_a_value() -> None:
    assert EvidenceSet([piece(value=0), piece(value=1)]).value("probe.tcp") == 0


def test_objects_of_one_namespace() -> None:
    def listing(subject: str, name: str, state: State = State.OK) -> Evidence:
        return piece(state, "kubernetes.pods", API, subject, {"items": [{"name": name}]} if state is State.OK else None)

    items = EvidenceSet(
        [
            listing("mlflow", "a"),
            listing("argo", "b"),
            listing("", "c"),
            listing("mlflow", "d", State.FORBIDDEN),
            piece(State.OK, "kubernetes.pods", CLOUD, "mlflow", {"items": [{"name": "e"}]}),
        ]
    )
    assert [item["name"] for item in items.objects("kubernetes.pods", "mlflow")] == ["a", "c"]
    assert [item["name"] for item in items.objects("kubernetes.pods")] == ["a", "b", "c"]


def test_there_and_back() -> None:
    items = EvidenceSet([piece(value={"result": "ok", "ö": [1, None]}), piece(State.FORBIDDEN)])
    again = EvidenceSet.from_json(items.to_json())
    assert again == items
    assert again.items[1].state is State.FORBIDDEN


@pytest.mark.parametrize(
    "text", ["{}x", "7", '"text"', "[7]", "[{}]", '[{"state": "ok"}]', '[{"state": "no such state"}]']
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        EvidenceSet.from_json(text)
