# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second runbook: how MLflow is started, against what the server then does."""

from __future__ import annotations

import re
import shlex
from typing import Any

from ..core.discovery import commands_of
from ..core.evidence import API, DEBUG_COPY, POD, Evidence
from ..core.findings import Context, Finding, SectionResult, keys
from ..core.server_command import DEFAULT_WORKERS, ServerCommand
from ..core.signatures import BOUND
from ..core.workload import (
    container_statuses,
    current_pods,
    events_about,
    is_ready,
    is_recent,
    last_end,
    ready_pods,
    result_of,
    workload,
)
from .logs import matches, own_log
from .pod_containers import log_of

USAGE_ERROR = 2
SYNC = frozenset({"", "sync"})
SERVERS = ("gunicorn-opts", "uvicorn-opts", "waitress-opts")
GUNICORN_ONLY = frozenset(
    {"--timeout", "--keep-alive", "--worker-class", "--threads", "--max-requests", "--preload", "-k"}
)
LOOPBACK = re.compile(r"^(?:localhost|127\.\d+\.\d+\.\d+|::1|\[::1\])$")


def judge(context: Context, result: SectionResult) -> None:
    """Judge the options that keep MLflow from starting, from being reached, or from using its database."""
    found = workload(context)
    if found is None:
        return
    command = commands_of(found, context.evidence)[context.target.container]
    service_link(context, command, bool(found["spec"]["template"]["spec"].get("enableServiceLinks", True)), result)
    web_servers(context, command, result)
    usage_error(context, result)
    loopback(context, command, result)
    backend_store(context, command, result)
    gunicorn_notes(context, command, result)


def finding(context: Context, identifier: str, summary: str, proof: tuple[str, ...], **more: Any) -> Finding:
    """Build a finding about the workload, whose template is part of the proof."""
    template = keys([context.evidence.first("kubernetes.deployments", API)])
    return Finding(
        identifier,
        f"{context.target.kind.lower()}/{context.target.deployment}",
        summary,
        tuple(dict.fromkeys((*template, *proof))),
        **{"configured": True, "measured": True, **more},
    )


def ended_with(context: Context) -> set[int]:
    """Return the recent exit codes of MLflow's container in pods that are not ready."""
    ends = [
        last_end(status)
        for pod in current_pods(context)
        if not is_ready(pod)
        for status, init in container_statuses(pod)
        if status["name"] == context.target.container and not init
    ]
    return {end.get("exitCode", 0) for end in ends if end and is_recent(end.get("finishedAt") or "", context)}


def pods_key(context: Context) -> tuple[str, ...]:
    return keys([context.evidence.first("kubernetes.pods", API, context.target.namespace)])


def service_link(context: Context, command: ServerCommand, links: bool, result: SectionResult) -> None:
    """A Service named mlflow injects ``MLFLOW_PORT=tcp://…``, which MLflow takes for its port (field guide G-09)."""
    said = [match for match in matches(context) if match.signature.id == "port_env"]
    given = "port" in command.options or "MLFLOW_PORT" in {*command.environment, *command.references}
    names = [
        item["metadata"]["name"]
        for item in context.evidence.objects("kubernetes.services", context.target.namespace)
        if item["metadata"]["name"].upper().replace("-", "_") == "MLFLOW" and item["spec"].get("clusterIP") != "None"
    ]
    predicted = links and not given and bool(names) and USAGE_ERROR in ended_with(context)
    if not predicted and (not said or ready_pods_of_revision(context)):
        return
    result.findings.append(
        finding(
            context,
            "web_server.options_invalid",
            "MLflow takes MLFLOW_PORT=tcp://… for its port, which Kubernetes sets because of service/mlflow, and ends: "
            "no --port is given",
            (*(match.evidence.key for match in said), *keys([context.evidence.first("kubernetes.services", API)])),
            since=said[0].at if said else None,
            facts={"error": "give --port, or set enableServiceLinks to false"},
        )
    )


def ready_pods_of_revision(context: Context) -> bool:
    return any(is_ready(pod) for pod in current_pods(context))


def web_servers(context: Context, command: ServerCommand, result: SectionResult) -> None:
    """Options for two web servers, or one's options for the other, end MLflow (field guide G-10, G-11)."""
    given = [name for name in SERVERS if command.setting(name)]
    ends = ended_with(context)
    if len(given) > 1 and USAGE_ERROR in ends:
        text = f"{' and '.join('--' + name for name in given)} are given together; MLflow takes one"
    elif given == ["uvicorn-opts"] and ends & {0, 1, USAGE_ERROR}:
        words = [word.partition("=")[0] for word in split(command.setting("uvicorn-opts"))]
        wrong = [word for word in words if word in GUNICORN_ONLY]
        if not wrong:
            return
        text = f"uvicorn does not know {', '.join(wrong)} of --uvicorn-opts, which gunicorn has"
    else:
        return
    result.findings.append(
        finding(
            context,
            "web_server.options_invalid",
            f"{text}, and the server ends",
            pods_key(context),
            facts={"error": text},
        )
    )


def usage_error(context: Context, result: SectionResult) -> None:
    """A command line that cannot be read ends with 2; the web server's own with 0 or 1 (field guide 2.6)."""
    said = [match for match in matches(context) if match.signature.id == "cli_error" and own_log(context, match)]
    if not said or not ended_with(context) & {0, 1, USAGE_ERROR}:
        return
    error = str(said[-1].groups["error"])
    result.findings.append(
        finding(
            context,
            "web_server.options_invalid",
            f"the server does not accept its command line and ends: {error}",
            tuple(dict.fromkeys(match.evidence.key for match in said)),
            since=said[0].at or None,
            facts={"error": error},
        )
    )


