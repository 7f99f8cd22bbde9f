# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a request, hop by hop: which one is broken, which ones suffer from it, which ones work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..core.discovery_service import ready_endpoints
from ..core.evidence import API, SOURCE_PREFIX, Evidence
from ..core.findings import (
    TO_DATABASE,
    TO_DNS,
    TO_IDENTITY,
    TO_OBJECT_STORAGE,
    TO_SERVER,
    Context,
    Finding,
)
from ..core.verdict import Verdict
from ..core.workload import probes_from_server, ready_pods, result_of, server_pods, workload_name
from ..sections.service_ingress import backends
from .proof import one_line, probed

WORKS, BROKEN, AT_RISK, SLOW, AFFECTED, UNKNOWN = "works", "broken", "at_risk", "slow", "affected", "unknown"
SAID = 90


@dataclass(frozen=True)
class Hop:
    """One part of the way; ``origin`` and ``target`` are the same for the server itself.

    Attributes:
        origin: name of where the request comes from.
        target: name of where it goes.
        kind: ``source``, ``ingress``, ``service``, ``server``, ``dns``, ``database``, ``object_storage``, ``identity``.
        state: ``broken`` (a cause is here), ``at_risk`` (a cause that waits), ``slow``, ``affected`` (something else
            breaks it), ``works`` or ``unknown`` (not seen).
        said: what was measured.
    """

    origin: str
    target: str
    kind: str
    state: str
    said: str = ""

    def as_json(self) -> dict[str, str]:
        return {"from": self.origin, "to": self.target, "kind": self.kind, "state": self.state, "said": self.said}


def hops(context: Context, verdict: Verdict) -> list[dict[str, Any]]:
    """Describe the way from the clients to everything that the server depends on.

    Args:
        context: server and evidence.
        verdict: its causes say where it breaks.
    """
    way = [*outside(context, verdict), service_hop(context), server_hop(context, verdict), *dependencies(context)]
    blamed = [(cause.finding, place_of(cause.finding)) for cause in verdict.causes]
    known = {hop.kind for hop in way}
    # What is broken may be so much so that discovery found nothing to name there, as with a lost role.
    lost = {kind: finding.object for finding, (kind, dummy) in blamed if kind not in known}
    way += [Hop(workload_name(context), lost[kind], kind, UNKNOWN) for kind in lost]
    return [judged(hop, blamed, verdict.status).as_json() for hop in way]


def judged(hop: Hop, blamed: Iterable[tuple[Finding, tuple[str, str]]], status: str) -> Hop:
    """Mark a hop on which a cause acts."""
    here = [finding for finding, (kind, name) in blamed if kind == hop.kind and name in ("", hop.origin)]
    if not here:
        return hop
    if all(finding.section == "latency" for finding in here):
        state = SLOW
    else:
        state = AT_RISK if status == "at_risk" else BROKEN
    said = hop.said if hop.state == AFFECTED and hop.said else ""
    return Hop(hop.origin, hop.target, hop.kind, state, said or ", ".join(finding.id for finding in here))


def place_of(finding: Finding) -> tuple[str, str]:
    """Return the kind of hop on which a finding acts, and the name of its origin where that matters."""
    if finding.object.startswith("ingress/"):
        return "ingress", finding.object
    kinds = {
        TO_DNS: "dns",
        TO_DATABASE: "database",
        TO_OBJECT_STORAGE: "object_storage",
        TO_IDENTITY: "identity",
    }
    if finding.flow in kinds:
        return kinds[finding.flow], ""
    if finding.flow.startswith(SOURCE_PREFIX):
        return "source", finding.flow.removeprefix(SOURCE_PREFIX).removesuffix(TO_SERVER)
    by_section = {"service": "service", "database": "database", "artifact_store": "object_storage"}
    return by_section.get(finding.section, "server"), ""


def service_name(context: Context) -> str:
    return f"service/{context.target.service}" if context.target.service else "a Service"


def outside(context: Context, verdict: Verdict) -> list[Hop]:
    """Return the hops from source namespaces and ingresses to the Service."""
    places = dict.fromkeys(item.place for item in context.evidence if item.place.startswith(SOURCE_PREFIX))
    found = [source_hop(context, verdict, place) for place in places]
    blamed = [cause.finding.object for cause in verdict.causes]
    for item in context.evidence.objects("kubernetes.ingresses", context.target.namespace):
        name = f"ingress/{item['metadata']['name']}"
        if name in blamed or any(backend.get("name") == context.target.service for backend in backends(item)):
            found.append(Hop(name, service_name(context), "ingress", UNKNOWN, "not measured"))
    return found


