# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report shows besides the verdict: changes, flow, time line, latency, proof; from the same evidence."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from .core.changes import recent_changes
from .core.discovery import Target
from .core.evidence import EvidenceSet
from .core.findings import Context
from .core.verdict import Verdict
from .core.workload import server_pods
from .observed.flow import hops
from .observed.latency import layers
from .observed.proof import proofs
from .observed.timeline import timeline


def observe(target: Target | None, evidence: EvidenceSet, verdict: Verdict, now: datetime) -> dict[str, Any]:
    """Return what was observed, as plain data for the report (see ``core.report.build``).

    Args:
        target: the server; without one there is nothing to show.
        evidence: everything that was collected, or that a bundle holds.
        verdict: the answer that it led to.
        now: the moment of the collection.
    """
    context = Context(target, evidence, now) if target else None
    names = [pod["metadata"]["name"] for pod in server_pods(context)] if context else []
    wanted: dict[str, list[str]] = {}
    for cause in verdict.causes:
        for key in cause.finding.evidence:
            wanted.setdefault(key, list(names)).append(cause.finding.object)
    for key in verdict.recovery.evidence if verdict.recovery else ():
        wanted.setdefault(key, list(names))
    return {
        "changes": [change.as_json() for change in recent_changes(context)] if context else [],
        "flow": hops(context, verdict) if context else [],
        "timeline": timeline(context, verdict) if context else [],
        "latency": layers(context) if context else [],
        "proof": proofs(evidence, wanted),
    }
