# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence as tables for a person who never saw this cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.changes import Change
from ..core.evidence import API, CLOUD, CONTROLLER, DEBUG_COPY, POD, Evidence, EvidenceSet
from ..core.workload import event_time

LAYERS = {
    "probe.dns": "name",
    "probe.tcp": "TCP",
    "probe.tls": "TLS",
    "probe.login": "login",
    "probe.query": "query",
    "probe.schema": "schema",
    "probe.http": "HTTP",
    "probe.client": "HTTP (client's URI)",
}
STORAGE = {
    "probe.identity": "identity",
    "probe.sts": "STS",
    "probe.s3_list": "S3 list",
    "probe.s3_get": "S3 get",
    "probe.s3_put": "S3 put",
    "probe.s3_delete": "S3 delete",
}
PLACES = {CONTROLLER: "controller", POD: "server's pod", DEBUG_COPY: "copy of the pod"}
INSTANCE_FACTS = (
    "DBInstanceIdentifier",
    "DBInstanceStatus",
    "Engine",
    "EngineVersion",
    "DBInstanceClass",
    "AllocatedStorage",
    "MaxAllocatedStorage",
    "StorageType",
    "MultiAZ",
    "PubliclyAccessible",
    "BackupRetentionPeriod",
    "PreferredMaintenanceWindow",
    "LatestRestorableTime",
    "CACertificateIdentifier",
)
WIDEST = 90


