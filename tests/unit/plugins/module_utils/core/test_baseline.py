# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what was seen on a healthy run may be put back."""

from __future__ import annotations

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.baseline import record
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    CLOUD,
    Evidence,
    EvidenceSet,
    State,
)

AT = "2026-01-01T00:00:00Z"


def test_groups_are_kept_verbatim() -> None:
    groups = [{"GroupId": "sg-1", "IpPermissions": [{"IpProtocol": "-1"}]}, {"GroupId": "sg-2"}]
    seen = EvidenceSet([Evidence("aws.security_groups", CLOUD, "", AT, State.OK, {"items": groups})])
    assert record(seen, AT) == {"schema": 1, "at": AT, "security_groups": {"sg-1": groups[0], "sg-2": groups[1]}}


def test_nothing_seen_nothing_kept() -> None:
    denied = Evidence("aws.security_groups", CLOUD, "", AT, State.FORBIDDEN, detail="ec2:DescribeSecurityGroups")
    assert record(EvidenceSet([denied]), AT)["security_groups"] == {}
    assert record(EvidenceSet(), AT)["security_groups"] == {}
