# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWX as code: its templates start playbooks that exist, and its surveys ask for variables as the roles know them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plan import STEPS
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import SECTIONS, from_variables

from tests.lab.settings import REPOSITORY

FOLDER = REPOSITORY / "extensions" / "patterns" / "tracking_server"
AT_A_DESK = {"open_dashboard", "replay"}
"""Playbooks that need the operator's own machine: a browser, a file."""
KINDS = {"str": {"text", "multiplechoice"}, "bool": {"multiplechoice"}, "list": {"multiselect"}, "int": {"integer"}}
ITEMS = {"mlflow_sections": list(SECTIONS), "mlflow_allowed_steps": sorted(STEPS)}
SURVEYS = {path.stem: path for path in sorted((FOLDER / "surveys").glob("*.yml"))}


def load(*parts: str) -> Any:
    return yaml.safe_load(FOLDER.joinpath(*parts).read_text(encoding="utf-8"))


def templates() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = load("templates.yml")["mlflow_runbook_templates"]
    return listed


def questions() -> list[Any]:
    return [pytest.param(item, id=f"{name}-{item['variable']}") for name in SURVEYS for item in spec(name)]


def spec(survey: str) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = load("surveys", f"{survey}.yml")["spec"]
    return asked


def options() -> dict[str, Any]:
    path = REPOSITORY / "roles" / "mlflow" / "meta" / "argument_specs.yml"
    known: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    return known


def test_every_playbook_has_a_template_unless_it_needs_a_desk() -> None:
    started = [item["playbook"] for item in templates()]
    assert sorted(started) == sorted({path.stem for path in (REPOSITORY / "playbooks").glob("*.yml")} - AT_A_DESK)
    assert sorted(started) == sorted(path.stem for path in (FOLDER / "project").glob("*.yml"))


@pytest.mark.parametrize("template", templates(), ids=lambda item: str(item["playbook"]))
def test_a_template_starts_the_playbook_of_its_name_with_a_survey_that_exists(template: dict[str, Any]) -> None:
    (play,) = load("project", f"{template['playbook']}.yml")
    assert play["ansible.builtin.import_playbook"] == f"mlops.mlflow_runbook.{template['playbook']}"
    assert template["survey"] in SURVEYS


def test_every_survey_is_used() -> None:
    assert {item["survey"] for item in templates()} == set(SURVEYS)


@pytest.mark.parametrize("question", questions())
def test_a_question_is_one_of_the_role_s_options(question: dict[str, Any]) -> None:
    option = options()[question["variable"]]
    assert question["type"] in KINDS[option["type"]]
    assert question["required"] is bool(option.get("required") or question["type"] == "multiplechoice")
    choices = ["true", "false"] if option["type"] == "bool" else option.get("choices")
    assert question.get("choices") == ITEMS.get(question["variable"], choices)
    usual = option.get("default", "")
    default = str(usual).lower() if option["type"] == "bool" else usual or ""
    assert question.get("default", "") == default


@pytest.mark.parametrize("survey", SURVEYS)
def test_answers_that_were_left_as_they_are_can_be_used(survey: str) -> None:
    answers = {item["variable"]: item.get("default", "") for item in spec(survey)}
    settings = from_variables({**answers, "mlflow_namespace": "ml"})
    assert settings == from_variables({"mlflow_namespace": "ml"})


def test_no_approval_is_stored() -> None:
    stored = [item for item in questions() if item.values[0]["variable"] == "mlflow_approved_plan"]
    assert [item.values[0].get("default") for item in stored] == [""]
    assert "mlflow_approved_plan" not in (FOLDER / "setup.yml").read_text(encoding="utf-8")


def test_the_setup_uses_only_modules_that_its_requirements_bring() -> None:
    (play,) = load("setup.yml")
    modules = {name for task in play["tasks"] for name in task if "." in name}
    assert modules == {
        "ansible.builtin.assert",
        "awx.awx.inventory",
        "awx.awx.project",
        "awx.awx.job_template",
    }
    assert [item["name"] for item in load("requirements.yml")["collections"]] == ["awx.awx"]
