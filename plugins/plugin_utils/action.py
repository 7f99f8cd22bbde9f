# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all actions are: in-process, with an argument spec, for one inventory host and its ``mlflow_*`` variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings

from .diagnose import read_settings
from .identity import run_name
from .run import RunError


class RunbookAction(ActionBase):
    """An action of this collection; it does its work in ``perform``.

    Attributes:
        ARGUMENTS: the argument spec, as modules have it.
        variables: the host's variables, not templated.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False
    ARGUMENTS: ClassVar[Mapping[str, Any]] = {}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        dummy, arguments = self.validate_argument_spec(dict(self.ARGUMENTS))
        self.variables = dict(task_vars or {})
        try:
            return self.perform(arguments)
        except RunError as error:
            raise AnsibleActionFail(str(error)) from error

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do the work and return the task's result.

        Args:
            arguments: the task's arguments, converted and with their defaults.

        Raises:
            AnsibleActionFail: it cannot be done.
            RunError: files of the run or of the server's history cannot be used; it fails the task as well.
        """
        raise NotImplementedError

    @property
    def host(self) -> str:
        """Name of the inventory host."""
        return str(self.variables.get("inventory_hostname", "localhost"))

    def settings(self, *, writes: bool) -> Settings:
        """Return what the host's variables say.

        Args:
            writes: whether the playbook may write; then a near miss of a variable's name is an error.
        """
        return read_settings(self, self.variables, writes=writes)

    def me(self, pid: int = 0) -> str:
        """Name this run, as the holder of a Lease; ``pid`` as in ``run_name``."""
        return run_name(self.host, pid)

    def stats(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return what makes Ansible keep a summary of this host with the run, as ``set_stats`` does."""
        return {"data": {self.host: summary}, "per_host": False, "aggregate": True}
