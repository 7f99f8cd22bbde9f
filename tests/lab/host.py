# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine must offer to run the lab, checked before anything is touched."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from tests.lab import settings
from tests.lab.settings import LabError

GIB = 1024**3
MEMORY = 4 * GIB
DISK_WARM = 2 * GIB
DISK_COLD = 18 * GIB
V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")


def check(cold: bool) -> None:
    """Raise LabError with one sentence about the first thing that is missing.

    ``cold``: the parts have still to be built, which needs more room on the disk.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise LabError(f"the lab needs Linux on x86_64, this is {platform.system()} on {platform.machine()}")
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes a network namespace, mounts and control groups")
    _check_namespaces()
    _check_cgroups()
    if "\toverlay\n" not in Path("/proc/filesystems").read_text(encoding="utf-8"):
        raise LabError("the lab needs the overlay file system, which this kernel does not have (modprobe overlay)")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if memory < MEMORY:
        raise LabError(f"the lab needs {MEMORY // GIB} GiB of memory, this machine has {memory / GIB:.1f}")
    needed, folder = DISK_COLD if cold else DISK_WARM, settings.cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise LabError(f"the lab needs {needed // GIB} GiB free under {folder}, there are {free / GIB:.1f}")


def check_network_features() -> None:
    """Raise LabError when the kernel lacks what the cluster's network is made of (needs the Debian packages)."""
    trials = {
        "veth pairs": "ip link add lab0 type veth peer name lab1",
        "bridges": "ip link add lab2 type bridge",
        "packet filtering with connection tracking": "iptables -A INPUT -m conntrack --ctstate NEW -j ACCEPT",
        "packet filter comments and statistics": (
            "iptables -A INPUT -m comment --comment x -m statistic --mode random --probability 0.5 -j ACCEPT"
        ),
        "address translation": "iptables -t nat -A POSTROUTING -j MASQUERADE",
        "IP sets": "ipset create lab hash:ip && iptables -A INPUT -m set --match-set lab src -j ACCEPT",
        "filtering of bridged packets (modprobe br_netfilter)": "test -e /proc/sys/net/bridge/bridge-nf-call-iptables",
    }
    for feature, command in trials.items():
        if not _works(["unshare", "--net", "sh", "-c", command]):
            raise LabError(f"the lab needs {feature}, which this kernel or container does not offer")


def _check_namespaces() -> None:
    if not _works(
        ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "mount", "-t", "tmpfs", "x", "/mnt"]
    ):
        raise LabError("the lab needs to make namespaces and mounts, which this machine or container does not allow")


def _check_cgroups() -> None:
    base = Path("/sys/fs/cgroup")
    if (base / "cgroup.controllers").exists():
        missing = {"cpu", "memory", "pids"} - set((base / "cgroup.controllers").read_text(encoding="utf-8").split())
    else:
        missing = {name for name in V1_CONTROLLERS if not (base / name / "cgroup.procs").exists()}
    if missing:
        raise LabError(f"the lab needs the control groups {', '.join(sorted(missing))} under {base}")
    if not os.access(base, os.W_OK):
        raise LabError(f"the lab needs to make control groups, and {base} is read-only")


def _works(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode == 0
