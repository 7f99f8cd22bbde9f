# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take back security-group rules that a step has put in: no module removes single rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.aws import CloudReader
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Deadline
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.diagnose import read_settings

SECONDS = 30.0
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


class ActionModule(ActionBase):
    """Run the ``revoke_rule`` action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        dummy, arguments = self.validate_argument_spec({"change": {"type": "dict", "required": True}})
        settings = read_settings(self, task_vars or {}, writes=True)
        change = arguments["change"]
        if settings.check_mode:
            return {"changed": True}
        cloud = CloudReader(settings.aws, Deadline(SECONDS), settings.aws.get("region", ""))
        permissions = [permission(rule) for rule in change["rules"]]
        seen = cloud.call("ec2", "revoke_security_group_ingress", GroupId=change["group_id"], IpPermissions=permissions)
        return {"changed": seen.seen, "failed": not seen.seen, "msg": seen.detail}
