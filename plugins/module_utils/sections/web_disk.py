# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for artifacts on their way through the server: a full file system in the pod (field guide A-16).

What the pod measures outweighs what the log says. A full folder alone is no trouble: a process that finds it full takes
another one, and uvicorn streams uploads past it (read in MLflow 3.17.2), so a transfer has to have failed. A database
whose disk is full says so in other words (D-22), and a pod that used more than its share of the node's disk is evicted
(K-17), which the pods' section judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.evidence import API, POD, Evidence
from ..core.findings import Context, Finding, SectionResult, keys
from ..core.workload import container_spec, current_pods, workload_name
from .logs import Match, matches, own_log, transfers_fail, uploads_since

ROOM_BYTES = 1 << 20
"""With less than this no artifact worth the name passes; file systems round, and some keep a little back."""

SMALL_SHARE = 0.05
"""A small file system with more of itself left than this is not full."""


def judge(context: Context, result: SectionResult) -> None:
    """Report the pods whose uploads find no room; where no pod could be measured, the log's word has to do."""
    said = [match for match in matches(context) if match.signature.id == "tmp_full" and own_log(context, match)]
    measured = [item for item in context.evidence.all("probe.disk", POD) if item.seen and "temporary" in item.value]
    for item in measured:
        room = item.value["temporary"]
        pod = str(item.value.get("probe_pod") or "")
        lines = [match for match in said if match.evidence.subject.startswith(f"{pod}/")]
        failed = bool(lines) or transfers_fail(context, pod)
        if room and is_full(room) and (failed or not log_seen(context, pod)):
            result.findings.append(full(context, item, lines, failed=failed))
        elif room and not is_full(room):
            result.rule_out("web_server.artifact_disk_full", item)
    seen = {str(item.value.get("probe_pod") or "") for item in measured}
    unseen = [match for match in said if match.evidence.subject.partition("/")[0] not in seen]
    pods = {match.evidence.subject.partition("/")[0] for match in unseen}
    if unseen and not any(uploads_since(context, pod, unseen[-1].at) for pod in pods):
        result.findings.append(only_said(context, unseen))


def is_full(room: Mapping[str, Any]) -> bool:
    """Tell whether a file system has neither room nor names for one more upload; some count no inodes."""
    least = min(ROOM_BYTES, SMALL_SHARE * int(room["total_bytes"]))
    no_names = int(room["total_inodes"]) > 0 and int(room["free_inodes"]) == 0
    return int(room["free_bytes"]) <= least or no_names


def log_seen(context: Context, pod: str) -> bool:
    """Tell whether the pod's log could be read: only then does its silence say that no transfer failed."""
    subject = f"{pod}/{context.target.container}/current"
    return any(item.seen for item in context.evidence.all("kubernetes.pod_log", API, subject))


def volume_at(context: Context, pod: str, mount: str) -> tuple[str, str]:
    """Return name and description of the volume that a pod mounts at a path; empty when the path is the container's."""
    for item in current_pods(context):
        if item["metadata"]["name"] != pod:
            continue
        mounts = container_spec(item, context.target.container).get("volumeMounts") or []
        name = next((entry["name"] for entry in mounts if entry.get("mountPath", "").rstrip("/") == mount), "")
        for volume in item["spec"].get("volumes") or []:
            if name and volume["name"] == name:
                empty = volume.get("emptyDir")
                limit = f" of {empty['sizeLimit']}" if empty and empty.get("sizeLimit") else ""
                medium = " in memory" if empty and empty.get("medium") == "Memory" else ""
                return name, f"volume {name}" + (f" (emptyDir{limit}{medium})" if empty is not None else "")
    return "", ""


def full(context: Context, item: Evidence, lines: list[Match], *, failed: bool) -> Finding:
    """Say which file system is full, and how much of the artifact cache in it could be cleared."""
    room, cache = item.value["temporary"], item.value.get("cache") or {}
    pod = str(item.value.get("probe_pod") or "")
    name, volume = volume_at(context, pod, str(room["mount"]).rstrip("/"))
    where = volume or (
        "the container's own file system, which is the node's disk" if room["mount"] == "/" else room["mount"]
    )
    names = "" if int(room["free_bytes"]) <= ROOM_BYTES else ", no inode is free"
    here = cache.get("mount") == room["mount"]
    clearable = int(cache.get("old_bytes") or 0) if here else 0
    return Finding(
        "web_server.artifact_disk_full",
        workload_name(context),
        f"artifacts pass through {room['folder']} of pod {pod}, which is full: {room['free_bytes']} of "
        f"{room['total_bytes']} bytes are free{names} ({where}); {clearable} bytes of old artifacts lie in it",
        keys([context.evidence.first("kubernetes.pods", API), item, *(match.evidence for match in lines)]),
        since=lines[0].at or None if lines else None,
        configured=True,
        measured=True,
        facts={
            "folder": room["folder"],
            "volume": name,
            "free": room["free_bytes"],
            "size": room["total_bytes"],
            "clearable_bytes": clearable,
            "later": not failed,
        },
    )


def only_said(context: Context, lines: list[Match]) -> Finding:
    """Say what the log says of a pod that could not be entered."""
    count = f"{len(lines)} times, last at {lines[-1].at}" if len(lines) > 1 else f"at {lines[-1].at}"
    return Finding(
        "web_server.artifact_disk_full",
        workload_name(context),
        f"the log says {count}: {lines[-1].text.strip()}",
        tuple(dict.fromkeys(match.evidence.key for match in lines)),
        since=lines[0].at or None,
        measured=True,
        facts={"folder": "(/tmp, unless TMPDIR names another)"},
    )
