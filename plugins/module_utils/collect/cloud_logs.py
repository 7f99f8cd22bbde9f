# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of what CloudWatch Logs keeps of one server: its database's log, and those of its pods that are shipped."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from ..clients.aws import CloudReader
from ..clients.calls import Observation
from ..core.evidence import CLOUD, Evidence, State
from ..core.redaction import mask_key_lines
from .threads import Job, Notebook

LOG = "aws.log"
RDS = "/aws/rds/instance/{identifier}/"
"""Where RDS publishes an instance's logs (Amazon RDS User Guide, "Publishing database logs to CloudWatch Logs")."""

INSIGHTS = "/aws/containerinsights/"
STREAM = "{node}-application.var.log.containers.{pod}_"
"""Where Fluent Bit ships the logs of pods (CloudWatch User Guide, "Set up Fluent Bit as a DaemonSet")."""

MOST_GROUPS = 50
STREAMS = 2
EVENTS = 400
LINE_CHARACTERS = 2000
MOST_PODS = 5


def jobs(
    reader: CloudReader, notebook: Notebook, identifier: str, cluster: str, pods: Iterable[Mapping[str, Any]]
) -> list[Job]:
    """Return the jobs that read what is there.

    Args:
        reader: AWS.
        notebook: where times come from.
        identifier: RDS instance; empty when it is not known.
        cluster: name of the cluster's connection, which ends with the cluster's own name on EKS.
        pods: the server's pods.
    """
    wanted: list[Job] = [partial(pod_logs, reader, notebook, cluster, list(pods)[:MOST_PODS])]
    if identifier:
        wanted.append(partial(database_logs, reader, notebook, identifier))
    return wanted


def groups(reader: CloudReader, prefix: str) -> Observation:
    """List the log groups whose names begin with ``prefix``."""
    limit = {"MaxItems": MOST_GROUPS}
    seen = reader.call("logs", "describe_log_groups", logGroupNamePrefix=prefix, PaginationConfig=limit)
    names = [row["logGroupName"] for row in seen.value.get("logGroups") or []] if seen.seen else []
    return Observation(seen.state, names, seen.detail) if seen.seen else seen


def database_logs(reader: CloudReader, notebook: Notebook, identifier: str) -> list[Evidence]:
    """Read the newest streams of each log that the instance publishes."""
    prefix = RDS.format(identifier=identifier)
    found = groups(reader, prefix)
    if found.seen and not found.value:
        found = Observation(State.ABSENT, detail=f"no log group {prefix}*: the instance publishes no logs")
    if not found.seen:
        return [notebook.note(LOG, CLOUD, prefix.strip("/"), found)]
    return [row for group in found.value for row in newest(reader, notebook, group, STREAMS)]


def pod_logs(reader: CloudReader, notebook: Notebook, cluster: str, pods: list[Mapping[str, Any]]) -> list[Evidence]:
    """Read what was shipped of the server's pods."""
    found = groups(reader, INSIGHTS)
    subject = INSIGHTS.strip("/")
    if not found.seen:
        return [notebook.note(LOG, CLOUD, subject, found)]
    applications = [name for name in found.value if name.endswith("/application")]
    mine = [name for name in applications if cluster.endswith(name.split("/")[-2])] or applications
    if len(mine) != 1:
        reason = f"{len(mine)} log groups {INSIGHTS}*/application, none of them is this cluster's for certain"
        absent = f"no log group {INSIGHTS}*/application: logs of pods are not shipped"
        state = Observation(State.SKIPPED, detail=reason) if mine else Observation(State.ABSENT, detail=absent)
        return [notebook.note(LOG, CLOUD, subject, state)]
    prefixes = [
        STREAM.format(node=pod["spec"].get("nodeName", ""), pod=pod["metadata"]["name"])
        for pod in pods
        if pod["spec"].get("nodeName")
    ]
    return [row for prefix in prefixes for row in newest(reader, notebook, mine[0], STREAMS, prefix)]


def newest(reader: CloudReader, notebook: Notebook, group: str, count: int, prefix: str = "") -> list[Evidence]:
    """Read the end of the newest streams of a group, or of those whose names begin with ``prefix``."""
    order: dict[str, Any] = (
        {"logStreamNamePrefix": prefix} if prefix else {"orderBy": "LastEventTime", "descending": True}
    )
    seen = reader.call(
        "logs", "describe_log_streams", logGroupName=group, PaginationConfig={"MaxItems": count}, **order
    )
    subject = f"{group}/{prefix}".strip("/")
    if not seen.seen:
        return [notebook.note(LOG, CLOUD, subject, seen)]
    names = [row["logStreamName"] for row in seen.value.get("logStreams") or []]
    if not names:
        return [notebook.note(LOG, CLOUD, subject, Observation(State.ABSENT, detail="no log streams"))]
    return [stream(reader, notebook, group, name) for name in names]


def stream(reader: CloudReader, notebook: Notebook, group: str, name: str) -> Evidence:
    """Read the end of one stream."""
    seen = reader.call(
        "logs", "get_log_events", logGroupName=group, logStreamName=name, limit=EVENTS, startFromHead=False
    )
    if seen.seen:
        rows = [
            {"at": moment(row.get("timestamp") or 0), "text": str(row.get("message", ""))[:LINE_CHARACTERS]}
            for row in seen.value.get("events") or []
        ]
        state = State.PARTIAL if len(rows) >= EVENTS else State.OK
        seen = Observation(
            state, {"lines": mask_key_lines(rows)}, f"only the last {EVENTS} events" if state is State.PARTIAL else ""
        )
    return notebook.note(LOG, CLOUD, f"{group}/{name}".strip("/"), seen)


def moment(milliseconds: int) -> str:
    """Return milliseconds since 1970 as ISO 8601."""
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
