# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every action does before and after its own work, with Ansible's own task, templar and connection."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import ansible.template
import pytest
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.identity import ended
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import Run

trusted = getattr(ansible.template, "trust_as_template", str)
"""Since ansible-core 2.19 only text from the operator is a template."""


class Echo(RunbookAction):
    """Returns its arguments, or does what a test wants."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        "run": {"type": "str", "required": True},
        "times": {"type": "int", "default": 2},
    }

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["run"] != "echo":
            Run(arguments["run"]).report("none")
        return {"changed": False, **arguments}


def action(variables: dict[str, Any] | None = None, *, check_mode: bool = False, **arguments: Any) -> Echo:
    task = Task()
    task.args, task.check_mode, task.action = arguments, check_mode, "echo"
    loader, context = DataLoader(), PlayContext()
    connection = connection_loader.get("local", context)
    templar = ansible.template.Templar(loader=loader, variables=dict(variables or {}))
    made = Echo(task, connection, context, loader, templar, None)
    made._load_name = "echo"  # what the plug-in loader sets
    made.variables = dict(variables or {})
    return made


def test_arguments_are_converted_and_have_defaults() -> None:
    assert action(run="echo", times="7").run(task_vars={}) == {"changed": False, "run": "echo", "times": 7}
    assert action(run="echo").run(task_vars=None)["times"] == 2


@pytest.mark.parametrize("arguments", [{}, {"run": "echo", "timse": 1}, {"run": "echo", "times": "often"}])
def test_other_arguments_are_refused_before_the_work(arguments: dict[str, Any]) -> None:
    with pytest.raises(AnsibleError, match=r"run|timse|times"):
        action(**arguments).run(task_vars={})


def test_files_that_cannot_be_used_fail_the_task_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match="the run's report cannot be read"):
        action(run=str(tmp_path)).run(task_vars={})


def test_a_host_s_variables_are_not_changed() -> None:
    given = {"inventory_hostname": "one"}
    asked = action(run="echo")
    asked.run(task_vars=given)
    asked.variables["mlflow_sections"] = ["database"]
    assert given == {"inventory_hostname": "one"}


def test_settings_are_templated() -> None:
    variables = {"team": "ml", "mlflow_namespace": trusted("{{ team }}-prod"), "mlflow_fail_on": "cause"}
    settings = action(variables, check_mode=True).settings(writes=False)
    assert (settings.namespace, settings.fail_on, settings.check_mode) == ("ml-prod", "cause", True)


def test_only_actions_that_may_write_prepare_for_it() -> None:
    variables = {"mlflow_namespace": "ml", "mlflow_allowed_steps": ["restart"]}

    def may(settings: Settings) -> tuple[bool, bool]:
        return settings.writing, settings.prove_new_pod

    assert may(action(variables).settings(writes=True)) == (True, True)
    assert may(action(variables).settings(writes=False)) == (False, False)


def test_a_near_miss_of_a_variable_stops_what_may_write() -> None:
    variables = {"mlflow_namespace": "ml", "mlflow_alowed_steps": ["restart"]}
    with pytest.raises(AnsibleActionFail, match="did you mean mlflow_allowed_steps"):
        action(variables).settings(writes=True)
    assert action(variables).settings(writes=False).allowed_steps == ()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"mlflow_namespace": "ml", "mlflow_allowed_steps": ["explode"]}, "mlflow_allowed_steps.*explode"),
        ({"mlflow_namespace": "ml", "mlflow_terraform_outputs": "/none.json"}, "mlflow_terraform_outputs.*none.json"),
        ({"mlflow_namespace": "ml", "mlflow_settle_seconds": "soon"}, "mlflow_settle_seconds.*soon"),
    ],
)
def test_a_wrong_value_is_told_with_its_variable(variables: dict[str, Any], words: str) -> None:
    with pytest.raises(AnsibleActionFail, match=words):
        action(variables).settings(writes=False)


def test_a_run_is_named_after_a_process_that_lives() -> None:
    one = action({"inventory_hostname": "one"})
    assert one.me().endswith(":one")
    assert one.me(os.getpid()).split(":")[1] == str(os.getpid())
    assert not ended([one.me(), one.me(os.getpid())])
    assert action().me().endswith(":localhost")


def test_the_summary_is_kept_under_the_host_s_name() -> None:
    stats = action({"inventory_hostname": "one"}).stats({"status": "healthy"})
    assert stats == {"data": {"one": {"status": "healthy"}}, "per_host": False, "aggregate": True}
