# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was tried on a server and what became of it, from its earlier reports and from the record in its namespace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .tables import aligned

MOST = 50
Row = tuple[str, str, str, str]


def attempts(reports: Iterable[Mapping[str, Any]], recorded: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return time, status, step and outcome of each earlier look or attempt, oldest first.

    Args:
        reports: earlier reports of this server, of whatever version.
        recorded: attempts that the server's own record holds, as the report describes them.
    """
    rows = [row for report in reports for row in of_report(report)]
    rows += [of_record(item) for item in recorded]
    return sorted(rows)[-MOST:]


def of_report(report: Mapping[str, Any]) -> list[Row]:
    verdict = report.get("verdict") or {}
    causes = ", ".join(str(cause.get("id")) for cause in verdict.get("causes") or [])
    found = f"{verdict.get('status', 'unknown')}{f' ({causes})' if causes else ''}"
    started, outcome = str(report.get("started", "")), str(report.get("outcome") or "")
    done = report.get("actions") or []
    steps = [f"{item.get('step')} ({'changed' if item.get('changed') else 'not changed'})" for item in done]
    return [(started, found, step, outcome or "no outcome") for step in steps] or [
        (started, found, "diagnosed", outcome)
    ]


def of_record(item: Mapping[str, Any]) -> Row:
    """Return one attempt of the record: its cause, its step and what became of it."""
    step = f"{item.get('step')} of {item.get('object')}"
    return str(item.get("at", "")), str(item.get("cause", "")), step, str(item.get("outcome") or item.get("state"))


def attempts_text(rows: Iterable[Row]) -> str:
    """Write the attempts as a table."""
    listed = list(rows)
    if not listed:
        return "Nothing was tried before: there is no earlier report of this server on this machine.\n"
    return aligned(("TIME", "FOUND", "STEP", "OUTCOME"), listed)
