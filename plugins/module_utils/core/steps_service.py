# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps on the Service: its selector and target port from the Deployment."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from .kubernetes_patch import Edit, edit, parts_of, patch_change
from .step import Situation, Step, StepClass, proven
from .verdict import Cause


def repair_service(cause: Cause, situation: Situation) -> Step:
    """Let the Service select the server's pods again, or lead to the port on which MLflow listens."""
    name = str(cause.finding.facts.get("service") or situation.target.service)
    found = next(
        (
            item
            for item in situation.context.evidence.objects("kubernetes.services", situation.target.namespace)
            if item["metadata"]["name"] == name
        ),
        None,
    )
    step = Step(
        "repair_service",
        "service",
        cause.finding.id,
        f"service/{name}",
        StepClass.DECLARED_STATE,
        {},
        proven=proven(cause),
    )
    edits = edits_of(found, str(cause.finding.facts.get("patch") or "")) if found else []
    if found is None or not edits:
        reason = "no label tells the server's pods from the others" if found else f"service/{name} was not seen"
        return replace(step, blocked=reason)
    change, undo = patch_change(found, "Service", edits)
    return replace(step, change=change, undo=undo)


def edits_of(found: dict[str, Any], patch: str) -> list[Edit]:
    """Read a finding's patch: a JSON patch, or a merge patch of the selector (RFC 7386: null removes)."""
    try:
        wanted = json.loads(patch)
    except ValueError:
        return []
    if isinstance(wanted, list):
        return [edit(found, parts_of(item["path"]), item["value"]) for item in wanted]
    given = (wanted.get("spec") or {}).get("selector")
    if not given:
        return []
    joined = {**(found["spec"].get("selector") or {}), **given}
    return [edit(found, ("spec", "selector"), {key: value for key, value in joined.items() if value is not None})]
