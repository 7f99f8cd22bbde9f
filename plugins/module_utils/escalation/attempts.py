# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was tried on a server and what became of it, from its earlier reports and from the cluster's own record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.evidence import EvidenceSet
from .tables import aligned, one_line

MOST = 50
RECORD = "mlflow-runbook"
"""Name of our ConfigMaps begins with it."""


def attempts(reports: Iterable[Mapping[str, Any]], evidence: EvidenceSet) -> list[tuple[str, str, str, str]]:
    """Return time, status, step and outcome of each earlier look or attempt, oldest first.

    Args:
        reports: earlier reports of this server, of whatever version.
        evidence: of this diagnosis, which holds ConfigMaps.
    """
    rows = [row for report in reports for row in of_report(report)]
    rows += [row for item in evidence.objects("kubernetes.configmaps") for row in of_record(item)]
    return sorted(rows)[-MOST:]


def of_report(report: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    verdict = report.get("verdict") or {}
    causes = ", ".join(str(cause.get("id")) for cause in verdict.get("causes") or [])
    found = f"{verdict.get('status', 'unknown')}{f' ({causes})' if causes else ''}"
    started, outcome = str(report.get("started", "")), str(report.get("outcome") or "")
    done = report.get("actions") or []
    steps = [f"{item.get('step')} ({'changed' if item.get('changed') else 'not changed'})" for item in done]
    return [(started, found, step, outcome or "no outcome") for step in steps] or [
        (started, found, "diagnosed", outcome)
    ]


def of_record(item: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return what a ConfigMap of ours says, as it says it."""
    metadata = item.get("metadata") or {}
    if not str(metadata.get("name", "")).startswith(RECORD):
        return []
    changed = max((str(row.get("time", "")) for row in metadata.get("lastChanged") or []), default="")
    at = changed or str(metadata.get("creationTimestamp", ""))
    return [
        (at, f"configmap/{metadata['name']}", key, one_line(text)) for key, text in (item.get("data") or {}).items()
    ]


def attempts_text(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """Write the attempts as a table."""
    listed = list(rows)
    if not listed:
        return "Nothing was tried before: there is no earlier report of this server on this machine.\n"
    return aligned(("TIME", "FOUND", "STEP", "OUTCOME"), listed)
