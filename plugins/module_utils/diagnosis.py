# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence in, verdict out: the pure half of a diagnosis, which a replay runs as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from .core.catalogue import BY_ID
from .core.discovery import Discovery, discover
from .core.evidence import API, POD, SOURCE_PREFIX, Evidence, EvidenceSet
from .core.findings import TO_SERVER, Context, Finding, SectionResult, Unknown
from .core.kinds import Role
from .core.settings import Settings
from .core.verdict import Impact, Verdict, judge, name_of
from .core.workload import probes_from_server, ready_pods, result_of
from .recovery import recovery
from .sections import artifact_store, client_uris, database, latency, logs, network_policy, pods, service, web_server

ANALYZERS: Mapping[str, Callable[[Context], SectionResult]] = MappingProxyType(
    {
        "pods": pods.analyze,
        "service": service.analyze,
        "logs": logs.analyze,
        "database": database.analyze,
        "artifact_store": artifact_store.analyze,
        "latency": latency.analyze,
        "network_policy": network_policy.analyze,
        "web_server": web_server.analyze,
    }
)
STORAGE = "artifact_store"
NO_UPLOADS = "web_server.artifact_disk_full"
LOG_PROOF = timedelta(seconds=20)
"""A success in the access log younger than this says that the server works now."""

NO_WRITES = frozenset(
    {
        "database.blocked_by_lock",
        "database.objects_missing",
        "database.privileges_missing",
        "database.read_only",
        "database.storage_full",
    }
)
"""What keeps MLflow from logging even where it still reads."""

LOGIN_NEEDS = "pods/exec in the server's namespace, or pods/create for a copy of its pod"
NO_SERVICE = frozenset(
    {
        "service.missing",
        "service.no_endpoints",
        "service.port_mismatch",
        "service.selector_matches_nothing",
        "service.selector_matches_others",
    }
)
"""What leaves a Service without any way to MLflow."""
HONEST = web_server.HONEST
REGISTRY = web_server.REGISTRY
SERVED = frozenset({200, 401})
"""Answers of a working server; 401 asks for credentials that we were not given."""


@dataclass(frozen=True)
class Analysis:
    """The verdict and the discovery that it stands on."""

    discovery: Discovery
    verdict: Verdict


def analyze(evidence: EvidenceSet, settings: Settings, now: datetime, repaired: str = "") -> Analysis:
    """Judge one server.

    Args:
        evidence: everything that was collected, or that a bundle holds.
        settings: which sections to judge and the overrides of discovery.
        now: the moment of the collection.
        repaired: when a step of ours last changed something; empty when none did.
    """
    discovery = discover(evidence, settings)
    if discovery.target is None:
        verdict = judge(
            [SectionResult(unknown=[Unknown(discovery.problem, "no server to diagnose", needs(discovery))])],
            evidence,
            None,
            Impact(),
        )
        return Analysis(discovery, verdict)
    context = Context(discovery.target, evidence, now)
    results = localised(context, {name: ANALYZERS[name](context) for name in settings.sections})
    verdict = judge(results, evidence, discovery.target, measure_impact(context, results))
    return Analysis(discovery, reconsidered(context, verdict, repaired))


def reconsidered(context: Context, verdict: Verdict, repaired: str) -> Verdict:
    """Call a server healthy only when it could connect anew, and not as if nothing had been when it just recovered.

    Pooled connections outlive a closed security group or a lost password, so that calls which work prove too little.
    A server whose backend store nobody saw may keep everything in a file of its pod.
    """
    if verdict.status != "healthy":
        return verdict
    scheme = str(context.target.backend.get("scheme") or "")
    if (not scheme or scheme.startswith("postgres")) and not any(
        result_of(item) == "ok" for item in probes_from_server(context, "probe.login")
    ):
        blind = Unknown("whether the server could connect to its database anew", "no login was seen", LOGIN_NEEDS)
        return replace(verdict, status="unknown", unknown=(blind, *verdict.unknown))
    over = recovery(context, repaired)
    return replace(verdict, status="recovered", recovery=over) if over else verdict


def localised(context: Context, results: Mapping[str, SectionResult]) -> list[SectionResult]:
    """Judge what all replicas share without a replica that alone fails: what only it sees is its own trouble.

    A cause that has a configuration fact as well as a measurement stays: it may be why that replica fails.
    """
    failing = {
        str(finding.facts["replica"])
        for result in results.values()
        for finding in result.findings
        if finding.id == "service.replica_failing"
    }
    if not failing:
        return list(results.values())
    others = replace(context, evidence=EvidenceSet([item for item in context.evidence if not seen_by(item, failing)]))
    for name, result in results.items():
        if name != "service":
            shared = {name_of(finding) for finding in ANALYZERS[name](others).findings}
            result.findings = [
                item
                for item in result.findings
                if name_of(item) in shared or (item.configured and item.measured and BY_ID[item.id].role is Role.CAUSE)
            ]
    return list(results.values())


