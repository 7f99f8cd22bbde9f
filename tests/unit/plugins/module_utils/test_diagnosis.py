# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the whole says that no section says alone."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils import diagnosis
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Finding, SectionResult
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.verdict import Impact

from .sections.conftest import (
    HOST,
    SEARCH,
    SOURCE,
    MakeContext,
    context,
    deployment,
    endpoints,
    listed,
    probe,
    server_pod,
    service,
)

__all__ = ["context"]
INSIDE = probe("http", f"http://127.0.0.1:5000{SEARCH}", place="pod", status=200)
REACHED = probe("tcp", "10.0.0.1:5000")


def impact(made: Any) -> Impact:
    return diagnosis.measure_impact(made, [diagnosis.ANALYZERS["service"](made)])


@pytest.mark.parametrize(
    ("changes", "reads", "sources"),
    [
        ([probe("tcp", HOST, tries=8, failures=[])], True, ()),
        ([probe("tcp", HOST, "refused"), REACHED], False, ("argo",)),
        ([probe("tcp", HOST, "refused"), probe("tcp", "10.0.0.1:5000", "refused")], True, ("argo",)),
        ([listed("services", service(target=8080)), probe("tcp", HOST, "refused")], False, ("argo",)),
        ([listed("services", service(selector={"app": "x"})), listed("endpointslices", endpoints())], False, ()),
        ([probe("tcp", HOST, tries=8, failures=["refused"])], True, ()),
    ],
    ids=["well", "the Service only", "all of the way", "a wrong port", "a wrong selector, unseen", "sometimes"],
)
def test_who_is_served(context: MakeContext, changes: list[Evidence], reads: bool, sources: tuple[str, ...]) -> None:
    found = impact(context(INSIDE, *changes))
    assert (found.reads, found.sources) == (reads, sources)


def findings(result: SectionResult) -> set[str]:
    return {item.id for item in result.findings}


def test_a_replica_that_fails_alone_says_nothing_about_the_database(
    context: MakeContext,
) -> None:
    def tcp(pod: str, outcome: str) -> Evidence:
        return probe("tcp", "db.example.com:5432", outcome, place="pod", probe_pod=pod)

    made = context(
        listed("pods", server_pod(), server_pod("mlflow-2", "10.0.0.2")),
        listed("deployments", deployment(2)),
        probe("http", f"http://10.0.0.1:5000{SEARCH}", place=SOURCE, status=200),
        probe("http", f"http://10.0.0.2:5000{SEARCH}", place=SOURCE, status=503),
        tcp("mlflow-1", "ok"),
        tcp("mlflow-2", "refused"),
    )
    proven = Finding("pods.out_of_memory", "deployment/mlflow", "", ("x",), configured=True, measured=True)
    guessed = Finding("database.not_listening", "db", "", ("x",), measured=True)
    results = {
        "service": diagnosis.ANALYZERS["service"](made),
        "database": diagnosis.ANALYZERS["database"](made),
        "pods": SectionResult(findings=[proven, guessed]),
    }
    assert "database.connect_refused" in findings(results["database"])
    kept = set().union(*(findings(result) for result in diagnosis.localised(made, results)))
    assert kept == {"service.replica_failing", "pods.out_of_memory"}
