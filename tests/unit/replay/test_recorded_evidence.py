# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence recorded from really broken servers leads to the recorded verdict, without a cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence, EvidenceSet, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import parse_time
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import from_variables
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.verdict import Verdict
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.diagnosis import analyze

FOLDER = Path(__file__).parents[2] / "evidence"
RECORDS = sorted(FOLDER.glob("*.json"))


def judge(evidence: EvidenceSet) -> Verdict:
    namespace = next(item.subject for item in evidence if item.what == "kubernetes.namespace")
    now = max(parse_time(item.at) for item in evidence)
    return analyze(evidence, from_variables({"mlflow_namespace": namespace}), now).verdict


def load(path: Path) -> tuple[dict[str, Any], EvidenceSet]:
    record = json.loads(path.read_text(encoding="utf-8"))
    return record, EvidenceSet.from_json(json.dumps(record["evidence"]))


def causes(verdict: Verdict) -> set[tuple[str, str]]:
    return {(cause.finding.id, cause.finding.object) for cause in verdict.causes}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_recorded_evidence_leads_to_the_recorded_verdict(path: Path) -> None:
    record, evidence = load(path)
    verdict = judge(evidence)
    assert causes(verdict) == {(cause["id"], cause["object"]) for cause in record["expected"]["causes"]}
    assert verdict.status == record["expected"]["status"]


def blinded(evidence: EvidenceSet, hidden: str) -> EvidenceSet:
    """Return the evidence of an operator who may not look at one kind of fact."""

    def blind(item: Evidence) -> Evidence:
        if not item.what.startswith(hidden):
            return item
        return replace(item, state=State.FORBIDDEN, value=None, detail=f"get {hidden}")

    return EvidenceSet([blind(item) for item in evidence])


@pytest.mark.parametrize("hidden", ["probe.", "aws.", "kubernetes.secrets", "kubernetes.pod_log", "kubernetes."])
@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_blindness_adds_no_cause_and_is_never_healthy(path: Path, hidden: str) -> None:
    """Whoever sees less may name it less precisely, or what it explains, and nothing else."""
    record, evidence = load(path)
    verdict = judge(blinded(evidence, hidden))
    seen_by_all = {cause["id"] for cause in record["expected"]["causes"]} | {
        item.id for item in judge(evidence).findings
    }
    assert {cause.finding.id for cause in verdict.causes} <= seen_by_all
    if record["expected"]["status"] not in ("healthy", "recovered"):
        assert verdict.status != "healthy"
    if any(item.what.startswith(hidden) for item in evidence):
        assert any(entry.needs.startswith(f"get {hidden}") for entry in verdict.unknown)


def test_there_is_recorded_evidence() -> None:
    assert len(RECORDS) >= 10
