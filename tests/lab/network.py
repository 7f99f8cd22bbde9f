# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network namespace: node address, addresses of the outside, packet filter, ways in from the host."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from tests.lab import processes, settings
from tests.lab.settings import LabError

SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    # Addresses of the outside sit on the node's own interface, pods send from behind the bridge.
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.conf.all.route_localnet": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
}


def exists() -> bool:
    """Whether the namespace exists."""
    return processes.namespace_path().exists()


def ip(*args: str, check: bool = True) -> str:
    """Run ``ip`` in the namespace and return its output."""
    return processes.run(["ip", *args], in_netns=True, check=check)


def up() -> None:
    """Make the namespace with the node's interface; nothing in it has a way out."""
    if not exists():
        processes.run(["ip", "netns", "add", settings.NETWORK_NAMESPACE])
    ip("link", "set", "lo", "up")
    if settings.NODE_INTERFACE not in ip("-o", "link", "show"):
        peer = f"{settings.NODE_INTERFACE}-peer"
        ip("link", "add", settings.NODE_INTERFACE, "type", "veth", "peer", "name", peer)
        ip("address", "add", f"{settings.NODE_ADDRESS}/32", "dev", settings.NODE_INTERFACE)
        ip("link", "set", peer, "up")
        ip("link", "set", settings.NODE_INTERFACE, "up")
        # kube-router accepts a packet before kube-proxy can reject it for a Service without endpoints. What no Service
        # translates therefore ends at the node itself, where nothing listens: "connection refused", as elsewhere.
        ip("route", "add", "local", settings.SERVICE_NETWORK, "dev", "lo")
        _swallow_the_rest(peer)
    processes.run(["sysctl", "-q", *(f"{key}={value}" for key, value in SYSCTLS.items())], in_netns=True)


def _swallow_the_rest(peer: str) -> None:
    """Send everything that the lab has no address for to the other end of the pair, where it is dropped.

    So an unknown address times out, as it does in a VPC without a way to the internet.
    """
    gateway = settings.GATEWAY_ADDRESS
    hardware_address = ip("-o", "link", "show", "dev", peer).split("link/ether ")[1].split()[0]
    ip("neighbour", "add", gateway, "lladdr", hardware_address, "dev", settings.NODE_INTERFACE, "nud", "permanent")
    ip("route", "add", "default", "via", gateway, "dev", settings.NODE_INTERFACE, "onlink")
    iptables("-t", "raw", "-A", "PREROUTING", "-i", peer, "-j", "DROP")


def down() -> None:
    """Delete the namespace, and with it every interface, address and filter rule."""
    if exists():
        processes.run(["ip", "netns", "delete", settings.NETWORK_NAMESPACE])


def addresses() -> list[str]:
    """IPv4 addresses of the node's interface."""
    lines = ip("-4", "-o", "address", "show", "dev", settings.NODE_INTERFACE).splitlines()
    return [line.split()[3].partition("/")[0] for line in lines]


def add_address(address: str) -> None:
    """Give the node's interface one more address (/32), unless it has it."""
    ip("address", "replace", f"{address}/32", "dev", settings.NODE_INTERFACE)


def remove_address(address: str) -> None:
    """Take an address of ``add_address`` away, if it is there."""
    if address in addresses():
        ip("address", "delete", f"{address}/32", "dev", settings.NODE_INTERFACE)


def iptables(*args: str, check: bool = True) -> str:
    """Run ``iptables`` in the namespace (waits for the lock that kube-proxy and kube-router also take)."""
    return processes.run(["iptables", "-w", "10", *args], in_netns=True, check=check)


def iptables_restore(rules: str) -> None:
    """Apply ``rules`` (iptables-restore format) in one step, leaving chains that are not named alone."""
    processes.run(["iptables-restore", "-w", "10", "--noflush"], in_netns=True, input=rules)


def forward(name: str, port: int, *, address: str | None = None, unix_socket: Path | None = None) -> None:
    """Lead 127.0.0.1:``port`` of the host into the namespace.

    Exactly one of ``address`` (``ip:port`` inside) and ``unix_socket`` (a socket that a program inside listens on;
    file system sockets do not belong to a network namespace). Starts the daemons ``<name>-in`` and ``<name>-out``.
    """
    if (address is None) == (unix_socket is None):
        raise ValueError("name either an address or a unix socket")
    path = unix_socket
    if path is None:
        path = settings.socket_dir() / f"{name}.sock"
        if not processes.alive(f"{name}-in"):
            path.unlink(missing_ok=True)
        processes.start(
            f"{name}-in", ["socat", f"UNIX-LISTEN:{path},fork,mode=600", f"TCP:{address},connect-timeout=5"]
        )
    if not processes.alive(f"{name}-out"):
        _require_free(port)
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
    processes.start(f"{name}-out", ["socat", listen, f"UNIX-CONNECT:{path}"], in_netns=False)
    wait_for_port("127.0.0.1", port)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LabError(f"the lab needs port {port} of 127.0.0.1, and another program has it") from error


def wait_for_port(host: str, port: int, timeout: float = 10.0) -> None:
    """Wait until something of this host accepts connections on ``host:port``; LabError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with socket.create_connection((host, port), timeout=1):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise LabError(f"nothing listens on {host}:{port} after {timeout:g} s") from error
            time.sleep(0.05)
