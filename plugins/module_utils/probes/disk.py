# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for artifacts on their way: the folder for temporary files, the artifact cache, and what is old in it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from typing import Any

from .container import read_text

TEMPORARY_VARIABLES = ("TMPDIR", "TEMP", "TMP")
TEMPORARY_FOLDERS = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108 - named, not written
"""Where Python's ``tempfile`` looks, in this order (its documentation, ``gettempdir``); MLflow's uploads go there."""
MOST_SECONDS = 2.0
"""A folder with very many files is not counted to its end."""


def temporary_folder(environment: dict[str, str]) -> str:
    """Return the folder that the server's uploads pass through, without trying to write; empty when there is none."""
    named = [environment[name] for name in TEMPORARY_VARIABLES if environment.get(name)]
    usable = (
        path for path in (*named, *TEMPORARY_FOLDERS) if os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)
    )
    return next(usable, "")


def mount_of(path: str, table: str = "") -> dict[str, str]:
    """Return mount point and type of the file system that holds a path; ``table`` is that of ``/proc/mounts``."""
    real, best = os.path.realpath(path), {"mount": "", "type": ""}
    for line in (table or read_text("/proc/mounts")).splitlines():
        dummy, point, kind = line.split(" ")[:3]
        point = point.replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best["mount"]):
            best = {"mount": point, "type": kind}
    return best


def open_files(root: str = "/proc") -> set[tuple[int, int]]:
    """Return device and inode of every file that a process of the container has open."""
    found = set()
    for process in os.listdir(root):
        folder = f"{root}/{process}/fd"
        if not process.isdigit():
            continue
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            try:
                status = os.stat(f"{folder}/{name}")
            except OSError:
                continue
            found.add((status.st_dev, status.st_ino))
    return found


def status_of(name: str, descriptor: int) -> os.stat_result | None:
    """Return a file's status, without following a link; None when it went away meanwhile."""
    try:
        return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return None


def clearable(directory: str, before: float) -> Iterator[tuple[int, str, os.stat_result]]:
    """Yield the old files below a directory that nobody has open, never through a link and never across a mount.

    Args:
        directory: the real path of a folder.
        before: a file that was written or changed later than this is not old, in seconds since 1970.

    Yields:
        Descriptor of the file's folder, its name in it, and its status.
    """
    device, busy = os.stat(directory).st_dev, open_files()
    for dummy, names, files, descriptor in os.fwalk(directory, topdown=True, follow_symlinks=False):
        names[:] = [name for name in names if (seen := status_of(name, descriptor)) and seen.st_dev == device]
        for name in files:
            status = status_of(name, descriptor)
            if status is None or not stat.S_ISREG(status.st_mode):
                continue
            old = max(status.st_mtime, status.st_ctime) < before
            if old and (status.st_dev, status.st_ino) not in busy:
                yield descriptor, name, status


def room(path: str) -> dict[str, Any]:
    """Measure the file system that holds a folder: what is free for a process without privileges."""
    seen = os.statvfs(path)
    return {
        "folder": path,
        **mount_of(path),
        "total_bytes": seen.f_blocks * seen.f_frsize,
        "free_bytes": seen.f_bavail * seen.f_frsize,
        "total_inodes": seen.f_files,
        "free_inodes": seen.f_favail,
    }


def old_in(directory: str, seconds: float) -> dict[str, Any]:
    """Count what ``clear_artifact_cache`` would remove, as far as a short look goes."""
    now, end = time.time(), time.monotonic() + MOST_SECONDS
    files = size = 0
    for *dummy, status in clearable(directory, now - seconds):
        files, size = files + 1, size + status.st_blocks * 512
        if time.monotonic() > end:
            break
    return {"older_than_seconds": seconds, "old_files": files, "old_bytes": size}


def measure(wanted: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Measure where uploads pass through, and the artifact cache.

    Args:
        wanted: ``directory`` and ``older_than_seconds`` of the cache.
        environment: the running server's.

    Returns:
        ``temporary`` and ``cache``, each as ``room`` says or ``None`` when it is not there; the cache with
        ``older_than_seconds``, ``old_files`` and ``old_bytes``.
    """
    folder, directory = temporary_folder(environment), wanted["directory"]
    there = os.path.isdir(directory) and os.path.realpath(directory) == os.path.normpath(directory)
    return {
        "temporary": room(folder) if folder else None,
        "cache": {**room(directory), **old_in(directory, wanted["older_than_seconds"])} if there else None,
    }
