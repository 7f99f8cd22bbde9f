# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages that the lab runs: found, or installed when that is possible."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from os import geteuid
from pathlib import Path

from tests.lab import processes
from tests.lab.progress import step
from tests.lab.settings import LabError

PACKAGES = (
    "chromium",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "etcd-server",
    "iproute2",
    "ipset",
    "iptables",
    "mmdebstrap",
    "postgresql-15",
    "procps",
    "runc",
    "socat",
    "util-linux",
)
POLICY = Path("/usr/sbin/policy-rc.d")


def missing_packages() -> list[str]:
    """Packages of the list that are not installed."""
    if not shutil.which("dpkg-query"):
        raise LabError("the lab needs Debian 12 (its packages come from apt), and this machine has no dpkg")
    lines = processes.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *PACKAGES], check=False)
    installed = {line.split()[0] for line in lines.splitlines() if line.endswith(" installed")}
    return [package for package in PACKAGES if package not in installed]


def ensure() -> None:
    """Install what is missing; without root, say what it is."""
    missing = missing_packages()
    if not missing:
        return
    if geteuid() != 0:
        raise LabError(f"these Debian packages are missing and only root can install them: {' '.join(missing)}")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"install Debian packages ({' '.join(missing)})", "30 s"), _no_service_starts():
        processes.run(["apt-get", "-q", "update"], timeout=300, env=environment)
        argv = ["apt-get", "-q", "-y", "--no-install-recommends", "install", *missing]
        processes.run(argv, timeout=900, env=environment)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep the packages from starting their services: the lab runs its own, with its own data."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
