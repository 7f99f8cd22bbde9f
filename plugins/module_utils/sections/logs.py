# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check logs: the runbook's error patterns and many more, with time windows; a line alone is a sign, not a cause."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..core.evidence import API, POD, Evidence
from ..core.findings import SERVER, TO_DATABASE, TO_OBJECT_STORAGE, Context, Finding, SectionResult, parse_time
from ..core.signatures import ACCESS, SIGNATURES, Signature
from ..core.workload import (
    RECENT,
    container_statuses,
    current_pods,
    is_ready,
    probes_from_server,
    result_of,
    server_pods,
)

WINDOW = timedelta(minutes=15)
"""Errors older than this belong to another incident unless the container that wrote them ended."""

FULL_DISK_MEMORY = timedelta(minutes=3)
WRITES_OF_SPACE = 20
EXCERPT = 120
SAID = {
    "web_server.driver_missing": "the image lacks the database driver that the backend store URI asks for; ",
    "web_server.options_invalid": "MLflow does not accept its settings and ends; ",
    "web_server.temporary_folder_missing": "MLflow cannot write where it has to; ",
    "web_server.store_file_unusable": "MLflow cannot open the SQLite file of its backend store; ",
    "web_server.workers_cannot_start": "the web server's workers lack a module; ",
}
FLOWS = {"database": TO_DATABASE, "artifact": TO_OBJECT_STORAGE}
API_PATHS = ("/api/2.0/mlflow/", "/ajax-api/2.0/mlflow/")

TRANSFER = "/mlflow-artifacts/artifacts/"
"""Part of the path of an upload or a download through the server; a listing has its query there."""
CLIENT_ERROR, SERVER_ERROR = 400, 500


@dataclass(frozen=True)
class Match:
    """One log line and the signature that it bears."""

    signature: Signature
    evidence: Evidence
    at: str
    text: str
    groups: Mapping[str, str | None]


def analyze(context: Context) -> SectionResult:
    """Report every signature that is still true, and leave out what has recovered since."""
    result = SectionResult()
    grouped: dict[str, list[Match]] = {}
    for match in matches(context):
        if match.signature.finding and not recovered(context, match):
            grouped.setdefault(match.signature.finding, []).append(match)
    for identifier, group in grouped.items():
        finding = finding_of(context, identifier, group)
        if finding is not None:
            result.findings.append(finding)
    return result


def relevant_logs(context: Context) -> Iterator[tuple[Evidence, datetime]]:
    """Yield the logs of the server's containers, and the moment from which their lines count."""
    pods = {pod["metadata"]["name"]: pod for pod in [*current_pods(context), *server_pods(context)]}
    for item in context.evidence.all("kubernetes.pod_log", API):
        pod_name, container, run = (*item.subject.split("/"), "", "")[:3]
        pod = pods.get(pod_name)
        if not item.seen or pod is None or (run == "previous" and is_ready(pod)):
            continue
        times = [parse_time(line["at"]) for line in item.value["lines"] if line.get("at")]
        last = max(times, default=context.now)
        if is_ready(pod):
            yield item, context.now - WINDOW
        elif run == "current" and is_running(pod, container):
            yield item, min(context.now, not_ready_since(pod) or last) - WINDOW
        elif context.now - last <= RECENT:
            yield item, last - WINDOW


def is_running(pod: Mapping[str, Any], container: str) -> bool:
    return any(
        status["name"] == container and "running" in (status.get("state") or {})
        for status, dummy in container_statuses(pod)
    )


def not_ready_since(pod: Mapping[str, Any]) -> datetime | None:
    moments = [
        item.get("lastTransitionTime")
        for item in pod.get("status", {}).get("conditions") or []
        if item["type"] == "Ready" and item["status"] != "True"
    ]
    return next((parse_time(moment) for moment in moments if moment), None)


