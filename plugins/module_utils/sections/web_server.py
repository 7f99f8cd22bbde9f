# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second runbook: web server options, static prefix, allowed hosts, workers; and the honest health probe."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from ..core.catalogue import BY_ID
from ..core.evidence import API, POD, SOURCE_PREFIX, Evidence
from ..core.findings import TO_DATABASE, Context, Finding, SectionResult, keys, source_flow
from ..core.kinds import Role
from ..core.workload import changed, current_pods, result_of, workload, workload_name
from ..probes.web import rejects_host
from . import client_uris, web_disk, web_options, web_workers
from .logs import SERVER_ERROR, last_api_success
from .stale_settings import stale_setting

HONEST = "experiments/search"
"""The cheapest call that touches the database; ``/health`` is blind to it (field guide section 1.1)."""

REGISTRY = "registered-models/search"
NOT_FOUND = 404
HOST_IN_URL = re.compile(r"^https?://(?P<host>[^/]+)(?P<path>/.*)?$")
BODIES = (
    ("database.pool_exhausted", re.compile(r"QueuePool limit of size")),
    ("database.statement_canceled", re.compile(r"canceling statement due to (?P<what>statement|lock) timeout")),
    ("database.objects_missing", re.compile(r"errors\.Undefined(?:Table|Column)")),
    ("database.privileges_missing", re.compile(r"permission denied for (?:table|relation|sequence) (?P<what>\w+)")),
)
"""Bodies of 400 answers, which MLflow does not log (field guide section 1.2)."""


def analyze(context: Context) -> SectionResult:
    """Judge what the web server answers, and the options that decide it."""
    result = SectionResult()
    static_prefix(context, result)
    api(context, result)
    registry(context, result)
    rejected_hosts(context, result)
    web_options.judge(context, result)
    web_workers.judge(context, result)
    web_disk.judge(context, result)
    honest = [item for item in local_calls(context, HONEST) if item.value.get("status") == 200]
    if honest and all(BY_ID[item.id].role is Role.NOTE for item in result.findings):
        result.rule_out("web_server.api_failing", *honest)
        result.rule_out("web_server.static_prefix", *honest)
    return result


def calls(context: Context, fragment: str, *places: str) -> list[Evidence]:
    return [
        item
        for item in context.evidence.all("probe.http")
        if item.seen
        and isinstance(item.value, dict)
        and fragment in item.subject
        and (not places or item.place in places)
    ]


def local_calls(context: Context, fragment: str) -> list[Evidence]:
    """Return calls that the MLflow pods made to themselves."""
    return calls(context, fragment, POD)


def path_of(item: Evidence) -> str:
    match = HOST_IN_URL.match(item.subject)
    return (match["path"] or "/") if match else "/"


def effective(context: Context, fragment: str) -> list[Evidence]:
    """Return the pods' own calls below the static prefix, which is where the server really answers."""
    prefix = context.target.static_prefix
    return [item for item in local_calls(context, fragment) if not prefix or path_of(item).startswith(prefix + "/")]


def static_prefix(context: Context, result: SectionResult) -> None:
    """A prefix is a fault when the root path is what clients use: no ingress and no client leads to the prefix."""
    prefix = context.target.static_prefix
    if not prefix or client_uris.prefix_in_use(context, prefix):
        return
    roots = [item for item in calls(context, "", POD, *sources(context)) if path_of(item) == "/"]
    api_at_root = [item for item in calls(context, HONEST) if not path_of(item).startswith(prefix + "/")]
    missing = [item for item in [*roots, *api_at_root] if item.value.get("status") == NOT_FOUND]
    working = [item for item in effective(context, HONEST) if item.value.get("status") == 200]
    if not missing and context.evidence.all("probe.http", POD):
        return
    found = workload(context)
    result.findings.append(
        Finding(
            "web_server.static_prefix",
            workload_name(context),
            f"--static-prefix={prefix} moves the server away from the root path: / answers 404, "
            f"and no ingress leads to {prefix}",
            keys([context.evidence.first("kubernetes.deployments", API), *missing, *working]),
            since=newest_revision(context) or (changed(found) if found else None),
            configured=True,
            measured=bool(missing),
            facts={"prefix": prefix},
        )
    )
    if missing:
        result.findings.append(
            Finding(
                "web_server.root_not_found",
                workload_name(context),
                "the root path answers 404",
                keys(missing),
                measured=True,
            )
        )


def sources(context: Context) -> tuple[str, ...]:
    return tuple({item.place for item in context.evidence if item.place.startswith(SOURCE_PREFIX)})


