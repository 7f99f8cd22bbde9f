# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a healthy server looked like: the only source of what may be put back verbatim."""

from __future__ import annotations

from typing import Any

from .evidence import EvidenceSet
from .findings import Context
from .new_pod import running_digests
from .steps_database import security_groups
from .workload import ready_pods


def record(evidence: EvidenceSet, at: str, context: Context | None = None) -> dict[str, Any]:
    """Keep what a later repair may restore, or needs to compare with.

    Args:
        evidence: the evidence of a diagnosis that ended healthy.
        at: its moment, ISO 8601.
        context: the server; None when only AWS was seen.
    """
    groups = {group["GroupId"]: group for group in security_groups(evidence)}
    known: dict[str, Any] = {"schema": 1, "at": at, "security_groups": groups}
    if context is not None:
        known["ready_replica_sets"] = sorted(
            {
                owner["name"]
                for pod in ready_pods(context)
                for owner in pod["metadata"].get("ownerReferences") or []
                if owner["kind"] == "ReplicaSet"
            }
        )
        known["image_ids"] = sorted(running_digests(context, context.target.image))
    return known