def match_of(signature: Signature, item: Evidence, line: Mapping[str, Any], found: re.Match[str]) -> Match:
    return Match(signature, item, line.get("at", ""), line["text"][found.start() :][:EXCERPT], found.groupdict())


def matches(context: Context) -> Iterator[Match]:
    """Yield each line that bears a signature and lies within its window."""
    for item, horizon in relevant_logs(context):
        for line in item.value["lines"]:
            if line.get("at") and parse_time(line["at"]) < horizon:
                continue
            for signature in SIGNATURES:
                found = signature.pattern.search(line["text"])
                if found:
                    yield match_of(signature, item, line, found)
                    break


def matches_of(logs: list[Evidence], identifier: str) -> Iterator[Match]:
    """Yield the lines of some logs that bear a signature, whenever they were written."""
    (signature,) = (item for item in SIGNATURES if item.id == identifier)
    for item in logs:
        for line in item.value["lines"]:
            found = signature.pattern.search(line["text"])
            if found:
                yield match_of(signature, item, line, found)


def matches_in_logs(context: Context, identifier: str) -> list[Evidence]:
    """Return the logs in which a signature is still true."""
    return list(
        {
            match.evidence.key: match.evidence
            for match in matches(context)
            if match.signature.id == identifier and not recovered(context, match)
        }.values()
    )


def recovered(context: Context, match: Match) -> bool:
    """A probe that succeeds now, or a success of the same kind in a later line, outweighs an older line."""
    identifier = match.signature.finding
    if match.signature.id == "db_diskfull":
        return later_write(context, match)
    if identifier.startswith("logs.database"):
        return any(result_of(item) == "ok" for item in probes_from_server(context, "probe.login")) and not login_fails(
            context
        )
    if match.signature.id in ("s3_error", "s3_nocred", "sts_error", "s3_endpoint"):
        return later_success(context, match)
    if match.signature.id in ("gu_timeout", "gu_sigkill", "gu_boot", "uv_died"):
        return later_api_success(context, match)
    if identifier == "logs.host_rejected":
        return host_unimportant(context, match)
    if identifier == "logs.temporary_folder_full":
        return uploads_since(context, match.evidence.subject.partition("/")[0], match.at)
    return False


def login_fails(context: Context) -> bool:
    return any(result_of(item) != "ok" for item in probes_from_server(context, "probe.login"))


def accesses(context: Context) -> Iterator[tuple[str, str, str, int]]:
    """Yield time, method, path and status of every access line of the running containers."""
    for item, dummy in relevant_logs(context):
        if not item.subject.endswith("/current"):
            continue
        for line in item.value["lines"]:
            found = ACCESS.search(line["text"])
            if found:
                yield line.get("at", ""), found["method"], found["path"], int(found["status"])


def later_success(context: Context, match: Match) -> bool:
    """A later artifact call of the same kind that worked outweighs an S3 error."""
    method = {"PutObject": "PUT", "GetObject": "GET"}.get(str(match.groups.get("op")))
    if any(
        at > match.at and "/mlflow-artifacts/artifacts" in path and status == 200 and (method is None or used == method)
        for at, used, path, status in accesses(context)
    ):
        return True
    inside = context.evidence.all("probe.s3_list", POD)  # what a copy can do, the serving pods may not
    listed = [item for item in inside if item.seen and result_of(item) == "ok"]
    return method is None and bool(listed)


def later_api_success(context: Context, match: Match) -> bool:
    return any(
        at > match.at and path.startswith(API_PATHS) and status == 200 for at, dummy, path, status in accesses(context)
    )


def later_write(context: Context, match: Match) -> bool:
    """On a full disk some writes still succeed (field guide D-22): many, or one a while later, say that it is over."""
    writes = [
        at
        for at, method, path, status in accesses(context)
        if method == "POST"
        and status == 200
        and at > match.at
        and path.startswith(API_PATHS)
        and not path.endswith("/search")
    ]
    if not match.at or not writes:
        return False
    return len(writes) >= WRITES_OF_SPACE or parse_time(max(writes)) - parse_time(match.at) > FULL_DISK_MEMORY


