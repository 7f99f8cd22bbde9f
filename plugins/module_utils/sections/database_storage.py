# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database without room: its own words in MLflow's log, held against the space that RDS measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.evidence import CLOUD
from ..core.findings import TO_DATABASE, Context, Finding, SectionResult, Unknown, keys
from .database_facts import database_object, facts_of
from .logs import matches, recovered

GIBIBYTE = 2**30
SCARCE_SHARE = 0.02
SCARCE_BYTES = GIBIBYTE / 4
"""Below this RDS is about to call an instance storage-full; WAL alone comes in files of 64 MiB (RDS user guide)."""


def storage(context: Context, instance: Mapping[str, Any] | None, result: SectionResult) -> None:
    """Conclude that the storage is full before RDS changes the instance's status, which takes it minutes."""
    lines = [
        match for match in matches(context) if match.signature.id == "db_diskfull" and not recovered(context, match)
    ]
    free = free_bytes(context)
    scarce = free is not None and free <= least(instance or {})
    if "database.storage_full" in {item.id for item in result.findings} or not (lines or scarce):
        return
    if free is not None and not scarce:
        what = f"why {database_object(context)} says that its disk is full"
        why = f"RDS measured {free / GIBIBYTE:.1f} GiB of free storage"
        result.unknown.append(Unknown(what, why, "the database team: tablespaces, quotas, temporary files"))
        return
    said = f"{database_object(context)} has no room left for what MLflow writes"
    left = "" if free is None else f"RDS measures {free / 2**20:.0f} MiB of free storage of {database_object(context)}"
    metrics = context.evidence.first("aws.metrics", CLOUD)
    result.findings.append(
        Finding(
            "database.storage_full",
            database_object(context),
            "; ".join(filter(None, [said if lines else "", left])),
            keys([*(match.evidence for match in lines), *([metrics] if free is not None else [])]),
            flow=TO_DATABASE,
            since=(lines[0].at or None) if lines else None,
            configured=scarce,
            measured=bool(lines),
            facts=facts_of(context, later=not lines),
        )
    )


def free_bytes(context: Context) -> float | None:
    """Return the newest value of FreeStorageSpace, which is a few minutes old at best."""
    values = context.evidence.value("aws.metrics", CLOUD, default={})
    points = (values.get("FreeStorageSpace") or {}).get("points") or []
    return float(points[-1][1]) if points else None


def least(instance: Mapping[str, Any]) -> float:
    return max(SCARCE_BYTES, SCARCE_SHARE * GIBIBYTE * float(instance.get("AllocatedStorage") or 0))