def split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def bound_in_log(context: Context) -> list[tuple[str, Evidence]]:
    """Return the address that each current pod's server says it listens on, newest word first."""
    found = []
    for pod in current_pods(context):
        for item in log_of(context, pod, context.target.container):
            hosts = [match["host"] for line in item.value["lines"] if (match := BOUND.search(line["text"]))]
            found += [(hosts[-1], item)] if hosts else []
    return found[::-1]


def loopback(context: Context, command: ServerCommand, result: SectionResult) -> None:
    """MLflow binds to 127.0.0.1 unless told otherwise (field guide S-03)."""
    said = bound_in_log(context)
    told = command.setting("host") or ("" if command.reference("host") else "127.0.0.1")
    if not LOOPBACK.match(said[0][0] if said else told) or ready_pods_of_revision(context):
        return
    pods = {pod["metadata"]["name"]: pod.get("status", {}).get("podIP", "-") for pod in current_pods(context)}
    alive = [item for item in context.evidence.all("probe.http", POD) if item.seen and result_of(item) == "ok"]
    outside = [
        item
        for item in context.evidence.all("probe.tcp")
        if item.seen
        and item.place not in (POD, DEBUG_COPY)
        and any(item.subject.startswith(f"{address}:") for address in pods.values())
        and result_of(item) == "refused"
    ]
    events = [event for event in events_about(context, *pods) if "connection refused" in event.get("message", "")]
    if not (alive or said) or not (outside or events):
        return
    proof = keys([*(item for dummy, item in said), *alive, *outside])
    result.findings.append(
        finding(
            context,
            "web_server.bound_to_loopback",
            f"MLflow listens on {said[0][0] if said else told} only: from outside the pod its port refuses",
            (*proof, *keys([context.evidence.first("kubernetes.events", API)] if events else [])),
            configured=bool(LOOPBACK.match(told)),
        )
    )


def backend_store(context: Context, command: ServerCommand, result: SectionResult) -> None:
    """Without a backend store MLflow is healthy, and writes to a file in the container (field guide G-03, G-04)."""
    uri = command.setting("backend-store-uri")
    if ":memory:" in uri:
        text, proof = "the backend store is SQLite in memory: each worker has its own data", list[Evidence]()
    elif not uri and command.reference("backend-store-uri") is None:
        text = "no backend store is set, so that MLflow writes to a SQLite file inside the container"
        proof = [
            item
            for item in context.evidence.all("probe.environment")
            if item.seen and (item.value.get("backend") or {}).get("scheme") in ("", "sqlite")
        ]
        proof += [match.evidence for match in matches(context) if match.signature.id == "uri_fallback"]
        if not proof or not ready_pods(context):
            return
    else:
        return
    since = min((pod["metadata"]["creationTimestamp"] for pod in current_pods(context)), default=None)
    result.findings.append(
        finding(context, "web_server.sqlite_fallback", text, keys(proof), since=since, measured=bool(proof))
    )


def gunicorn_options(command: ServerCommand) -> dict[str, str]:
    """Return gunicorn's options by their long names."""
    words, found = split(command.setting("gunicorn-opts")), {}
    short = {"-w": "workers", "-k": "worker-class", "-t": "timeout"}
    for index, word in enumerate(words):
        name, has_value, value = word.partition("=")
        name = short.get(name, name[2:].replace("keepalive", "keep-alive") if name.startswith("--") else "")
        if name:
            following = words[index + 1] if index + 1 < len(words) else ""
            found[name] = value if has_value else "" if following.startswith("-") else following
    return found


def gunicorn_notes(context: Context, command: ServerCommand, result: SectionResult) -> None:
    """Say which of gunicorn's options do nothing under MLflow (read in MLflow 3.17 and gunicorn 23)."""
    options = gunicorn_options(command)
    asked = options.get("workers", "")
    effective = command.setting("workers") or str(DEFAULT_WORKERS)
    if asked.isdigit() and effective.isdigit() and asked != effective:
        counted = [item for item in context.evidence.all("probe.environment", POD) if item.seen and workers_of(item)]
        runs = f"; {workers_of(counted[0])} run" if counted else ""
        text = f"gunicorn's options ask for {asked} workers, but MLflow appends its own --workers {effective}{runs}"
        note = finding(context, "web_server.workers_overridden", text, keys(counted), measured=bool(counted))
        result.findings.append(note)
    threads = options.get("threads", "1")
    if "keep-alive" in options and options.get("worker-class", "") in SYNC and threads in ("", "1"):
        text = f"gunicorn's --keep-alive {options['keep-alive']} does nothing: its sync workers close each connection"
        result.findings.append(finding(context, "web_server.keep_alive_ignored", text, (), measured=False))


def workers_of(environment: Evidence) -> int:
    """Count gunicorn's worker processes: those whose parent is gunicorn as well."""
    rows = [row for row in environment.value.get("processes") or [] if "gunicorn" in row["command"]]
    masters = {row["pid"] for row in rows if "mlflow server" not in row["command"]}
    return sum(row["ppid"] in masters for row in rows)
