# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pod not starting: probes that ask the wrong thing, and probes that do not wait for MLflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..core.evidence import API, POD, Evidence
from ..core.findings import Context, Finding, SectionResult, keys, parse_time
from ..core.signatures import ACCESS, READY
from ..core.workload import (
    container_spec,
    container_statuses,
    event_start,
    event_time,
    is_ready,
    is_recent,
    last_end,
    workload_name,
)
from .pod_containers import NO_PROGRAM, REPEATED, keeps_ending, log_of, pod_keys

KINDS = ("startup", "readiness", "liveness")
FAILURE = re.compile(
    r"^(?P<probe>Liveness|Readiness|Startup) probe (?:failed|errored(?: and resulted in unknown state)?): (?P<text>.*)",
    re.DOTALL,
)
STATUS = re.compile(r"statuscode: (?P<status>\d{3})")
WRONG_SCHEME = re.compile(r"server gave HTTP response to HTTPS client|malformed HTTP response")
WRONG_ANSWERS = frozenset({"401", "403", "404", "405"})
KILLED_EXITS = frozenset({0, 137, 143})
"""What MLflow's end looks like when the kubelet ends it (field guide section 4.2)."""

LONG_ENOUGH = 180
"""MLflow starts within 120 seconds on a quarter of a CPU (field guide section 2.3)."""
OUT_OF_TIME = re.compile(r"deadline exceeded|Client.Timeout|timed out|timeout", re.IGNORECASE)
SHORT_TIMEOUT = 2
"""``/health`` took 2.6 seconds under load (field guide K-12)."""


def judge(context: Context, pod: Mapping[str, Any], events: list[dict[str, Any]], result: SectionResult) -> None:
    """Report failing probes of MLflow's container, and whether the probe itself is the mistake."""
    failures = failing(context, pod, events)
    if not is_ready(pod) and not is_starting(context, pod):
        result.findings += [symptom(context, pod, *failure) for failure in failures.values()]
    for probe in KINDS if not is_ready(pod) else ("liveness",):
        found = misconfigured(context, pod, probe, failures.get(probe))
        if found is not None:
            result.findings.append(found)
            return
    found = too_tight(context, pod, events, failures) or readiness_too_tight(context, pod, failures)
    if found is not None:
        result.findings.append(found)


def status_of_container(context: Context, pod: Mapping[str, Any]) -> Mapping[str, Any]:
    for status, init in container_statuses(pod):
        if status["name"] == context.target.container and not init:
            return status
    return {}


def is_starting(context: Context, pod: Mapping[str, Any]) -> bool:
    """A first start is not a fault: MLflow takes up to two minutes on a quarter of a CPU (field guide section 2.3)."""
    if any(status.get("restartCount", 0) for status, dummy in container_statuses(pod)):
        return False
    started = pod.get("status", {}).get("startTime") or pod["metadata"]["creationTimestamp"]
    return (context.now - parse_time(started)).total_seconds() < start_budget(
        container_spec(pod, context.target.container)
    )


def probe_budget(probe: Mapping[str, Any]) -> int:
    """Return the seconds after which a probe that always fails takes effect."""
    return int(probe.get("initialDelaySeconds", 0) + probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3))


def start_budget(container: Mapping[str, Any]) -> int:
    """Return the seconds that a container's probes give it to start, at least one minute."""
    return max(60, *(probe_budget(container[f"{kind}Probe"]) if container.get(f"{kind}Probe") else 0 for kind in KINDS))


def failing(
    context: Context, pod: Mapping[str, Any], events: list[dict[str, Any]]
) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Return probe, text and event of the newest failure of each of the container's probes."""
    found: dict[str, tuple[str, str, dict[str, Any]]] = {}
    started = status_of_container(context, pod).get("started")
    for event in sorted(events, key=event_time):
        match = FAILURE.match(event.get("message", ""))
        path = event.get("involvedObject", {}).get("fieldPath", "")
        if event.get("reason") == "Unhealthy" and match and (not path or f"{{{context.target.container}}}" in path):
            found[match["probe"].lower()] = (match["probe"].lower(), match["text"].strip(), event)
    if started:
        found.pop("startup", None)
    return found


def spec_of(context: Context, pod: Mapping[str, Any], probe: str) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = container_spec(pod, context.target.container).get(f"{probe}Probe") or {}
    return spec


def symptom(context: Context, pod: Mapping[str, Any], probe: str, text: str, event: Mapping[str, Any]) -> Finding:
    status = STATUS.search(text)
    return Finding(
        "pods.probe_failing",
        f"pod/{pod['metadata']['name']}",
        f"the {probe} probe of pod {pod['metadata']['name']} fails: {text[:160]}",
        pod_keys(context, "kubernetes.events"),
        since=event_start(event),
        measured=True,
        facts={
            "probe": probe,
            "status": status["status"] if status else "",
            "path": (spec_of(context, pod, probe).get("httpGet") or {}).get("path", ""),
            "seen": event_time(event),
        },
    )


