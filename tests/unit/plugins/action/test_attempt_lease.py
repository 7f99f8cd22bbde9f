# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run whose Lease is lost does not write, and does not record what it cannot know."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.action.attempt import carry_out
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.bookkeeper import BookkeepingFailed
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet


class FakeKeeper:
    """Has a Lease, or says why it is lost; counts what is recorded."""

    def __init__(self, lost: str) -> None:
        self.why = lost
        self.marks: list[str] = []

    def lost(self) -> str:
        return self.why

    def mark(self, identifier: str, state: str, outcome: str = "") -> None:
        self.marks.append(state)


def asked(keeper: Any, state: str) -> dict[str, Any]:
    return carry_out(keeper, {"state": state, "attempt": "a", "outcome": ""}, (), EvidenceSet(), {})


def test_with_its_lease_it_writes_over_a_fake_keeper() -> None:
    keeper = FakeKeeper("")
    asked(keeper, "held")
    asked(keeper, "written")
    assert keeper.marks == ["written"]


@pytest.mark.parametrize(("state", "words"), [("held", "nothing is written"), ("written", "could not be recorded")])
def test_without_its_lease_it_ends_over_a_fake_keeper(state: str, words: str) -> None:
    keeper = FakeKeeper("lease/x was taken by another")
    with pytest.raises(BookkeepingFailed, match=f"{words}.*lease/x was taken by another"):
        asked(keeper, state)
    assert keeper.marks == []