def source_hop(context: Context, verdict: Verdict, place: str) -> Hop:
    name = place.removeprefix(SOURCE_PREFIX)
    seen = [
        item
        for what in ("probe.client", "probe.http", "probe.tcp")
        for item in context.evidence.all(what, place)
        if item.seen and (what == "probe.client" or f"{context.target.service}." in item.subject)
    ]
    failed = [item for item in seen if result_of(item) != "ok"]
    if name in verdict.impact.sources:
        said = probed(failed[0].value) if failed else "no usable answer"
        return Hop(name, service_name(context), "source", AFFECTED, one_line(said, SAID))
    if seen and len(failed) < len(seen):
        return Hop(name, service_name(context), "source", WORKS, "calls are answered")
    why = next((item.detail for item in context.evidence.all("probe.pod", place) if not item.seen), "")
    return Hop(name, service_name(context), "source", UNKNOWN, one_line(why, SAID))


def service_hop(context: Context) -> Hop:
    origin, target = service_name(context), workload_name(context)
    seen = context.evidence.first("kubernetes.endpointslices", API, context.target.namespace)
    if seen is None or not seen.seen or not context.target.service:
        return Hop(origin, target, "service", UNKNOWN)
    ready = list(ready_endpoints(context.evidence, context.target.namespace, context.target.service))
    if not ready:
        return Hop(origin, target, "service", AFFECTED, "no ready endpoint")
    return Hop(origin, target, "service", WORKS, f"{len(ready)} ready endpoint{'s' if len(ready) > 1 else ''}")


def server_hop(context: Context, verdict: Verdict) -> Hop:
    name = workload_name(context)
    pods = context.evidence.first("kubernetes.pods", API, context.target.namespace)
    if pods is None or not pods.seen:
        return Hop(name, name, "server", UNKNOWN)
    ready, there = len(ready_pods(context)), len(server_pods(context))
    said = f"{ready} of {there} pod{'' if there == 1 else 's'} ready"
    failing = verdict.impact.reads is False
    return Hop(name, name, "server", WORKS if ready and not failing else AFFECTED, said)


def dependencies(context: Context) -> list[Hop]:
    """Return the hops from the server to what it depends on, as its own pods measured them."""
    target, name = context.target, workload_name(context)
    host = str(target.backend.get("host") or "")
    found = []
    if host:
        lookups = probes_from_server(context, "probe.dns", host)
        found.append(measured(Hop(name, "DNS", "dns", UNKNOWN), lookups))
        found.append(measured(Hop(name, host, "database", UNKNOWN), database_probes(context)))
    elif target.backend.get("scheme"):
        found.append(Hop(name, f"{target.backend['scheme']} file", "database", UNKNOWN, "a file in the pod"))
    if target.bucket:
        lists = probes_from_server(context, "probe.s3_list")
        found.append(measured(Hop(name, f"s3://{target.bucket}", "object_storage", UNKNOWN), lists))
    if target.role_arn:
        asked = probes_from_server(context, "probe.sts")
        found.append(measured(Hop(name, f"STS, role {target.role_name}", "identity", UNKNOWN), asked))
    return found


def database_probes(context: Context) -> list[Evidence]:
    """Return the deepest layer that was asked: a login tells more than a port."""
    host = str(context.target.backend.get("host") or "")
    ports = [item for item in probes_from_server(context, "probe.tcp") if item.subject.rpartition(":")[0] == host]
    names = probes_from_server(context, "probe.dns", host)
    for items in (probes_from_server(context, "probe.login"), ports, names):
        if items:
            return items
    return []


def measured(hop: Hop, items: list[Evidence]) -> Hop:
    """Judge a hop by its probes: one that failed counts, since another place may have another path."""
    if not items:
        return hop
    failed = [item for item in items if result_of(item) != "ok"]
    shown = (failed or items)[0]
    state = AFFECTED if failed else WORKS
    return Hop(hop.origin, hop.target, hop.kind, state, one_line(probed(shown.value), SAID))
