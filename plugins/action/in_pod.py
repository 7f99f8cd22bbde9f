# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a step inside the server's pod: end an abandoned session, or clear the artifact cache."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import CallFailed, Deadline
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.kubernetes import ClusterReader
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect import pod_specs
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import discover
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.probes import bundle
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import Run

SECONDS = 60.0
display = Display()


class ActionModule(RunbookAction):
    """Run the ``in_pod`` action."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        "change": {"type": "dict", "required": True},
        "run": {"type": "str", "required": True},
    }

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings(writes=True)
        evidence = EvidenceSet.from_json(Run(arguments["run"]).evidence())
        target = discover(evidence, settings).target
        if target is None:
            raise AnsibleActionFail("the server is not known any more")
        pods, problems = pod_specs.enterable(pod_specs.server_pods(evidence, target), target, evidence)
        if not pods:
            raise AnsibleActionFail(f"no pod of the server may be entered: {'; '.join(problems) or 'none runs'}")
        change = arguments["change"]
        if settings.check_mode:
            return {"changed": True, "results": [], "msg": f"{change['operation']} in {len(pods)} pods"}
        chosen = pods[:1] if change["operation"] == "end_session" else pods
        results = [
            self._enter(settings.kubernetes, target.namespace, pod["metadata"]["name"], target.container, change)
            for pod in chosen
        ]
        failed = [result["error"] for result in results if result.get("error")]
        told = "; ".join(failed or [f"{result['pod']}: {result.get('msg', '')}" for result in results])
        display.display(told)
        return {
            "changed": any(result.get("changed") for result in results),
            "failed": bool(failed),
            "results": results,
            "msg": told,
        }

    @staticmethod
    def _enter(options: Any, namespace: str, pod: str, container: str, change: dict[str, Any]) -> dict[str, Any]:
        try:
            reader = ClusterReader(options, Deadline(SECONDS))
        except CallFailed as failure:
            return {"pod": pod, "error": failure.observation.detail}
        document = bundle.document({**change, "seconds": SECONDS})
        seen = reader.exec_python(namespace, pod, container, bundle.PROGRAM, document, SECONDS)
        if not seen.seen:
            return {"pod": pod, "error": seen.detail}
        try:
            answer: dict[str, Any] = json.loads(seen.value["out"])
        except ValueError:
            return {"pod": pod, "error": seen.value["problem"] or "the pod gave no answer"}
        return {"pod": pod, **answer}
