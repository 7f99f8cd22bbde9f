# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What moto leaves out of RDS and EC2 and the lab needs: transitional states, their events, address prefixes of ENIs."""

from __future__ import annotations

from typing import Any

from moto.ec2.models import EC2Backend, ec2_backends
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
    stop, start, reboot = RDSBackend.stop_db_instance, RDSBackend.start_db_instance, RDSBackend.reboot_db_instance

    def with_status(original: Any, status: str) -> Any:
        def call(backend: RDSBackend, *args: Any, **kwargs: Any) -> DBInstance:
            instance: DBInstance = original(backend, *args, **kwargs)
            instance.status = status
            return instance

        return call

    changes: dict[str, Any] = {
        "stop_db_instance": with_status(stop, STOPPING),
        "start_db_instance": with_status(start, STARTING),
        "reboot_db_instance": with_status(reboot, REBOOTING),
    }
    for name, function in changes.items():
        setattr(RDSBackend, name, function)
    create = ElasticNetworkInterfaces.create_network_interface

    def create_network_interface(response: ElasticNetworkInterfaces) -> Any:
        answer = create(response)
        answer.result["NetworkInterface"].ipv4_prefixes = response._get_param("Ipv4Prefixes", [])
        return answer

    setattr(ElasticNetworkInterfaces, "create_network_interface", create_network_interface)  # noqa: B010
