# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that a lab leaves, found by where it is and not by who started it, so that a SIGKILL does not matter.

Processes are those on record, those in the lab's network namespace and those in its control groups; mounts are those
below its folders.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path

from tests.lab import image, network, node, processes, settings
from tests.lab.settings import LabError

CNI_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LOGS = Path("/var/log/containers")
SHIM_SOCKETS = Path("/run/containerd/s")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
STATE_LINK = "state"
SHARED_MEMORY_LINE = 6
GRACE_SECONDS = 5.0
KILL_SECONDS = 20.0


def lab_processes() -> dict[int, int]:
    """Process ids of the lab, each with its start time."""
    pids = {pid for name in processes.names() if (pid := processes.pid_of(name))} | _pod_processes()
    if network.exists():
        output = processes.run(["ip", "netns", "pids", settings.NETWORK_NAMESPACE], check=False)
        pids.update(int(pid) for pid in output.split())
    pids.discard(os.getpid())
    return {pid: start for pid in pids if (start := processes.start_time(pid)) is not None}


def _pod_processes() -> set[int]:
    return {pid for group in node.cgroups() for tasks in group.rglob("cgroup.procs") for pid in _read_pids(tasks)}


def _read_pids(tasks: Path) -> list[int]:
    try:
        return [int(pid) for pid in tasks.read_text(encoding="utf-8").split() if pid != "0"]
    except OSError:
        return []  # the group went meanwhile


def mounts() -> list[str]:
    """Mount points below the lab's folders, innermost first."""
    folders = [settings.state_dir(), Path("/run") / settings.NETWORK_NAMESPACE, settings.cache_dir() / "parts"]
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if any(Path(point).is_relative_to(folder) for folder in folders):
            found.append(point)
    return found[::-1]


def remember() -> None:
    """Note where this lab's state is, for a ``clear`` that is run with other XDG folders."""
    (settings.socket_dir() / STATE_LINK).symlink_to(settings.state_dir())


def clear() -> None:
    """End every process of the lab, undo every mount, delete namespace, control groups and state."""
    link = Path("/run") / settings.NETWORK_NAMESPACE / STATE_LINK
    if link.is_symlink() and link.readlink() != settings.state_dir():
        with settings.state_at(link.readlink()):
            _clear()
    _clear()


def _clear() -> None:
    _end_processes()
    for point in mounts():
        processes.run(["umount", "--lazy", point], check=False)
    if left := mounts():
        raise LabError(f"these mounts of the lab cannot be undone: {' '.join(left)}")
    network.down()
    for group in node.cgroups():
        _remove_group(group)
    if image.ready():
        image.restore_store()
    _remove_shared_memory()
    _remove_files()


def _end_processes() -> None:
    """End the pods, then what is on record (SIGTERM, so that databases shut down), then all that is left."""
    # The kubelet first, or it starts pods again; the API server holds nothing and takes a minute to stop.
    for name in ("kubelet", "kube-apiserver"):
        processes.signal_daemon(name, signal.SIGKILL)
    for pid in _pod_processes():
        _kill(pid)
    for name in processes.names():
        processes.signal_daemon(name, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(processes.alive(name) for name in processes.names()) and time.monotonic() < deadline:
        processes.reap()
        time.sleep(0.05)
    deadline = time.monotonic() + KILL_SECONDS
    while left := lab_processes():
        for pid, start in left.items():
            if processes.start_time(pid) == start:
                _kill(pid)
        processes.reap()
        if time.monotonic() > deadline:
            raise LabError(f"these processes of the lab do not end, even by SIGKILL: {sorted(left)}")
        time.sleep(0.05)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _remove_group(group: Path) -> None:
    """Remove a control group and all below it; a group that was just emptied may be busy for a moment."""
    for _attempt in range(20):
        for path in sorted(group.rglob("*"), reverse=True) if group.exists() else []:
            if path.is_dir():
                _remove_folder(path)
        if not group.exists() or _remove_folder(group):
            return
        time.sleep(0.1)
    raise LabError(f"the control group {group} cannot be removed")


def _remove_folder(path: Path) -> bool:
    """Remove a folder if it is empty; whether it is gone."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _remove_shared_memory() -> None:
    """Remove the System V segments of databases that were killed; their ids stand in line 7 of postmaster.pid."""
    for record in (settings.state_dir() / "databases").glob("*/data/postmaster.pid"):
        lines = record.read_text(encoding="utf-8").splitlines()
        if len(lines) > SHARED_MEMORY_LINE and (fields := lines[SHARED_MEMORY_LINE].split()):
            processes.run(["ipcrm", "-m", fields[-1]], check=False)


def _remove_files() -> None:
    shutil.rmtree(settings.state_dir(), ignore_errors=True)
    shutil.rmtree(Path("/run") / settings.NETWORK_NAMESPACE, ignore_errors=True)
    for path in CNI_RESULTS.glob(f"{node.CNI_NAME}-*"):
        container = path.name.split("-")[2]
        path.unlink()
        (CNI_RESULTS / f"cni-loopback-{container}-lo").unlink(missing_ok=True)
    for link in CONTAINER_LOGS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(settings.state_dir()):
            link.unlink()
    for path in [*SHIM_SOCKETS.glob("*"), DEVICE_PLUGINS / "kubelet.sock"]:
        if path.is_socket() and not _listens(path):
            path.unlink()
    if not (DEVICE_PLUGINS / "kubelet.sock").exists():
        (DEVICE_PLUGINS / "kubelet_internal_checkpoint").unlink(missing_ok=True)
    for folder in (CNI_RESULTS, SHIM_SOCKETS, DEVICE_PLUGINS):
        _remove_folder(folder)
        _remove_folder(folder.parent)
    _remove_folder(CONTAINER_LOGS)
    if settings.state_dir().exists():
        raise LabError(f"{settings.state_dir()} cannot be removed")


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True
