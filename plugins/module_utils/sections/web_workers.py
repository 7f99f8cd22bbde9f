# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second runbook: workers that are killed, that never start, or that run out of memory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ..core.discovery import commands_of
from ..core.evidence import API, POD, Evidence
from ..core.findings import Context, Finding, SectionResult, keys, parse_time
from ..core.quantity import byte_count
from ..core.workload import (
    container_spec,
    container_statuses,
    current_pods,
    is_ready,
    result_of,
    workload,
    workload_name,
)
from .logs import SERVER_ERROR, Match, matches, matches_of, own_log, recovered
from .pod_containers import MEMORY_NEED, REPEATED, log_of, pod_keys
from .web_options import gunicorn_options

HONEST = "experiments/search"
"""Part of the path that is asked with patience; a shorter wait for another answer proves nothing on a busy machine."""

OFTEN = 3
LATELY = timedelta(minutes=5)
OWN_TIMEOUT = timedelta(seconds=3)
"""gunicorn speaks of memory within two seconds after its own time-out killed a worker (field guide W-03)."""

DEFAULT_TIMEOUT = "30"
NEARLY_FULL = 0.85
LAST_LINES = 40


def judge(context: Context, result: SectionResult) -> None:
    """Judge why the web server's workers end."""
    seen = list(matches(context))
    timeouts(context, seen, result)
    cannot_start(context, seen, result)
    out_of_memory(context, seen, result)


def lately(context: Context, match: Match) -> bool:
    return bool(match.at) and context.now - parse_time(match.at) <= LATELY


def killed_by_timeout(context: Context, seen: list[Match]) -> list[Match]:
    """Return gunicorn's words on workers whose time was up, also those of a run that a liveness probe just ended."""
    lines = [match for match in seen if match.signature.id == "gu_timeout"]
    known = {match.evidence.key for match in seen}
    for pod in current_pods(context):
        earlier = [item for item in previous_log_of(context, pod) if item.key not in known]
        lines += [match for match in matches_of(earlier, "gu_timeout") if lately(context, match)]
    return sorted(lines, key=lambda match: match.at)


def previous_log_of(context: Context, pod: Mapping[str, Any]) -> list[Evidence]:
    subject = f"{pod['metadata']['name']}/{context.target.container}/previous"
    return [item for item in context.evidence.all("kubernetes.pod_log", API, subject) if item.seen]


def kills_lately(context: Context) -> bool:
    """Tell whether gunicorn ends workers again and again, which then are not merely held."""
    lines = killed_by_timeout(context, list(matches(context)))
    return sum(lately(context, match) for match in lines) >= REPEATED


def timeouts(context: Context, seen: list[Match], result: SectionResult) -> None:
    """Report workers that gunicorn kills because their requests take too long, while it still happens (W-01)."""
    lines = killed_by_timeout(context, seen)
    if len(lines) < REPEATED:
        return
    found = workload(context)
    command = commands_of(found, context.evidence)[context.target.container] if found else None
    options = gunicorn_options(command) if command else {}
    limit = options.get("timeout") or DEFAULT_TIMEOUT
    calls = [item for item in context.evidence.all("probe.http", POD) if item.seen and HONEST in item.subject]
    still = [item for item in calls if failed_or_waited(item, int(limit) if limit.isdigit() else 0)]
    often = sum(lately(context, match) for match in lines) >= OFTEN and not recovered(context, lines[-1])
    serving = all(is_ready(pod) for pod in current_pods(context))
    if not still and (calls or not often or serving):
        return  # where nobody could ask, a line alone says nothing against pods that are ready
    kind = options.get("worker-class") or "sync"
    workers = (command.setting("workers") if command else "") or "4"
    result.findings.append(
        Finding(
            "web_server.worker_timeout",
            workload_name(context),
            f"gunicorn killed {len(lines)} workers whose request took longer than {limit} s, last at {lines[-1].at}; "
            f"it has {workers} of class {kind}",
            tuple(dict.fromkeys([*(match.evidence.key for match in lines), *keys(still)])),
            since=lines[0].at or None,
            configured=context.target.web_server == "gunicorn",
            measured=True,
        )
    )


def failed_or_waited(call: Evidence, limit: int) -> bool:
    """Tell whether a call failed, or waited for a worker longer than gunicorn gives one."""
    status, seconds = int(call.value.get("status") or 0), float(call.value.get("seconds") or 0.0)
    return result_of(call) != "ok" or status >= SERVER_ERROR or seconds >= limit > 0


