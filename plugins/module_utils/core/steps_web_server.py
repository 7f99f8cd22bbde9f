# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps on the web server's options: where MLflow reads them, one by one, never inside a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .kubernetes_patch import MISSING, Edit, at, edit, patch_change
from .server_setting import (
    NotEditable,
    command_of,
    container_index,
    gunicorn_value,
    set_option,
    target_name,
    with_gunicorn_value,
    without_option,
    workers_of,
)
from .step import Situation, Step, StepClass, proven
from .steps_workload import most_unavailable
from .verdict import Cause
from .workload import workload

GUNICORN_OPTIONS = "gunicorn-opts"
LONGER_TIMEOUT_SECONDS = 300
"""The second runbook's remedy for worker time-outs: 120 s became 300 s."""
DEFAULT_TIMEOUT_SECONDS = 30
"""gunicorn documentation, ``timeout``."""
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
Edits = Callable[[Cause, Situation, Mapping[str, Any], int], list[Edit]]


def option_step(name: str, cause: Cause, situation: Situation, edits_of: Edits, workers: int | None = None) -> Step:
    """Build a step that changes the server's options; what cannot be changed field by field is said to be so."""
    found = workload(situation.context)
    index = container_index(found, situation.target.container)
    step = Step(
        name,
        "web_server",
        cause.finding.id,
        target_name(situation),
        StepClass.DECLARED_STATE,
        {},
        proven=proven(cause),
        starts_pods=True,
        workers=workers,
    )
    if found is None or index is None:
        return replace(step, blocked="the workload was not seen")
    try:
        change, undo = patch_change(found, situation.target.kind, edits_of(cause, situation, found, index))
    except NotEditable as reason:
        return replace(step, blocked=f"{reason}; the change is proposed to its owner")
    return replace(step, change=change, undo=undo, unavailable=most_unavailable(found))


def allow_hosts(cause: Cause, situation: Situation) -> Step:
    """Add the names that clients use to the allowed hosts; what is allowed already stays (field guide W-10, W-12)."""

    def edits_of(cause: Cause, situation: Situation, found: Mapping[str, Any], index: int) -> list[Edit]:
        given = [part for part in command_of(situation).setting("allowed-hosts").split(",") if part.strip()]
        wanted = [part.strip() for part in str(cause.finding.facts.get("hosts") or "").split(",") if part.strip()]
        if not wanted:
            raise NotEditable("which names clients use was not seen")
        if not given:
            raise NotEditable("a list of allowed hosts would replace MLflow's own, which admits probes by address")
        hosts = ",".join(dict.fromkeys([*given, *wanted]))
        return [set_option(found, index, "allowed-hosts", hosts)]

    return option_step("allow_hosts", cause, situation, edits_of)


def raise_worker_timeout(cause: Cause, situation: Situation) -> Step:
    """Give gunicorn's workers longer, once neither the database nor S3 is what they wait for (second runbook)."""

    def edits_of(cause: Cause, situation: Situation, found: Mapping[str, Any], index: int) -> list[Edit]:
        options = command_of(situation).setting(GUNICORN_OPTIONS)
        now = gunicorn_value(options, "timeout") or str(DEFAULT_TIMEOUT_SECONDS)
        if situation.target.web_server != "gunicorn" or not options:
            raise NotEditable("the server does not run gunicorn with options of its own")
        if not now.isdigit() or int(now) >= LONGER_TIMEOUT_SECONDS:
            raise NotEditable(f"the time-out is {now} s already; a longer one would hide what is slow")
        longer = with_gunicorn_value(options, "timeout", str(LONGER_TIMEOUT_SECONDS))
        return [set_option(found, index, GUNICORN_OPTIONS, longer)]

    return option_step("raise_worker_timeout", cause, situation, edits_of)


def raise_workers(cause: Cause, situation: Situation) -> Step:
    """Double the workers by MLflow's own setting: one inside gunicorn's options is overridden (lab, MLflow 3.17.2)."""
    now = workers_of(command_of(situation))
    more = min(2 * now, situation.settings.workers_ceiling)

    def edits_of(cause: Cause, situation: Situation, found: Mapping[str, Any], index: int) -> list[Edit]:
        if more <= now:
            raise NotEditable(f"{now} workers are as many as mlflow_workers_ceiling allows")
        return [set_option(found, index, "workers", str(more))]

    return option_step("raise_workers", cause, situation, edits_of, workers=more)


def remove_static_prefix(cause: Cause, situation: Situation) -> Step:
    """Serve from the root path again, with the probes in the same patch (second runbook)."""

    def edits_of(cause: Cause, situation: Situation, found: Mapping[str, Any], index: int) -> list[Edit]:
        prefix = str(cause.finding.facts.get("prefix") or situation.target.static_prefix)
        ingresses = situation.context.evidence.objects("kubernetes.ingresses", situation.target.namespace)
        if any(prefix in str(item.get("spec")) for item in ingresses):
            raise NotEditable(f"an ingress leads to {prefix}")
        edits = [without_option(found, index, "static-prefix")]
        base = ("spec", "template", "spec", "containers", index)
        for probe in PROBES:
            path = at(found, *base, probe, "httpGet", "path")
            if path is not MISSING and str(path).startswith(prefix + "/"):
                edits.append(edit(found, (*base, probe, "httpGet", "path"), str(path)[len(prefix) :]))
        return edits

    return option_step("remove_static_prefix", cause, situation, edits_of)
