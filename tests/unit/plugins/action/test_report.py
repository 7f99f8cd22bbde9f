# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a playbook fails, and with which sentence; which files a report leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.action import report as action
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import History, Run

from tests.recorded import judged, report_on

CAUSE = {"id": "service.port_mismatch", "owner": "service", "next": ["put the port right", "then look again"]}
REFUSED = {"step": "restart", "guard": "paused", "reason": "audit"}


def document(status: str = "down", **more: Any) -> dict[str, Any]:
    causes = [CAUSE] if status == "down" else []
    return {
        "server": {"name": "mlflow"},
        "verdict": {"status": status, "causes": causes, "unknown": []},
        "plan": {"steps": [{"step": "restart", "class": "operating"}, {"step": "propose_x", "class": "proposed"}]},
        "refused": [],
        "outcome": None,
        **more,
    }


@pytest.mark.parametrize(
    ("fail_on", "status", "words"),
    [
        ("none", "down", ""),
        ("none", "unknown", ""),
        ("cause", "down", "cause found: service.port_mismatch"),
        ("cause", "unknown", ""),
        ("unknown", "unknown", "the server could not be judged"),
        ("unknown", "down", "cause found: service.port_mismatch"),
        ("unknown", "healthy", ""),
    ],
)
def test_a_problem_fails_a_diagnosis_only_when_it_is_wanted(fail_on: str, status: str, words: str) -> None:
    settings = Settings(namespace="ml", fail_on=fail_on)
    assert action.failure_of(document(status), settings, require_repair=False) == words


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (document("healthy"), ""),
        (document("recovered"), ""),
        (document(outcome="fixed"), ""),
        (document(), "not repaired: restart: not named in mlflow_allowed_steps; next, service: put the port right"),
        (document(refused=[REFUSED]), "not repaired: restart: paused: audit; next, service: put the port right"),
        (
            document(outcome="improved"),
            "not repaired: the server is down, the outcome is improved; next, service: put the port right",
        ),
        (
            document("unknown", plan={"steps": []}),
            "not repaired: the server is unknown, and no step repairs that",
        ),
    ],
)
def test_a_repair_fails_unless_the_server_ends_well(report: dict[str, Any], words: str) -> None:
    assert action.failure_of(report, Settings(namespace="ml"), require_repair=True) == words


def test_several_servers_in_one_namespace_fail_with_the_choice() -> None:
    report = document("unknown", server={"name": ""})
    report["verdict"]["unknown"] = [{"what": "two Deployments: a, b", "needs": "mlflow_deployment"}]
    assert action.failure_of(report, Settings(namespace="ml"), require_repair=False) == "two Deployments: a, b"


def publish(folder: Path, name: str, **more: Any) -> tuple[Path, History, dict[str, Any]]:
    recorded, report = judged(name), report_on(name)
    run = Run(str(folder / "run"))
    run.save(report, recorded.evidence.to_json())
    settings = Settings(namespace=recorded.namespace, report_dir=str(folder / "reports"), **more)
    path = Path(action.publish(run, report, settings))
    return path, History(path.parent), report


def test_a_report_is_three_files_twice_and_its_evidence(tmp_path: Path) -> None:
    path, history, report = publish(tmp_path, "security_group_rule_removed")
    assert json.loads(path.read_text()) == json.loads(path.with_name("latest.json").read_text())
    names = {item.name.replace(path.stem, "TIME") for item in path.parent.iterdir()}
    files = {f"{stem}.{suffix}" for stem in ("TIME", "latest") for suffix in ("json", "txt", "html")}
    assert names == files | {"TIME.evidence.json", "plans.json"}
    assert list(history.plans()) == [report["plan"]["digest"]]


def test_only_a_complete_look_at_a_healthy_server_is_a_baseline(tmp_path: Path) -> None:
    assert publish(tmp_path / "all", "healthy")[1].baseline()
    assert not publish(tmp_path / "part", "healthy", sections=("pods",))[1].baseline()
    assert not publish(tmp_path / "down", "security_group_rule_removed")[1].baseline()
