# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of the server's logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from ..clients.calls import Observation
from ..clients.kubernetes import ClusterReader
from ..core.evidence import API, Evidence, State
from ..core.redaction import mask_key_lines
from .threads import Job, Notebook

LINES = 400
LINE_CHARACTERS = 2000
MOST_PODS = 5


def split_lines(text: str) -> dict[str, Any]:
    """Return log text with times as evidence keeps it.

    Args:
        text: lines of an RFC 3339 time, a space and the text.

    Returns:
        ``lines`` of ``at`` and ``text``, and whether older lines were left out.
    """
    rows = []
    for line in text.splitlines():
        at, _dummy, rest = line.partition(" ")
        if at[:4].isdigit() and "T" in at:
            rows.append({"at": at[:19] + "Z", "text": rest[:LINE_CHARACTERS]})
        elif rows:
            rows[-1]["text"] = (rows[-1]["text"] + "\n" + line)[:LINE_CHARACTERS]
    return {"lines": mask_key_lines(rows), "truncated": len(rows) >= LINES}


def wanted_logs(pods: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, bool]]:
    """Choose logs to read: pod, container, and whether the container's earlier run is meant.

    Init containers count once they have failed or still run; a container that never started has no log.
    """
    wanted = []
    for pod in list(pods)[:MOST_PODS]:
        status = pod.get("status") or {}
        inits = [item for item in status.get("initContainerStatuses") or [] if not init_done(item)]
        for item in [*inits, *(status.get("containerStatuses") or [])]:
            state = item.get("state") or {}
            if "running" in state or "terminated" in state:
                wanted.append((pod["metadata"]["name"], item["name"], False))
            if item.get("restartCount", 0) > 0:
                wanted.append((pod["metadata"]["name"], item["name"], True))
    return wanted


def init_done(status: Mapping[str, Any]) -> bool:
    ended = (status.get("state") or {}).get("terminated") or {}
    return ended.get("exitCode") == 0


def read_log(
    reader: ClusterReader, notebook: Notebook, namespace: str, pod: str, container: str, previous: bool
) -> list[Evidence]:
    """Read one log."""
    seen = reader.pod_log(namespace, pod, container, previous=previous, lines=LINES)
    if seen.seen:
        value = split_lines(seen.value)
        seen = Observation(State.PARTIAL if value["truncated"] else State.OK, value)
    run = "previous" if previous else "current"
    return [notebook.note("kubernetes.pod_log", API, f"{pod}/{container}/{run}", seen)]


def jobs(reader: ClusterReader, notebook: Notebook, namespace: str, pods: Iterable[Mapping[str, Any]]) -> list[Job]:
    """Return one job for each log of the server's pods."""
    return [partial(read_log, reader, notebook, namespace, *item) for item in wanted_logs(pods)]
