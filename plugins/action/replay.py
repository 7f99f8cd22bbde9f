# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge a bundle again: no cluster, no AWS."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import text
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import SettingsError
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.archive import BundleError
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.bundle import read_bundle
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.replay import Replayed, replay
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.escalate import collection_version, read_packed

display = Display()
BUNDLE = "mlflow_bundle"


class ActionModule(RunbookAction):
    """Run the ``replay`` action."""

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        path = self._templar.template(self.variables.get(BUNDLE, ""))
        if not isinstance(path, str) or not path.strip():
            raise AnsibleActionFail(str(SettingsError(BUNDLE, path, "the path of a bundle that escalate wrote")))
        try:
            done = replay(read_bundle(read_packed(path.strip())), collection_version())
        except BundleError as error:
            raise AnsibleActionFail(f"{BUNDLE}: {path.strip()} {error}") from None
        display.display("\n" + shown(done))
        verdict = done.report["verdict"]
        summary = {
            "status": verdict["status"],
            "causes": [cause["id"] for cause in verdict["causes"]],
            "same": done.same,
        }
        return {"changed": False, "msg": "; ".join(done.remarks), **summary, "ansible_stats": self.stats(summary)}


def shown(done: Replayed) -> str:
    """Return the report without anything that a terminal would obey: a bundle comes from somebody else."""
    whole = text(done.report) + "".join(f"Replay: {remark}\n" for remark in done.remarks)
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in whole)