def misconfigured(
    context: Context, pod: Mapping[str, Any], probe: str, failure: tuple[str, str, dict[str, Any]] | None
) -> Finding | None:
    """Find a probe that asks another port, scheme or path than MLflow has (field guide K-13, W-11)."""
    spec, status = spec_of(context, pod, probe), status_of_container(context, pod)
    if spec.get("exec") and failure:
        return failing_program(context, pod, probe, failure)
    asked = spec.get("httpGet") or spec.get("tcpSocket")
    running = (status.get("state") or {}).get("running")
    ended = (last_end(status) or {}).get("exitCode") in KILLED_EXITS
    if not asked or not (running or (ended and failure)) or (is_ready(pod) and not failure):
        return None
    if probe == "readiness" and not status.get("started", True):
        return None  # it is not asked yet
    text = failure[1] if failure else ""
    path, port = asked.get("path", "/"), port_number(context, pod, asked.get("port"))
    answer = STATUS.search(text)
    got = answer["status"] if answer else logged_answer(context, pod, path) if "httpGet" in spec else ""
    alive = serves(context, pod)
    encrypted = asked.get("scheme") == "HTTPS" and port == context.target.port and bool(answered_api(context))
    if WRONG_SCHEME.search(text) or encrypted:
        asks, gets = f"HTTPS on port {port}", "plain HTTP"
    elif got in WRONG_ANSWERS and (path != context.target.static_prefix + "/health" or answered_api(context)):
        asks, gets = path, got
    elif port != context.target.port and alive and answer is None:
        asks, gets = f"port {asked.get('port')}", "no answer"
    else:
        return None
    facts = {"probe": probe, "path": asks, "status": gets, "container": context.target.container}
    return Finding(
        "pods.probe_misconfigured",
        workload_name(context),
        f"the {probe} probe asks {asks} and gets {gets}; MLflow answers on port {context.target.port}",
        tuple(dict.fromkeys([*pod_keys(context, "kubernetes.events"), *keys([*answered_api(context), *alive])])),
        since=event_start(failure[2]) if failure else pod["metadata"]["creationTimestamp"],
        configured=True,
        measured=True,
        facts=facts,
    )


def failing_program(
    context: Context, pod: Mapping[str, Any], probe: str, failure: tuple[str, str, dict[str, Any]]
) -> Finding | None:
    """Find a probe whose program is not there, or fails although the pod's own API works (field guide K-14)."""
    name = pod["metadata"]["name"]
    works = [item for item in answered_api(context) if item.value.get("probe_pod") == name]
    if is_ready(pod) or not (works or NO_PROGRAM.search(failure[1])):
        return None
    command = " ".join(map(str, spec_of(context, pod, probe)["exec"].get("command") or []))[:80]
    said = " ".join(failure[1].split())[-160:]
    return Finding(
        "pods.probe_misconfigured",
        workload_name(context),
        f"the {probe} probe runs {command!r}, which fails ({said})" + ("; MLflow itself answers" if works else ""),
        tuple(dict.fromkeys([*pod_keys(context, "kubernetes.events"), *keys(works)])),
        since=event_start(failure[2]),
        configured=True,
        measured=True,
        facts={"probe": probe, "path": command, "status": said, "container": context.target.container},
    )


def port_number(context: Context, pod: Mapping[str, Any], port: Any) -> int | None:
    """Return the number of a probe's port; a name that the container does not have has none."""
    if isinstance(port, int) or str(port).isdigit():
        return int(port)
    named = container_spec(pod, context.target.container).get("ports") or []
    return next((item["containerPort"] for item in named if item.get("name") == port), None)


def answered_api(context: Context) -> list[Evidence]:
    return [
        item
        for item in context.evidence.all("probe.http", POD)
        if item.seen and "experiments/search" in item.subject and item.value.get("status") == 200
    ]


def logged_answer(context: Context, pod: Mapping[str, Any], path: str) -> str:
    """Return the status of the newest request for a path in the container's access log."""
    lines = [line["text"] for item in log_of(context, pod, context.target.container) for line in item.value["lines"]]
    found = [match for text in lines if (match := ACCESS.search(text)) and match["path"] == path]
    return found[-1]["status"] if found else ""


def serves(context: Context, pod: Mapping[str, Any]) -> list[Evidence]:
    """Return what shows that MLflow itself serves: an answer to a probe, or its own word in the log."""
    if answered_api(context):
        return answered_api(context)
    return [
        item
        for item in log_of(context, pod, context.target.container)
        if any(READY.search(line["text"]) for line in item.value["lines"])
    ]