def seen_by(item: Evidence, pods: set[str]) -> bool:
    """Tell whether a piece of evidence comes from inside one of some pods."""
    if item.what == "kubernetes.pod_log":
        return item.subject.partition("/")[0] in pods
    return item.place == POD and isinstance(item.value, dict) and item.value.get("probe_pod") in pods


def needs(discovery: Discovery) -> str:
    return "mlflow_deployment" if discovery.candidates else "mlflow_namespace, or the right to read it"


def answers(context: Context, fragment: str, places: Iterable[str]) -> list[int]:
    """Return HTTP statuses (0 without an answer) of one kind of call from some places, the static prefix left aside."""
    wanted = set(places)
    return [
        int(item.value.get("status") or 0) if result_of(item) == "ok" else 0
        for item in context.evidence.all("probe.http")
        if item.seen
        and item.place in wanted
        and fragment in item.subject
        and expected_path(context, item.subject, item.place)
    ]


def expected_path(context: Context, url: str, place: str) -> bool:
    """Inside the pod the prefixed path counts; clients are judged by the path that they use, most often the root."""
    prefix = context.target.static_prefix
    if not prefix:
        return True
    return (f"{prefix}/" in url) == (place == POD or client_uris.prefix_in_use(context, prefix))


def measure_impact(context: Context, results: Iterable[SectionResult]) -> Impact:
    """Say what works for whom, from probes first and from the access log where no probe could run."""
    findings = [finding for result in results for finding in result.findings]
    places = sorted({item.place for item in context.evidence if item.place.startswith(SOURCE_PREFIX) and item.seen})
    flows = {f.flow for f in findings if f.id in ("service.unreachable", "service.name_not_found")}
    lost = {place for place in places if lost_for(context, place, flows)}
    reads = reads_work(context, findings, places, lost)
    storage_fails = any(
        (STORAGE in finding.id or finding.id == NO_UPLOADS) and finding.measured and not finding.facts.get("later")
        for finding in findings
    )
    listed = answers(context, "mlflow-artifacts/artifacts", [POD])
    artifacts = False if storage_fails or reads is False else all_work(listed)
    blocked = any(finding.id in NO_WRITES and not finding.facts.get("later") for finding in findings)
    writes = False if reads is False or blocked else (True if reads and can_write(context) else None)
    astray = {SOURCE_PREFIX + f.object.partition("/")[0] for f in findings if f.id.startswith("service.client_")}
    sources = tuple(place[len(SOURCE_PREFIX) :] for place in sorted(lost | astray))
    return Impact(sources, reads, writes, artifacts, registry_works(context, writes))


def registry_works(context: Context, writes: bool | None) -> bool | None:
    """The registry shares the database, but has tables of its own: registering needs both to work."""
    asked = answers(context, REGISTRY, [POD])
    return False if asked and not any(status in SERVED for status in asked) else writes


def all_work(statuses: list[int]) -> bool | None:
    """Tell whether calls of one kind work; ``None`` when none was made or we were asked for credentials."""
    if not statuses or 401 in statuses:
        return None
    return all(status == 200 for status in statuses)


def lost_for(context: Context, place: str, unreachable_flows: set[str]) -> bool:
    if place + TO_SERVER in unreachable_flows:
        return True
    statuses = answers(context, HONEST, [place])
    return bool(statuses) and not any(status in SERVED for status in statuses)


def reads_work(context: Context, findings: list[Finding], places: list[str], lost: set[str]) -> bool | None:
    inside = answers(context, HONEST, [POD])
    outside = [status for place in places for status in answers(context, HONEST, [place]) if status]
    if outside and not any(status in SERVED for status in outside):
        return False
    if (lost or not places) and lost == set(places) and nobody_served(context, findings, places):
        return False
    if inside:
        return any(status in SERVED for status in inside)
    pod_list = context.evidence.first("kubernetes.pods", API, context.target.namespace)
    if pod_list is not None and pod_list.conclusive and not ready_pods(context):
        return False
    if logs.api_success_since(context, LOG_PROOF):
        return True
    return True if outside else None


def nobody_served(context: Context, findings: Iterable[Finding], places: Iterable[str]) -> bool:
    """Tell whether the Service serves nobody, though the pods work: one namespace that is shut out is not everybody."""
    if any(item.id in NO_SERVICE and not item.facts.get("partly") for item in findings):
        return not context.target.service or not reached_through_service(context)
    direct = {pod["status"].get("podIP") for pod in ready_pods(context)} - {None}
    return any(
        item.place in set(places)
        and item.seen
        and result_of(item) == "ok"
        and item.subject.rpartition(":")[0] in direct
        for item in context.evidence.all("probe.tcp")
    )


def reached_through_service(context: Context) -> bool:
    return any(result_of(item) == "ok" for item in service.probes_of_service(context, "probe.tcp"))


def can_write(context: Context) -> bool:
    values = [item.value for item in context.evidence.all("probe.query", POD) if item.seen]
    if any(
        value.get("transaction_read_only") is False and all((value.get("can_write") or {"unknown": True}).values())
        for value in values
    ):
        return True
    return logs.api_success_since(context, LOG_PROOF) == "POST"
