# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Behaviour of RDS and EC2 that moto leaves out: transitional states, their events, prefixes of interfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.responses.elastic_network_interfaces import ElasticNetworkInterfaces
from moto.rds.models import DBInstance, Event, RDSBackend, rds_backends

from tests.lab import settings

# Source: "Amazon RDS event categories and event messages" of the RDS user guide.
EVENTS = {
    "LAB_SHUTDOWN": {"Categories": ["availability"], "Message": "DB instance shutdown"},
    "LAB_RESTARTED": {"Categories": ["availability"], "Message": "DB instance restarted"},
    "LAB_STOPPED": {"Categories": ["notification"], "Message": "DB instance stopped"},
    "LAB_STARTED": {"Categories": ["notification"], "Message": "DB instance started"},
}
# Status after the API call: what a running transition of AWS shows until it is done.
STOPPING, STARTING, REBOOTING = "stopping", "starting", "rebooting"


def rds() -> RDSBackend:
    """RDS state of the lab's account and region."""
    return rds_backends[settings.AWS_ACCOUNT_ID][settings.AWS_REGION]


def ec2() -> EC2Backend:
    """EC2 state of the lab's account and region."""
    return ec2_backends[settings.AWS_ACCOUNT_ID][settings.AWS_REGION]


def install() -> None:
    """Change moto's classes once, before the first request."""
    Event.EVENT_MAP.update(EVENTS)
    for name, status in (
        ("stop_db_instance", STOPPING),
        ("start_db_instance", STARTING),
        ("reboot_db_instance", REBOOTING),
    ):
        setattr(RDSBackend, name, _with_status(getattr(RDSBackend, name), status))
    create = ElasticNetworkInterfaces.create_network_interface

    def create_network_interface(response: ElasticNetworkInterfaces) -> Any:
        answer = create(response)
        answer.result["NetworkInterface"].ipv4_prefixes = response._get_param("Ipv4Prefixes", [])
        return answer

    ElasticNetworkInterfaces.create_network_interface = create_network_interface
    # AWS finds a rule by its protocol, ports and source; moto also wants its description.
    SecurityGroupRule.__eq__ = lambda rule, other: _identity(rule) == _identity(other)


def _with_status(operation: Callable[..., DBInstance], status: str) -> Callable[..., DBInstance]:
    def call(*args: Any, **kwargs: Any) -> DBInstance:
        instance = operation(*args, **kwargs)
        instance.status = status
        return instance

    return call


def _identity(rule: SecurityGroupRule) -> tuple[Any, ...]:
    source = rule.source_group.get("GroupId") or rule.source_group.get("GroupName")
    cidr = rule.ip_range.get("CidrIp") or rule.ip_range.get("CidrIpv6")
    return (rule.ip_protocol, rule.from_port, rule.to_port, cidr, source, rule.prefix_list_id)
