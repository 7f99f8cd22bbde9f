# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a healthy server looked like: the only source of what may be put back verbatim."""

from __future__ import annotations

from typing import Any

from .evidence import EvidenceSet
from .plan import security_groups


def record(evidence: EvidenceSet, at: str) -> dict[str, Any]:
    """Keep what a later repair may restore.

    Args:
        evidence: the evidence of a diagnosis that ended healthy.
        at: its moment, ISO 8601.
    """
    groups = {group["GroupId"]: group for group in security_groups(evidence)}
    return {"schema": 1, "at": at, "security_groups": groups}