def newest_revision(context: Context) -> str | None:
    pods = current_pods(context)
    return min((pod["metadata"]["creationTimestamp"] for pod in pods), default=None)


def failed(item: Evidence) -> bool:
    status = int(item.value.get("status") or 0)
    return result_of(item) != "ok" or status >= SERVER_ERROR or status == 400


def api(context: Context, result: SectionResult) -> None:
    """Find a server that lives but cannot work: its honest call fails, or nothing answers at all."""
    honest = effective(context, HONEST)
    health = effective(context, "/health")
    alive = [item for item in health if item.value.get("status") == 200]
    failing = [item for item in honest if failed(item)]
    if failing and alive:
        example = failing[0].value
        answer = f"{example.get('status') or result_of(failing[0])}"
        result.findings.append(
            Finding(
                "web_server.api_failing",
                workload_name(context),
                f"/health answers 200 but the API does not work: {answer} {message_of(str(example.get('body') or ''))}",
                keys([*failing, *alive]),
                since=last_api_success(context),
                measured=True,
            )
        )
        bodies(context, failing, result)
    refused = [item for item in health if result_of(item) in ("refused", "timeout", "reset")]
    if refused and not alive:
        result.findings.append(
            Finding(
                "web_server.not_answering",
                workload_name(context),
                f"nothing answers on port {context.target.port} inside the pod ({result_of(refused[0])})",
                keys(refused),
                measured=True,
            )
        )


def registry(context: Context, result: SectionResult) -> None:
    """Models are registered through tables of their own, which can fail while runs are logged."""
    failing = [item for item in effective(context, REGISTRY) if failed(item)]
    runs = effective(context, HONEST)
    if not failing or not runs or any(failed(item) for item in runs):
        return
    example = failing[0].value
    answer = f"{example.get('status') or result_of(failing[0])} {message_of(str(example.get('body') or ''))}"
    result.findings.append(
        Finding(
            "web_server.registry_failing",
            workload_name(context),
            f"runs can be read, registered models cannot: {answer}",
            keys([*failing, *runs]),
            measured=True,
        )
    )
    bodies(context, failing, result)


def bodies(context: Context, failing: list[Evidence], result: SectionResult) -> None:
    for item in failing:
        for identifier, pattern in BODIES:
            match = pattern.search(str(item.value.get("body", "")))
            if not match:
                continue
            object_name = (
                workload_name(context)
                if identifier == "database.pool_exhausted"
                else context.target.db_instance_identifier or str(context.target.backend.get("host"))
            )
            result.findings.append(
                Finding(
                    identifier,
                    object_name,
                    message_of(str(item.value["body"])),
                    (item.key,),
                    flow=TO_DATABASE,
                    measured=True,
                    facts={
                        "error": str(item.value["body"])[:160],
                        "missing": "access to " + str(match.groupdict().get("what")),
                        "user": context.target.backend.get("user"),
                    },
                )
            )


def message_of(body: str) -> str:
    """Return the message of MLflow's error document, or the start of the body."""
    match = re.search(r'"message":\s*"(?P<text>[^"]{1,160})', body)
    return match["text"] if match else body[:160]


def rejected_hosts(context: Context, result: SectionResult) -> None:
    """Clients call by the Service's name; since MLflow 3.5 a name that is not allowed gets 403 (field guide W-10)."""
    rejected = [item for item in calls(context, "") if rejects_host(item.value)]
    by_clients = [
        item
        for item in rejected
        if item.place.startswith(SOURCE_PREFIX)
        and context.target.service
        and f"//{context.target.service}" in item.subject
    ]
    if not by_clients:
        return
    hosts = sorted({match["host"] for item in by_clients if (match := HOST_IN_URL.match(item.subject))})
    stale = stale_setting(
        context,
        ("MLFLOW_SERVER_ALLOWED_HOSTS",),
        lambda configured: all(any(fnmatchcase(host, entry) for entry in configured.split(",")) for host in hosts),
        by_clients,
    )
    result.findings.append(
        stale
        or Finding(
            "web_server.host_not_allowed",
            workload_name(context),
            f"MLflow answers 403 to clients that call it {', '.join(hosts)}: the name is not among its allowed hosts",
            keys([context.evidence.first("kubernetes.deployments", API), *by_clients]),
            since=newest_revision(context),
            configured=True,
            measured=True,
            facts={"hosts": ", ".join(hosts)},
        )
    )
    for item in by_clients:
        result.findings.append(
            Finding(
                "service.unreachable",
                f"service/{context.target.service}",
                "the Service answers 403 to its clients",
                (item.key,),
                flow=source_flow(item.place[len(SOURCE_PREFIX) :]),
                measured=True,
            )
        )
