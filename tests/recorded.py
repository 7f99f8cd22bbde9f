# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded evidence, and the report that the code makes of it today."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context, parse_time
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.guards import Policy
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plan import Plan, make_plan
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import (
    build,
    plan_document,
    server_document,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import from_variables
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.step import Situation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.verdict import Verdict
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.diagnosis import analyze
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.observations import observe

FOLDER = Path(__file__).parent / "evidence"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@dataclass(frozen=True)
class Recorded:
    """One recorded diagnosis, judged again."""

    namespace: str
    evidence: EvidenceSet
    now: datetime
    target: Target | None
    verdict: Verdict

    @property
    def context(self) -> Context:
        assert self.target is not None
        return Context(self.target, self.evidence, self.now)


@cache
def judged(name: str) -> Recorded:
    """Judge a record of ``tests/evidence``."""
    record = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    evidence = EvidenceSet.from_json(json.dumps(record["evidence"]))
    namespace = next(item.subject for item in evidence if item.what == "kubernetes.namespace")
    now = max(parse_time(item.at) for item in evidence)
    found = analyze(evidence, from_variables({"mlflow_namespace": namespace}), now)
    return Recorded(namespace, evidence, now, found.discovery.target, found.verdict)


def plan_on(name: str, baseline: Mapping[str, Any] | None = None) -> Plan:
    """Return the plan for a record."""
    seen = judged(name)
    settings = from_variables({"mlflow_namespace": seen.namespace})
    situation = Situation(seen.context, baseline or {}, settings) if seen.target else None
    return make_plan(situation, seen.verdict, seen.evidence)


def report_on(name: str, baseline: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the report on a record, as ``diagnose`` writes it."""
    seen = judged(name)
    plan = plan_on(name, baseline)
    return build(
        server=server_document(seen.target, seen.evidence, seen.namespace, "lab"),
        started=seen.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        seconds={"total": 2.5},
        calls={},
        verdict=seen.verdict,
        plan=plan_document(plan, Policy((), "", seen.now)),
        observed=observe(seen.target, seen.evidence, seen.verdict, seen.now),
    )
