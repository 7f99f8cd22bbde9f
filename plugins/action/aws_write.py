# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write to AWS what no module writes by itself: single rules taken back, an instance started or stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.aws import CloudReader
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Deadline
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction

SECONDS = 30.0
OPERATIONS = {
    "RevokeSecurityGroupIngress": "revoke_security_group_ingress",
    "StartDBInstance": "start_db_instance",
    "StopDBInstance": "stop_db_instance",
}
"""``amazon.aws.rds_instance`` would compare and modify the instance's other settings before it starts it."""

SOURCES = {
    "CidrIp": "IpRanges",
    "CidrIpv6": "Ipv6Ranges",
    "GroupId": "UserIdGroupPairs",
    "PrefixListId": "PrefixListIds",
}


def permission(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return one rule in the words of EC2."""
    base = {key: value for key, value in rule.items() if key not in SOURCES}
    return {**base, **{SOURCES[key]: [{key: value}] for key, value in rule.items() if key in SOURCES}}


def call_of(change: Mapping[str, Any]) -> tuple[str, str]:
    """Return service and operation of a change, as boto3 calls them."""
    return str(change["service"]), OPERATIONS[str(change["operation"])]


def parameters_of(change: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operation's parameters."""
    if change["service"] == "rds":
        return {"DBInstanceIdentifier": change["identifier"]}
    return {"GroupId": change["group_id"], "IpPermissions": [permission(rule) for rule in change["rules"]]}


class ActionModule(RunbookAction):
    """Run the ``aws_write`` action."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {"change": {"type": "dict", "required": True}}

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings(writes=True)
        change = arguments["change"]
        if settings.check_mode:
            return {"changed": True}
        cloud = CloudReader(settings.aws, Deadline(SECONDS), settings.aws.get("region", ""))
        seen = cloud.call(*call_of(change), **parameters_of(change))
        return {"changed": seen.seen, "failed": not seen.seen, "msg": seen.detail}
