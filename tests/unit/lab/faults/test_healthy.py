# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which moments of healthy servers are tried, and how they are summed up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tests.lab.faults import healthy


def options(**changes: Any) -> healthy.Options:
    return healthy.Options(Path("unused"), **changes)


def test_every_situation_is_tried_about_as_often() -> None:
    rows = healthy.moments(options(count=100, jobs=2))
    counts = Counter(row.situation for row in rows)
    assert len(rows) == 100
    assert set(counts) == set(healthy.situations())
    assert max(counts.values()) - min(counts.values()) <= 1


def test_moments_lie_within_the_situation_and_servers_have_both_layouts() -> None:
    known = healthy.situations()
    rows = healthy.moments(options(count=60, jobs=2))
    assert all(0 <= row.moment <= known[row.situation].seconds for row in rows)
    assert {(row.server, row.layout) for row in rows} == {("healthy-1", "mlflow"), ("healthy-2", "asgard")}


def test_a_seed_repeats_the_moments() -> None:
    assert healthy.moments(options(seed=7)) == healthy.moments(options(seed=7))
    assert healthy.moments(options(seed=7)) != healthy.moments(options(seed=8))


def test_the_summary_counts_causes_and_problems() -> None:
    rows = [
        healthy.Row("healthy-1", "mlflow", "idle", 1.0, "healthy", [], 2.0),
        healthy.Row("healthy-1", "mlflow", "idle", 2.0, "down", ["pods.evicted pod/x"], 4.0),
        healthy.Row("healthy-2", "asgard", "busy", 2.0, problem="the lab is not up"),
    ]
    assert healthy.summary(rows) == [
        {
            "situation": "idle",
            "diagnoses": 2,
            "without_cause": 1,
            "statuses": {"down": 1, "healthy": 1},
            "median_seconds": 3.0,
        },
        {
            "situation": "busy",
            "diagnoses": 1,
            "without_cause": 0,
            "statuses": {"none": 1},
            "median_seconds": 0.0,
        },
    ]
