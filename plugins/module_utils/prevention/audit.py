# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All items of one server in one document, which never holds more than was seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..core.findings import Context
from ..core.workload import workload
from . import alarms, alerts, connections, database, identity, pods, scaling, storage
from .items import Grade, Item

AREAS: Mapping[str, Callable[[Context], list[Item]]] = {
    "database": database.judge,
    "alarms": alarms.judge,
    "scaling": scaling.judge,
    "pods": pods.judge,
    "connections": connections.judge,
    "storage": storage.judge,
    "identity": identity.judge,
    "alerts": alerts.judge,
}
ORDER = (Grade.MISSING, Grade.WEAK, Grade.UNKNOWN, Grade.OK)
OWNERS = {
    "app.kubernetes.io/managed-by": {"Helm": "Helm: put the change into the chart's values"},
    "argocd.argoproj.io/instance": {"": "Argo CD: put the change into its repository"},
    "kustomize.toolkit.fluxcd.io/name": {"": "Flux: put the change into its repository"},
    "helm.toolkit.fluxcd.io/name": {"": "Flux: put the change into the HelmRelease"},
}
"""Labels by which a controller says that it would take a change back (Helm, Argo CD and Flux documentation)."""


def judge(context: Context) -> list[Item]:
    """Judge every item of the catalogue, in its order."""
    return [item for area in AREAS.values() for item in area(context)]


def remarks(context: Context) -> list[str]:
    """Say who owns the workload and would take a change back."""
    found = workload(context)
    labels = (
        {**(found["metadata"].get("labels") or {}), **(found["metadata"].get("annotations") or {})} if found else {}
    )
    said = []
    for name, owners in OWNERS.items():
        owner = owners.get(str(labels.get(name))) or (owners.get("") if name in labels else None)
        if owner:
            said.append(f"{context.target.kind.lower()}/{context.target.deployment} is managed by {owner}")
    return [*context.target.remarks, *said]


def status_of(items: Iterable[Item]) -> str:
    """Return the worst that was found: ``weak``, ``unknown`` (nothing weak, not all was seen) or ``ok``."""
    grades = {item.grade for item in items}
    if grades & {Grade.MISSING, Grade.WEAK}:
        return "weak"
    return "unknown" if Grade.UNKNOWN in grades else "ok"


def document(
    *,
    server: Mapping[str, Any],
    started: str,
    seconds: Mapping[str, float],
    calls: Mapping[str, Any],
    items: Iterable[Item],
    said: Iterable[str],
    problem: str = "",
) -> dict[str, Any]:
    """Assemble the report of one audit.

    Args:
        server: what was discovered.
        started: when, ISO 8601.
        seconds: how long each part took.
        calls: calls by client, then by verb and resource.
        items: every judgement.
        said: remarks about all of it.
        problem: why there is no server to judge; empty when there is one.
    """
    found = list(items)
    counts = {grade.value: sum(item.grade is grade for item in found) for grade in ORDER}
    return {
        "schema": 1,
        "kind": "prevention",
        "server": dict(server),
        "started": started,
        "seconds": dict(seconds),
        "calls": dict(calls),
        "status": "unknown" if problem else status_of(found),
        "problem": problem,
        "counts": counts,
        "items": [item.as_json() for item in found],
        "remarks": list(said),
    }


def by_state(report: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the items by state, worst first, without states that no item has."""
    rows = [(grade.value, [item for item in report["items"] if item["state"] == grade.value]) for grade in ORDER]
    return [(state, items) for state, items in rows if items]
