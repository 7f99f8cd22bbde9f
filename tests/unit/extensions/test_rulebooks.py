# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rulebooks answer, run and pass on."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import KNOWN

from tests.lab.settings import REPOSITORY

FOLDER = REPOSITORY / "extensions" / "eda" / "rulebooks"
REGEX = re.compile(r'event\.labels\.(?P<label>\w+) is regex\("(?P<pattern>[^"]+)"\)')
DOWN = ("MLflowDown", "MLflowServerDown", "MLflowAllPodsDown", "MLflowApiUnavailable", "MLflowCrashLoopExit0")
OTHER = ("MLflowHighLatency", "MLflowThrottled", "MLflowBadRequestSpike", "MLflowPostgresConnectionPoolExhausted")


def rules() -> list[dict[str, Any]]:
    rulesets = [item for path in sorted(FOLDER.glob("*.yml")) for item in yaml.safe_load(path.read_text())]
    return [rule for ruleset in rulesets for rule in ruleset["rules"]]


def answered(rule: dict[str, Any], labels: dict[str, str]) -> bool:
    """Tell whether the labels pass the patterns of a rule's condition."""
    return all(re.search(match["pattern"], labels[match["label"]]) for match in REGEX.finditer(rule["condition"]))


def first_answer(name: str, namespace: str = "mlflow") -> str:
    """Return the playbook that an alert leads to when operating steps are allowed; empty when to none."""
    labels = {"alertname": name, "namespace": namespace}
    fitting = [rule["action"]["run_playbook"]["name"] for rule in rules() if answered(rule, labels)]
    return fitting[0].rpartition(".")[2] if fitting else ""


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["name"])
def test_a_rule_runs_a_playbook_that_exists_with_variables_that_exist(rule: dict[str, Any]) -> None:
    run = rule["action"]["run_playbook"]
    assert (REPOSITORY / "playbooks" / f"{run['name'].removeprefix('mlops.mlflow_runbook.')}.yml").exists()
    assert set(run["extra_vars"]) <= KNOWN
    assert {match["label"] for match in REGEX.finditer(rule["condition"])} == {"alertname", "namespace"}


@pytest.mark.parametrize("name", DOWN)
def test_a_server_that_is_down_may_be_repaired(name: str) -> None:
    assert first_answer(name) == "remediate"


@pytest.mark.parametrize("name", OTHER)
def test_every_other_alert_about_mlflow_leads_to_a_diagnosis(name: str) -> None:
    assert first_answer(name) == "diagnose"


def test_alerts_about_others_are_left_alone() -> None:
    assert first_answer("KubePodCrashLooping") == ""


@pytest.mark.parametrize(
    "namespace", ["{{ lookup('pipe', 'id') }}", "a b", "A", "-a", "a\nmlflow", "", "mlflow\n{{ 1 }}"]
)
def test_what_does_not_look_like_a_namespace_is_not_passed_on(namespace: str) -> None:
    assert first_answer("MLflowDown", namespace) == ""


def test_no_rule_carries_an_approval() -> None:
    assert not any("mlflow_approved_plan" in rule["action"]["run_playbook"]["extra_vars"] for rule in rules())
