# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulated cloud has consequences: security groups become packet filter rules, RDS states become processes.

Runs inside the emulation's process, which sits in the lab's network namespace.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.lab import database, network
from tests.lab.emulation import behaviour, metrics

CHAIN = "LAB-SECURITY-GROUPS"
# mangle PREROUTING sees every packet once conntrack knows its state and before any address translation; neither
# kube-proxy nor the network policy enforcer has rules there that could let a packet past this filter.
TABLE = "mangle"
INTERVAL = 1.0
METRICS_INTERVAL = 15.0
# AWS takes minutes for a transition; long enough here that a reader can meet the status in between.
TRANSITION_SECONDS = 3.0

log = logging.getLogger(__name__)
Permission = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """A protected address and the security groups in front of it."""

    address: str
    groups: tuple[str, ...]


def filter_rules(
    targets: Sequence[Target], ingress: Mapping[str, Sequence[Permission]], members: Mapping[str, Sequence[str]]
) -> str:
    """Rules in ``iptables-restore`` format that let through to each target what its security groups allow.

    New connections only: what is established stays, and what is not allowed is dropped without an answer, as AWS does.

    Args:
        targets: protected addresses.
        ingress: group id to its ``IpPermissions`` in the shape of DescribeSecurityGroups.
        members: group id to the networks (CIDR) of the interfaces that carry the group.
    """
    lines = [f"*{TABLE}", f":{CHAIN} - [0:0]"]
    lines.append(f"-A {CHAIN} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN")
    lines.append(f"-A {CHAIN} -i lo -j RETURN")
    for target in targets:
        allowed = {
            f"-A {CHAIN} -s {source} -d {target.address}{protocol} -j RETURN"
            for group in target.groups
            for permission in ingress.get(group, ())
            for protocol in _protocol(permission)
            for source in _sources(permission, members)
        }
        lines += sorted(allowed)
        lines.append(f"-A {CHAIN} -d {target.address} -j DROP")
    return "\n".join([*lines, "COMMIT", ""])


def _protocol(permission: Permission) -> list[str]:
    name = str(permission["IpProtocol"])
    if name == "-1":
        return [""]
    if name not in ("tcp", "udp"):
        return [f" -p {name}"]
    return [f" -p {name} --dport {permission['FromPort']}:{permission['ToPort']}"]


def _sources(permission: Permission, members: Mapping[str, Sequence[str]]) -> Iterable[str]:
    yield from (entry["CidrIp"] for entry in permission.get("IpRanges", ()))
    for pair in permission.get("UserIdGroupPairs", ()):
        networks = (ipaddress.IPv4Network(member) for member in members.get(pair["GroupId"], ()))
        yield from (str(network) for network in ipaddress.collapse_addresses(networks))


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
    described = dict(behaviour.rds().databases)
    targets = [
        Target(instance.address, tuple(described[instance.identifier].vpc_security_group_ids))
        for instance in database.instances()
        if instance.identifier in described
    ]
    return filter_rules(targets, ingress, members)


def _permission(view: Any) -> Permission:
    return {
        "IpProtocol": view.ip_protocol,
        "FromPort": view.from_port,
        "ToPort": view.to_port,
        "IpRanges": view.ip_ranges,
        "UserIdGroupPairs": view.user_id_group_pairs,
    }


def prepare_filter() -> None:
    """Hook the chain into the packet filter once."""
    network.iptables_restore(f"*{TABLE}\n:{CHAIN} - [0:0]\nCOMMIT\n")
    if f"-j {CHAIN}" not in network.iptables("-t", TABLE, "-S", "PREROUTING"):
        network.iptables("-t", TABLE, "-I", "PREROUTING", "-j", CHAIN)


class Reconciler:
    """Keeps packet filter, processes and metrics equal to what the emulation says; every thread survives its errors."""

    def __init__(self) -> None:
        self.changed = threading.Event()
        self.applied = ""
        self.busy: set[str] = set()

    def start(self) -> None:
        """Start the threads."""
        prepare_filter()
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
            network.iptables_restore(rules)
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


def _start(identifier: str, instance: Any) -> None:
    time.sleep(TRANSITION_SECONDS)
    database.start_process(identifier)
    instance.status = "available"
    instance.add_event("LAB_STARTED")


def _reboot(identifier: str, instance: Any) -> None:
    database.stop_process(identifier)
    instance.add_event("LAB_SHUTDOWN")
    time.sleep(TRANSITION_SECONDS)
    database.start_process(identifier)
    instance.status = "available"
    instance.add_event("LAB_RESTARTED")


TRANSITIONS: Mapping[str, Callable[[str, Any], None]] = {
    behaviour.STOPPING: _stop,
    behaviour.STARTING: _start,
    behaviour.REBOOTING: _reboot,
}
