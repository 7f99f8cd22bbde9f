# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of a repair."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.outcome import believed, judge_outcome

CLOSED = ("database.security_group_closed", "sg-1")
ROLE = ("artifact_store.role_policy_denies", "role")


def verdict(
    status: str,
    *causes: tuple[str, str],
    sources: tuple[str, ...] = (),
    works: bool | None = True,
    **impact: bool | None,
) -> dict[str, Any]:
    named = [{"id": identifier, "object": subject} for identifier, subject in causes]
    capabilities = dict.fromkeys(("reads", "writes", "artifacts", "registry"), works)
    return {"status": status, "causes": named, "impact": {**capabilities, "sources": list(sources), **impact}}


DOWN = verdict("down", CLOSED, works=False, sources=("argo",))
AT_RISK = verdict("at_risk", CLOSED)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (DOWN, verdict("healthy"), "fixed"),
        (AT_RISK, verdict("healthy"), "fixed"),
        (DOWN, verdict("degraded", ROLE, artifacts=False), "improved"),
        (DOWN, verdict("down", ROLE, works=False), "improved"),
        (DOWN, verdict("at_risk", ("database.security_group_closed", "sg-2")), "improved"),
        (DOWN, DOWN, "unchanged"),
        (DOWN, verdict("at_risk", CLOSED), "unchanged"),
        (DOWN, verdict("degraded", CLOSED, ROLE, artifacts=False), "unchanged"),
        (DOWN, verdict("unknown", works=None), "unknown"),
        (DOWN, verdict("unknown", CLOSED, works=None), "unknown"),
        (AT_RISK, verdict("down", CLOSED, reads=False), "worse"),
        (AT_RISK, verdict("degraded", artifacts=False), "worse"),
        (AT_RISK, verdict("degraded", sources=("argo",)), "worse"),
        (AT_RISK, verdict("unknown", works=None, registry=False), "worse"),
        (AT_RISK, verdict("healthy", works=None), "fixed"),
        (verdict("healthy"), verdict("healthy"), "fixed"),
        (verdict("healthy"), AT_RISK, "worse"),
        (verdict("healthy"), verdict("unknown", works=None), "unknown"),
        (DOWN, verdict("degraded", ROLE, sources=("argo", "batch")), "worse"),
        (DOWN, verdict("degraded", ROLE, sources=("argo",)), "improved"),
    ],
)
def test_outcomes(before: dict[str, Any], after: dict[str, Any], expected: str) -> None:
    assert judge_outcome(before, after, {CLOSED}) == expected


@pytest.mark.parametrize(
    ("outcome", "stable", "told"),
    [
        ("fixed", True, "fixed"),
        ("fixed", False, "unknown"),
        ("improved", False, "unknown"),
        ("unchanged", False, "unchanged"),
        ("worse", False, "worse"),
    ],
)
def test_a_success_that_has_not_lasted_is_none(outcome: str, stable: bool, told: str) -> None:
    assert believed(outcome, stable=stable) == told
