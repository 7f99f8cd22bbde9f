# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulated cloud has consequences: security groups become packet filter rules, RDS states become processes.

Runs inside the emulation's process, which sits in the lab's network namespace.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.lab import database, packet_filter
from tests.lab.emulation import behaviour, metrics

INTERVAL = 1.0
METRICS_INTERVAL = 15.0
# AWS takes minutes for a transition; long enough here that a reader can meet the status in between.
TRANSITION_SECONDS = 3.0

log = logging.getLogger(__name__)


def current_rules() -> str:
    """Rules for the state that the emulation describes now."""
    groups = [group for by_id in list(behaviour.ec2().groups.values()) for group in list(by_id.values())]
    ingress = {group.id: [_permission(view) for view in group.ip_permissions] for group in groups}
    members: dict[str, list[str]] = {}
    for interface in list(behaviour.ec2().enis.values()):
        networks = [f"{entry['PrivateIpAddress']}/32" for entry in interface.private_ip_addresses]
        networks += [entry["Ipv4Prefix"] for entry in getattr(interface, "ipv4_prefixes", [])]
        for group in interface.group_set:
            members.setdefault(group.id, []).extend(networks)
    return packet_filter.rules(_targets(), ingress, members)


def _targets() -> list[packet_filter.Target]:
    described = dict(behaviour.rds().databases)
    subnets = {interface.private_ip_address: interface.subnet_id for interface in list(behaviour.ec2().enis.values())}
    entries = {
        association.subnet_id: tuple(_entry(entry) for entry in acl.entries)
        for acl in list(behaviour.ec2().network_acls.values())
        for association in acl.associations
    }
    return [
        packet_filter.Target(
            instance.address,
            tuple(described[instance.identifier].vpc_security_group_ids),
            entries.get(subnets.get(instance.address), ()),
        )
        for instance in database.instances()
        if instance.identifier in described
    ]


def _entry(entry: Any) -> packet_filter.Entry:
    ports = {"From": entry.port_range_from, "To": entry.port_range_to} if entry.port_range_from else None
    return {
        "RuleNumber": entry.rule_number,
        "Protocol": entry.protocol,
        "RuleAction": entry.rule_action,
        "Egress": entry.egress,
        "CidrBlock": entry.cidr_block,
        "PortRange": ports,
    }


def _permission(view: Any) -> packet_filter.Permission:
    return {
        "IpProtocol": view.ip_protocol,
        "FromPort": view.from_port,
        "ToPort": view.to_port,
        "IpRanges": view.ip_ranges,
        "UserIdGroupPairs": view.user_id_group_pairs,
    }


class Reconciler:
    """Keeps packet filter, processes and metrics equal to what the emulation says; every thread survives its errors."""

    def __init__(self) -> None:
        self.changed = threading.Event()
        self.applied = ""
        self.busy: set[str] = set()

    def start(self) -> None:
        """Start the threads."""
        packet_filter.prepare()
        self._loop(self.reconcile, self._wait)
        self._loop(metrics.Collector().collect, lambda: time.sleep(METRICS_INTERVAL))

    def wake(self, service: str) -> None:
        """Say that something of an AWS service was changed."""
        if service in ("ec2", "rds"):
            self.changed.set()

    def reconcile(self) -> None:
        """Bring packet filter and processes up to date."""
        rules = current_rules()
        if rules != self.applied:
            packet_filter.apply(rules)
            self.applied = rules
        for identifier, instance in list(behaviour.rds().databases.items()):
            if instance.status in TRANSITIONS and identifier not in self.busy:
                self.busy.add(identifier)
                threading.Thread(target=self._transition, args=(identifier, instance), daemon=True).start()

    def _transition(self, identifier: str, instance: Any) -> None:
        try:
            TRANSITIONS[instance.status](identifier, instance)
        except Exception:
            log.exception("transition of %s", identifier)
            instance.status = "failed"
        finally:
            self.busy.discard(identifier)

    def _wait(self) -> None:
        self.changed.wait(INTERVAL)
        self.changed.clear()

    @staticmethod
    def _loop(step: Callable[[], None], wait: Callable[[], None]) -> None:
        def run() -> None:
            while True:
                try:
                    step()
                except Exception:
                    log.exception("reconciling")
                wait()

        threading.Thread(target=run, daemon=True).start()


def _stop(identifier: str, instance: Any) -> None:
    time.sleep(TRANSITION_SECONDS)
    database.stop_process(identifier)
    instance.add_event("LAB_SHUTDOWN")
    instance.status = "stopped"
    instance.add_event("LAB_STOPPED")


def _linger(identifier: str) -> None:
    time.sleep(TRANSITION_SECONDS)
    while database.held(identifier):
        time.sleep(INTERVAL)


def _start(identifier: str, instance: Any) -> None:
    _linger(identifier)
    database.start_process(identifier)
    instance.status = "available"
    instance.add_event("LAB_STARTED")


def _reboot(identifier: str, instance: Any) -> None:
    database.stop_process(identifier)
    instance.add_event("LAB_SHUTDOWN")
    _linger(identifier)
    database.start_process(identifier)
    instance.status = "available"
    instance.add_event("LAB_RESTARTED")


TRANSITIONS: Mapping[str, Callable[[str, Any], None]] = {
    behaviour.STOPPING: _stop,
    behaviour.STARTING: _start,
    behaviour.REBOOTING: _reboot,
}
