# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that the pods still have although their ConfigMap says something else by now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..core.discovery import commands_of
from ..core.evidence import API, Evidence
from ..core.findings import SERVER, Context, Finding, keys
from ..core.workload import changed, server_pods, workload


def stale_setting(
    context: Context,
    variables: Iterable[str],
    helps: Callable[[str], bool],
    symptoms: Iterable[Evidence],
    flow: str = SERVER,
) -> Finding | None:
    """Find the ConfigMap whose newer value of a variable the pods do not have; a restart gives it to them (G-02).

    Args:
        variables: names of the container's environment, the one that wins first.
        helps: tells whether what the ConfigMap says now would end the symptoms.
        symptoms: what fails because of the value that the pods have.
        flow: where it fails.
    """
    found = workload(context)
    command = commands_of(found, context.evidence).get(context.target.container) if found else None
    given = command.environment if command else {}
    variable = next((name for name in variables if given.get(name)), "")
    if not variable or not helps(given[variable]):
        return None
    for source in context.evidence.objects("kubernetes.configmaps", context.target.namespace):
        moment = changed(source)
        holds = variable in (source.get("data") or {}) and source["metadata"]["name"] in context.target.config_maps
        if holds and moment and began_before(context, moment):
            return finding(context, source, variable, moment, symptoms, flow)
    return None


def began_before(context: Context, moment: str) -> bool:
    started = [str(pod["status"].get("startTime") or "") for pod in server_pods(context)]
    return any(start and start < moment for start in started)


def finding(
    context: Context, source: Mapping[str, Any], variable: str, moment: str, symptoms: Iterable[Evidence], flow: str
) -> Finding:
    name = f"configmap/{source['metadata']['name']}"
    return Finding(
        "pods.config_stale",
        name,
        f"the pods still use the {variable} that {name} gave them before it was changed at {moment}",
        keys([context.evidence.first("kubernetes.configmaps", API), *symptoms]),
        flow=flow,
        since=moment,
        configured=True,
        measured=True,
        facts={"source": name, "variable": variable},
    )
