# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of a repair, judged by two verdicts on the same server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIXED, IMPROVED, UNCHANGED, WORSE, UNKNOWN = "fixed", "improved", "unchanged", "worse", "unknown"
WELL = frozenset({"healthy", "recovered"})
CAPABILITIES = ("reads", "writes", "artifacts", "registry")


def names(verdict: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(cause["id"], cause["object"]) for cause in verdict["causes"]}


def lost(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether anything that worked before does not work now, or a server that was well is not any more."""
    if before["status"] in WELL and after["causes"] and after["status"] not in WELL:
        return True
    was, now = before["impact"], after["impact"]
    capability_lost = any(was[name] is True and now[name] is False for name in CAPABILITIES)
    return capability_lost or bool(set(now["sources"]) - set(was["sources"]))


def believed(outcome: str, *, stable: bool) -> str:
    """Return what may be told when the time to look is over: a success that has not lasted is none.

    Args:
        outcome: what the last look says.
        stable: whether it has stayed so for the settle window, with no rollout on its way.
    """
    return UNKNOWN if outcome in (FIXED, IMPROVED) and not stable else outcome


def judge_outcome(before: Mapping[str, Any], after: Mapping[str, Any], repaired: set[tuple[str, str]]) -> str:
    """Compare verdicts.

    Args:
        before: verdict JSON that the plan was made from.
        after: verdict JSON after the settle window.
        repaired: ids and objects of the causes that the steps were for.
    """
    if lost(before, after):
        return WORSE
    if after["status"] == "unknown":
        return UNKNOWN
    if names(after) & repaired:
        return UNCHANGED
    return FIXED if after["status"] in WELL else IMPROVED