def transfers(context: Context, pod: str) -> list[tuple[str, str, int]]:
    """Return time, method and status of the artifact transfers in a pod's access log, in order."""
    found = []
    for item, dummy in relevant_logs(context):
        if item.subject.startswith(f"{pod}/") and item.subject.endswith("/current"):
            for line in item.value["lines"]:
                match = ACCESS.search(line["text"])
                if match and TRANSFER in match["path"] and line.get("at"):
                    found.append((str(line["at"]), match["method"], int(match["status"])))
    return sorted(found)


def transfers_fail(context: Context, pod: str) -> bool:
    """Tell whether a pod's last artifact transfer failed by itself."""
    return any(status >= SERVER_ERROR for dummy, dummy_method, status in transfers(context, pod)[-1:])


def uploads_since(context: Context, pod: str, moment: str) -> bool:
    return any(
        at > moment and method == "PUT" and status < CLIENT_ERROR for at, method, status in transfers(context, pod)
    )


def host_unimportant(context: Context, match: Match) -> bool:
    """A rejected host counts when it is a name of the Service or of an ingress: that is how clients call."""
    host = str(match.groups.get("host") or "").strip("\"',").partition(":")[0]
    hosts = [
        rule.get("host")
        for item in context.evidence.objects("kubernetes.ingresses", context.target.namespace)
        for rule in item["spec"].get("rules") or []
    ]
    return host != context.target.service and not host.startswith(f"{context.target.service}.") and host not in hosts


def finding_of(context: Context, identifier: str, group: list[Match]) -> Finding | None:
    section = identifier.partition(".")[0]
    if section != "logs" and not stands_alone(context, group):
        return None
    first, last = group[0], group[-1]
    count = f"{len(group)} times, last at {last.at}" if len(group) > 1 else f"at {last.at}"
    error = next((match.groups["error"] for match in group if match.groups.get("error")), None)
    subject = f"{context.target.kind.lower()}/{context.target.deployment}"
    return Finding(
        identifier,
        subject,
        f"{SAID.get(identifier, '')}the log says {count}: {last.text.strip()}",
        tuple(dict.fromkeys(match.evidence.key for match in group)),
        flow=next((flow for word, flow in FLOWS.items() if word in identifier), SERVER),
        since=first.at or None,
        configured=section != "logs",
        measured=True,
        facts={"error": error or last.text.strip(), "count": len(group)},
    )


def stands_alone(context: Context, group: list[Match]) -> bool:
    """A line may name a cause only where no probe can: MLflow does not come up, or says so itself."""
    if group[0].signature.id == "s3_boto":
        return True
    if any(is_ready(pod) for pod in current_pods(context)):
        return False
    return any(own_log(context, match) for match in group)


def own_log(context: Context, match: Match) -> bool:
    """Tell whether a line stands in a log of MLflow's own container, or of one that has to end before it."""
    pod_name, container, dummy = match.evidence.subject.split("/")
    return any(
        status["name"] == container and (init or container == context.target.container)
        for pod in current_pods(context)
        if pod["metadata"]["name"] == pod_name
        for status, init in container_statuses(pod)
    )


def api_successes(context: Context) -> list[tuple[str, str]]:
    """Return time and method of the successful API calls in the access log; each proves that the database answered."""
    return [
        (at, method)
        for at, method, path, status in accesses(context)
        if status == 200 and path.startswith(API_PATHS) and at
    ]


def last_api_success(context: Context) -> str | None:
    """Return when the API last worked for a client, which is when a failure seen now began at the earliest."""
    return max((at for at, *dummy in api_successes(context)), default=None)


def api_success_since(context: Context, age: timedelta) -> str | None:
    """Return the method of the newest successful API call that is not older than ``age``."""
    at, method = max(api_successes(context), default=("", ""))
    return method if at and context.now - parse_time(at) <= age else None
