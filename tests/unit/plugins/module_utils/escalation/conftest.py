# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles of recorded evidence, as the tests of this folder need them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import parse_time
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import text
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import from_variables
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation import bundle, contents, replay, ticket

RECORDS = Path(__file__).parents[4] / "evidence"
VERSION = "0.1.0"


@dataclass(frozen=True)
class Recorded:
    """One recorded fault with everything that its bundle is made of."""

    expected: Mapping[str, Any]
    evidence: EvidenceSet
    report: Mapping[str, Any]
    parts: Mapping[str, bytes]
    left_out: list[contents.LeftOut]
    now: datetime

    @property
    def packed(self) -> bytes:
        manifest = bundle.make_manifest(self.report, self.parts, self.left_out, VERSION, "2026-11-27T12:00:00Z")
        return bundle.write_bundle(self.report, self.parts, manifest)


def recorded(path: Path) -> Recorded:
    """Make what ``escalate`` makes of a diagnosis, out of a record."""
    record = json.loads(path.read_text(encoding="utf-8"))
    evidence = EvidenceSet.from_json(json.dumps(record["evidence"]))
    now = max(parse_time(item.at) for item in evidence)
    namespace = next(item.subject for item in evidence if item.what == "kubernetes.namespace")
    settings = from_variables({"mlflow_namespace": namespace})
    context = replay.context_of(settings, "lab", now, "", {})
    started = {"started": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    report = replay.judge(bundle.Bundle({}, context, started, evidence))
    documents = {
        "context.json": contents.pretty(context),
        "ticket.txt": ticket.ticket(report, "bundle.tar.gz"),
        "report.txt": text(report),
    }
    parts, left_out = contents.fit(contents.build_parts(report, evidence, documents, []))
    return Recorded(record["expected"], evidence, report, parts, left_out, now)


@pytest.fixture(scope="session")
def closed() -> Recorded:
    """A closed security group."""
    return recorded(RECORDS / "security_group_rule_removed.json")