def too_tight(
    context: Context,
    pod: Mapping[str, Any],
    events: list[dict[str, Any]],
    failures: Mapping[str, tuple[str, str, dict[str, Any]]],
) -> Finding | None:
    """Find a container that its own liveness or startup probe kills although nothing else is wrong (K-11, K-12)."""
    status = status_of_container(context, pod)
    end = last_end(status)
    if not end or end.get("exitCode") not in KILLED_EXITS or end.get("reason") == "OOMKilled":
        return None
    if not is_recent(end.get("finishedAt") or "", context) or not keeps_ending(context, status, end):
        return None
    probe = "startup" if spec_of(context, pod, "startup") else "liveness"
    spec = spec_of(context, pod, probe)
    budget = probe_budget(spec)
    lived = (parse_time(end["finishedAt"]) - parse_time(end["startedAt"])).total_seconds()
    slack = pod["spec"].get("terminationGracePeriodSeconds", 30) + spec.get("periodSeconds", 10) + 5
    kills = [
        event
        for event in events
        if event.get("reason") == "Killing" and f"failed {probe} probe" in event.get("message", "")
    ]
    told = bool(kills)
    early = bool(spec) and budget < LONG_ENOUGH and budget - spec.get("periodSeconds", 10) <= lived <= budget + slack
    early = early and (not is_ready(pod) or (told and will_end_as_well(context, status, lived, kills)))
    slow = bool(OUT_OF_TIME.search(failures[probe][1] if probe in failures else ""))
    hasty = told and slow and spec.get("timeoutSeconds", 1) <= SHORT_TIMEOUT and bool(answered_api(context))
    if not ((early and (told or unfinished(context, pod, status["name"]))) or hasty):
        return None
    if waited_for_database(context, pod, status["name"]):
        return None
    words = f"gives it {budget} s" if early else f"gives it {spec.get('timeoutSeconds', 1)} s for an answer"
    return Finding(
        "pods.liveness_too_tight",
        workload_name(context),
        f"the {probe} probe of container {status['name']} {words} and kills it ({status.get('restartCount', 0)} "
        f"restarts, the last run took {lived:.0f} s); nothing else ended it",
        pod_keys(context, "kubernetes.events"),
        since=end.get("startedAt"),
        configured=True,
        measured=True,
        facts={"probe": probe, "budget": budget, "container": status["name"]},
    )


def will_end_as_well(context: Context, status: Mapping[str, Any], lived: float, kills: list[dict[str, Any]]) -> bool:
    """Tell whether a container that was killed again and again is being killed, or younger than its last run was."""
    started = ((status.get("state") or {}).get("running") or {}).get("startedAt")
    listed = context.evidence.first("kubernetes.pods", API, context.target.namespace)
    if not started or listed is None or int(status.get("restartCount", 0)) < REPEATED:
        return False
    if any(parse_time(event_time(event)) > parse_time(started) for event in kills):
        return True
    return (parse_time(listed.at) - parse_time(started)).total_seconds() <= lived


def readiness_too_tight(
    context: Context, pod: Mapping[str, Any], failures: Mapping[str, tuple[str, str, dict[str, Any]]]
) -> Finding | None:
    """Find a pod that works and is taken out of its Service because the kubelet does not wait for an answer (K-12)."""
    spec = spec_of(context, pod, "readiness")
    failure = failures.get("readiness")
    if is_ready(pod) or failure is None or spec.get("timeoutSeconds", 1) > SHORT_TIMEOUT:
        return None
    name = pod["metadata"]["name"]
    answered = [item for item in answered_api(context) if item.value.get("probe_pod") == name]
    if not OUT_OF_TIME.search(failure[1]) or not answered:
        return None
    return Finding(
        "pods.readiness_too_tight",
        workload_name(context),
        f"the readiness probe of container {context.target.container} waits {spec.get('timeoutSeconds', 1)} s for an "
        f"answer, which takes longer; the API itself works",
        tuple(dict.fromkeys([*pod_keys(context, "kubernetes.events"), *keys(answered)])),
        since=event_start(failure[2]),
        configured=True,
        measured=True,
        facts={"container": context.target.container},
    )


def unfinished(context: Context, pod: Mapping[str, Any], container: str) -> bool:
    """Tell whether the log of a run that ended was seen and holds no word of a server that was ready."""
    runs = [item for item in log_of(context, pod, container) if item.subject.endswith("/previous")]
    return bool(runs) and not any(READY.search(line["text"]) for item in runs for line in item.value["lines"])


def waited_for_database(context: Context, pod: Mapping[str, Any], container: str) -> bool:
    """Tell whether a killed run waited for its database, or whether we could not see that it did not."""
    runs = [item for item in log_of(context, pod, container) if item.subject.endswith("/previous")]
    if not runs:
        return not any(item.seen and item.value.get("result") == "ok" for item in context.evidence.all("probe.login"))
    return any("Operation will be retried" in line["text"] for item in runs for line in item.value["lines"])
