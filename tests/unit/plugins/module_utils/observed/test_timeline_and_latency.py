# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time line tells changes and failures in their order, and not what belongs to any start."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.observed.latency import layers
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.observed.timeline import MOST, timeline

from tests.recorded import NAMES, judged


def told(name: str) -> list[dict[str, Any]]:
    seen = judged(name)
    return timeline(seen.context, seen.verdict)


@pytest.mark.parametrize("name", [name for name in NAMES if judged(name).target])
def test_it_is_short_and_in_order(name: str) -> None:
    rows = told(name)
    assert len(rows) <= MOST
    assert [row["at"][:19] for row in rows] == sorted(row["at"][:19] for row in rows)
    assert all(len(row["what"]) < 130 and "\n" not in row["what"] for row in rows)


def test_the_change_comes_before_what_it_did() -> None:
    kinds = [(row["kind"], row["what"]) for row in told("out_of_memory")]
    change = next(index for index, (kind, what) in enumerate(kinds) if kind == "change" and "limits.memory" in what)
    ended = next(index for index, (kind, what) in enumerate(kinds) if kind == "failure" and "OOMKilled" in what)
    assert change < ended


def test_a_failure_that_is_over() -> None:
    kinds = [row["kind"] for row in told("database_recovered")]
    assert kinds.index("failure") < kinds.index("recovery") == len(kinds) - 1
    assert any("RDS: DB instance stopped" in row["what"] for row in told("database_recovered"))


def test_failed_probes_of_a_start_that_went_well_are_no_news() -> None:
    seen = judged("healthy")
    events = seen.evidence.objects("kubernetes.events", seen.namespace)
    assert any(event.get("reason") == "Unhealthy" for event in events)
    assert not any("Unhealthy" in row["what"] for row in told("healthy"))


def test_layers_of_a_closed_port() -> None:
    rows = {row["layer"]: row for row in layers(judged("security_group_rule_removed").context)}
    assert list(rows) == ["name", "connect", "/health", "database call", "artifact call"]
    assert [name for name, row in rows.items() if row["failed"]] == ["connect", "database call"]
    assert rows["connect"]["said"] == "no answer within 5.0 s"


def test_layers_of_a_slow_database() -> None:
    rows = {row["layer"]: row for row in layers(judged("latency_database_slow").context)}
    assert rows["database call"]["slow"]
    assert not rows["/health"]["slow"]
    assert not any(row["failed"] for row in rows.values())