def aligned(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Set rows below headings in columns; the last column is as wide as its text."""
    cells = [list(headings), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(headings))]
    widths[-1] = 0
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "-" * min(len(lines[0]), WIDEST), *lines[1:], ""])


def one_line(value: Any) -> str:
    return " ".join(str("" if value is None else value).split())


def place_name(place: str) -> str:
    return PLACES.get(place, place.replace("source:", "namespace "))


def probes(evidence: EvidenceSet, kinds: Mapping[str, str]) -> str:
    """Tell what each place saw of each layer, place by place and layer by layer."""
    order = list(kinds)
    chosen = [item for item in evidence if item.what in kinds]
    chosen.sort(key=lambda item: (item.place, order.index(item.what), pod_of(item)))
    rows = [(place_name(item.place), pod_of(item), kinds[item.what], item.subject, *outcome(item)) for item in chosen]
    return aligned(("FROM", "POD", "LAYER", "TO", "RESULT", "SECONDS", "WHAT IT SAID"), rows)


def pod_of(item: Evidence) -> str:
    return str(item.value.get("probe_pod") or "") if isinstance(item.value, dict) else ""


def outcome(item: Evidence) -> tuple[str, str, str]:
    """Return result, seconds and message of one probe."""
    if not item.seen or not isinstance(item.value, dict):
        return f"not looked ({item.state.value})", "", item.detail
    value = item.value
    result = str(value.get("result") or "")
    status = value.get("status")
    said = value.get("error") or value.get("message") or value.get("code") or answer_of(value)
    return f"{result} {status}" if status else result, str(value.get("seconds", "")), str(said or "")[:300]


def answer_of(value: Mapping[str, Any]) -> str:
    """Return what an answer told, in a word."""
    if value.get("addresses"):
        return ", ".join(map(str, value["addresses"]))
    return str(value.get("arn") or value.get("version") or value.get("server_version") or value.get("revision") or "")


def unseen(evidence: EvidenceSet) -> str:
    """Name everything that could not be looked at."""
    rows = [(item.key, item.state.value, item.detail) for item in evidence if not item.seen]
    return aligned(("WHAT", "STATE", "WHY"), rows) if rows else "Everything that was asked for was seen.\n"


def events(evidence: EvidenceSet) -> str:
    """List the events of the server's namespace, oldest first."""
    rows = []
    for event in evidence.objects("kubernetes.events"):
        involved = event.get("involvedObject") or {}
        name = f"{involved.get('kind', '')}/{involved.get('name', '')}"
        times = (event.get("series") or {}).get("count") or event.get("count") or 1
        said = event.get("message") or event.get("note") or ""
        rows.append((event_time(event), event.get("type", ""), event.get("reason", ""), name, times, said))
    return aligned(("TIME", "TYPE", "REASON", "OBJECT", "TIMES", "MESSAGE"), sorted(rows, key=lambda row: row[0]))


def changed(changes: Iterable[Change]) -> str:
    """List what changed, newest first."""
    rows = [(change.at, change.object, change.by, change.what) for change in changes]
    return aligned(("TIME", "WHAT", "BY", "HOW"), rows) if rows else "No change of the last day was seen.\n"


def database(evidence: EvidenceSet) -> str:
    """Tell status, events and metrics of the RDS instance."""
    instance = evidence.first("aws.db_instance", CLOUD)
    lines = ["RDS INSTANCE", ""]
    if instance is None or not instance.seen:
        lines.append(not_read(instance, "no RDS instance belongs to this server, or its name is not known"))
    else:
        lines += [f"{name:<28}{instance.value[name]}" for name in INSTANCE_FACTS if name in instance.value]
        endpoint = instance.value.get("Endpoint") or {}
        lines.append(f"{'Endpoint':<28}{endpoint.get('Address', '')}:{endpoint.get('Port', '')}")
        pending = {key: value for key, value in (instance.value.get("PendingModifiedValues") or {}).items() if value}
        lines += [f"{'Pending changes':<28}{pending}"] if pending else []
    lines += [
        "",
        "EVENTS OF THE LAST DAY",
        "",
        rds_events(evidence),
        "",
        "METRICS OF THE LAST HOUR",
        "",
        metrics(evidence),
    ]
    return "\n".join(lines)


def not_read(item: Evidence | None, nothing: str) -> str:
    return nothing if item is None else f"not read: {item.state.value} ({item.detail})"


def rds_events(evidence: EvidenceSet) -> str:
    found = evidence.first("aws.rds_events", CLOUD)
    if found is None or not found.seen:
        return not_read(found, "not asked for: no RDS instance is known")
    rows = [(row.get("Date", ""), row.get("Message", "")) for row in found.value["items"]]
    return aligned(("TIME", "MESSAGE"), sorted(rows)) if rows else "none"


def metrics(evidence: EvidenceSet) -> str:
    found = evidence.first("aws.metrics", CLOUD)
    if found is None or not found.seen:
        return not_read(found, "not asked for: no RDS instance is known")
    rows = []
    for name, series in sorted(found.value.items()):
        points = [value for dummy, value in series["points"]]
        figures = (
            [f"{value:.6g}" for value in (points[-1], min(points), max(points))] if points else ["no data", "", ""]
        )
        rows.append((name, *figures, len(points)))
    return aligned(("METRIC", "LAST", "LOWEST", "HIGHEST", "POINTS"), rows)


def versions(report: Mapping[str, Any], evidence: EvidenceSet, own: Mapping[str, str]) -> str:
    """List the versions of everything that takes part."""
    instance = evidence.value("aws.db_instance", CLOUD, default={})
    cluster = evidence.value("kubernetes.cluster", API, default={})
    nodes = [node["status"].get("nodeInfo") or {} for node in evidence.objects("kubernetes.nodes")]
    kubelets = sorted({str(info.get("kubeletVersion", "")) for info in nodes})
    rows = [
        ("MLflow", report["server"].get("mlflow_version", "")),
        ("MLflow image", report["server"].get("image", "")),
        ("Kubernetes", cluster.get("version", "")),
        ("kubelets", ", ".join(kubelets)),
        ("database", f"{instance.get('Engine', '')} {instance.get('EngineVersion', '')}"),
        *sorted(own.items()),
    ]
    return aligned(("WHAT", "VERSION"), [(name, one_line(value) or "unknown") for name, value in rows])