def cannot_start(context: Context, seen: list[Match], result: SectionResult) -> None:
    """Report a module that the workers cannot import: they die again and again, or take the server with them (W-04)."""
    if any(is_ready(pod) for pod in current_pods(context)):
        return
    lines = [
        match
        for match in seen
        if match.signature.id == "module_missing" and own_log(context, match) and not told_otherwise(seen, match)
    ]
    if not lines:
        return
    died = [match for match in seen if match.signature.id in ("uv_died", "gu_boot") and own_log(context, match)]
    last = lines[-1]
    tail = [line["text"] for line in last.evidence.value["lines"][-LAST_LINES:]]
    if not died and not any(last.text[:40] in text for text in tail):
        return
    error = str(last.groups.get("error"))
    result.findings.append(
        Finding(
            "web_server.workers_cannot_start",
            workload_name(context),
            f"the server cannot import what it needs: {error}",
            tuple(dict.fromkeys(match.evidence.key for match in [*lines, *died])),
            since=lines[0].at or None,
            configured=True,
            measured=True,
            facts={"error": f"use an image in which this works: {error}"},
        )
    )


def told_otherwise(seen: list[Match], match: Match) -> bool:
    """Tell whether a web server's own word about its options goes with an import that failed: then those are wrong."""
    return any(
        other.signature.id == "cli_error"
        and other.evidence is match.evidence
        and bool(other.at and match.at)
        and abs(parse_time(other.at) - parse_time(match.at)) <= OWN_TIMEOUT
        for other in seen
    )


def memory_deaths(context: Context, seen: list[Match], pod: Mapping[str, Any]) -> list[Match]:
    """Return the deaths of a pod's workers that neither a time-out nor an import explains."""
    mine = [match for match in seen if match.evidence.subject.startswith(pod["metadata"]["name"] + "/")]
    own = [parse_time(match.at) for match in mine if match.signature.id == "gu_timeout" and match.at]
    if any(match.signature.id in ("module_missing", "prom_missing", "gu_class") for match in mine):
        return []
    return [
        match
        for match in mine
        if match.signature.id in ("uv_died", "gu_sigkill")
        and lately(context, match)
        and not any(abs(parse_time(match.at) - moment) <= OWN_TIMEOUT for moment in own)
    ]


def memory_pressure(context: Context, pod: Mapping[str, Any], limit: int) -> list[Evidence]:
    """Return what shows that a container met its memory limit: the kernel's counter, or its use."""
    name = pod["metadata"]["name"]
    counted = [
        item
        for item in context.evidence.all("probe.environment", POD)
        if item.seen and item.value.get("probe_pod") == name and (item.value.get("memory") or {}).get("oom_kills")
    ]
    used = [
        item
        for item in context.evidence.all("kubernetes.pod_metrics", API)
        if item.seen
        for row in item.value["items"]
        if row["metadata"]["name"] == name
        for container in row.get("containers") or []
        if container["name"] == context.target.container
        and (byte_count(container["usage"].get("memory")) or 0) >= NEARLY_FULL * limit
    ]
    return [*counted, *used]


def out_of_memory(context: Context, seen: list[Match], result: SectionResult) -> None:
    """The kernel may kill one worker and leave the container running: no restart, no reason (field guide K-10)."""
    for pod in current_pods(context):
        quantity = container_spec(pod, context.target.container).get("resources", {}).get("limits", {}).get("memory")
        limit = byte_count(quantity)
        running = any(
            status["name"] == context.target.container and "running" in (status.get("state") or {})
            for status, dummy in container_statuses(pod)
        )
        deaths = memory_deaths(context, seen, pod) if limit and running else []
        pressure = memory_pressure(context, pod, limit) if limit and len(deaths) >= REPEATED else []
        if not pressure:
            continue
        logs = [item.key for item in log_of(context, pod, context.target.container)]
        result.findings.append(
            Finding(
                "pods.worker_out_of_memory",
                workload_name(context),
                f"{len(deaths)} worker processes of pod {pod['metadata']['name']} were killed at the memory limit of "
                f"{quantity}, last at {deaths[-1].at}; the container itself lives on",
                tuple(dict.fromkeys([*pod_keys(context), *logs, *keys(pressure)])),
                since=deaths[0].at or None,
                configured=True,
                measured=True,
                facts={"limit": quantity, "container": context.target.container, "need": MEMORY_NEED},
            )
        )
        return
