# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One AWS call for one change."""

from __future__ import annotations

from ansible_collections.mlops.mlflow_runbook.plugins.action import aws_write


def test_an_instance_is_started_and_nothing_of_it_is_modified() -> None:
    change = {"service": "rds", "operation": "StartDBInstance", "identifier": "one", "status": "stopped"}
    assert aws_write.call_of(change) == ("rds", "start_db_instance")
    assert aws_write.parameters_of(change) == {"DBInstanceIdentifier": "one"}
    assert aws_write.call_of({**change, "operation": "StopDBInstance"}) == ("rds", "stop_db_instance")


def test_exactly_the_named_rules_are_revoked() -> None:
    rule = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "GroupId": "sg-2"}
    change = {"service": "ec2", "operation": "RevokeSecurityGroupIngress", "group_id": "sg-1", "rules": [rule]}
    assert aws_write.call_of(change) == ("ec2", "revoke_security_group_ingress")
    wanted = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": "sg-2"}]}
    assert aws_write.parameters_of(change) == {"GroupId": "sg-1", "IpPermissions": [wanted]}
