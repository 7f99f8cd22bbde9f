# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only an audit asks for: alarms, lifecycles and alert rules; never a probe pod, and one exec at most."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..clients.aws import CloudReader
from ..clients.calls import Observation
from ..clients.kubernetes import ClusterReader
from ..core.discovery import Target
from ..core.evidence import API, CLOUD, POD, Evidence, State
from ..core.settings import Settings
from . import pod_specs, probe_spec
from .cluster import ClusterCollector
from .objects import slim
from .probe_pods import ProbeRunner
from .progress import Progress, Tell
from .run import Collected, Collection, say_nothing
from .threads import Clock, Job, Notebook

MONITORING = "/apis/monitoring.coreos.com/v1"
ABOUT_US = re.compile(r"mlflow|probe_success", re.IGNORECASE)
STANDARD = "open-source-rds-standard-support"


def collect(settings: Settings, clock: Clock, tell: Tell = say_nothing) -> Collected:
    """Read what an audit judges; nothing is made, and only one of the server's own pods is entered.

    Args:
        settings: where and what to look at.
        clock: returns the UTC time as ISO 8601 with ``Z``.
        tell: shows a line to a person when something takes long.
    """
    collection = AuditCollection(replace(settings, source_namespaces=()), clock, Progress(tell))
    with collection.progress.running():
        return collection.run()


class AuditCollection(Collection):
    """A collection without clients, probe pods and calls of MLflow, and with what prevents incidents."""

    def _source_jobs(self, target: Target, runner: ProbeRunner) -> list[Job]:
        return []

    def _server_jobs(self, target: Target, pods: list[dict[str, Any]], runner: ProbeRunner) -> list[Job]:
        """Ask one pod for its own settings and for the limits of its database."""
        reason = self._pods_allowed()
        entered, problems = pod_specs.enterable(pods, target, self.evidence)
        if reason or not entered:
            why_not = reason or "; ".join(problems) or "no container of the server runs"
            self.evidence.add(self.notebook.skip("probe.pod", POD, "", why_not))
            return []
        spec = probe_spec.blank(self.settings, self.secrets, self.deadline.left())
        words = probe_spec.server_words(pod_specs.workload_of(self.evidence, target), target.container)
        spec |= {"server": True, "words": words, "database": target.db_instance_identifier}
        name = entered[0]["metadata"]["name"]
        enter = partial(runner.enter, target.namespace, name, target.container, spec)
        return [self.progress.named(f"pod {name} to tell its settings and its database's limits", enter)]

    def _collect_server(
        self, target: Target, reader: ClusterReader, cluster: ClusterCollector, runner: ProbeRunner
    ) -> None:
        self.evidence.extend(alert_rules(reader, self.notebook, target.namespace))
        super()._collect_server(target, reader, cluster, runner)
        instance = self.evidence.value("aws.db_instance", CLOUD)
        if instance is not None and self._cloud_reader is not None:
            self.evidence.extend(around_instance(self._cloud_reader, self.notebook, instance))


def around_instance(reader: CloudReader, notebook: Notebook, instance: Mapping[str, Any]) -> list[Evidence]:
    """Read the alarms on an instance, and how long AWS supports its engine and its certificate authority."""
    name, engine = str(instance["DBInstanceIdentifier"]), str(instance.get("Engine", ""))
    major = str(instance.get("EngineVersion", "")).partition(".")[0]
    authority = str(instance.get("CACertificateIdentifier") or "")
    found = [alarms(reader, notebook, name)]
    seen = reader.call("rds", "describe_db_major_engine_versions", Engine=engine, MajorEngineVersion=major)
    found.append(notebook.note("aws.engine_lifecycle", CLOUD, f"{engine} {major}", lifecycle(seen)))
    if authority:
        seen = reader.call("rds", "describe_certificates", CertificateIdentifier=authority)
        rows = seen.value.get("Certificates") or [] if seen.seen else []
        if seen.seen:
            seen = Observation(State.OK, {"valid_till": rows[0].get("ValidTill")} if rows else {})
        found.append(notebook.note("aws.certificate_authority", CLOUD, authority, seen))
    return found


def lifecycle(seen: Observation) -> Observation:
    """Keep of a major version the end of its standard support."""
    if not seen.seen:
        return seen
    rows = [row for item in seen.value.get("DBMajorEngineVersions") or [] for row in item["SupportedEngineLifecycles"]]
    ends = [row["LifecycleSupportEndDate"][:10] for row in rows if row.get("LifecycleSupportName") == STANDARD]
    return Observation(State.OK, {"standard_support_end": ends[0] if ends else ""})


def alarms(reader: CloudReader, notebook: Notebook, name: str) -> Evidence:
    """Read all alarms of the region, which CloudWatch cannot narrow down, and keep those on one instance."""
    seen = reader.call("cloudwatch", "describe_alarms", AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    if not seen.seen:
        return notebook.note("aws.alarms", CLOUD, name, seen)
    rows = seen.value.get("MetricAlarms") or []
    topics = [arn for row in rows for arn in row.get("AlarmActions") or [] if ":sns:" in arn]
    value = {
        "items": [fact for row in rows for fact in alarm_facts(row, name)],
        "composites": [
            {"name": row["AlarmName"], "rule": row.get("AlarmRule", "")}
            for row in seen.value.get("CompositeAlarms") or []
            if row.get("AlarmActions") and row.get("ActionsEnabled", True)
        ],
        "topics": sorted(set(topics), key=lambda arn: (-topics.count(arn), arn)),
    }
    return notebook.note("aws.alarms", CLOUD, name, Observation(seen.state, value, seen.detail))


def alarm_facts(row: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return what an alarm watches of one instance; an alarm on several metrics has no threshold of its own there."""
    stated = (
        [{"MetricName": row.get("MetricName"), "Dimensions": row.get("Dimensions")}] if row.get("MetricName") else []
    )
    computed = [(item.get("MetricStat") or {}).get("Metric") or {} for item in row.get("Metrics") or []]
    return [
        {
            "name": row["AlarmName"],
            "metric": metric.get("MetricName", ""),
            "threshold": row.get("Threshold") if stated else None,
            "comparison": row.get("ComparisonOperator", "") if stated else "",
            "actions_enabled": bool(row.get("ActionsEnabled", True)),
            "actions": list(row.get("AlarmActions") or []),
            "state": row.get("StateValue", ""),
        }
        for metric in [*stated, *computed]
        if any(item.get("Value") == name for item in metric.get("Dimensions") or [])
    ]


def alert_rules(reader: ClusterReader, notebook: Notebook, namespace: str) -> list[Evidence]:
    """Read the Prometheus operator's rules and probes of all namespaces, or else of the server's own."""
    rules = widest(reader, "prometheusrules", namespace)
    if rules.seen:
        rules = Observation(rules.state, rule_facts(rules.value["items"]), rules.detail)
    found = [notebook.note("kubernetes.prometheusrules", API, "", rules)]
    if rules.seen:
        probes = widest(reader, "probes", namespace)
        if probes.seen:
            items = [slim("probes", item) for item in probes.value["items"]]
            probes = Observation(probes.state, {"items": items}, probes.detail)
        found.append(notebook.note("kubernetes.probes", API, "", probes))
    return found


def widest(reader: ClusterReader, resource: str, namespace: str) -> Observation:
    """List objects everywhere; where that is forbidden, in one namespace, which rules nothing out."""
    everywhere = reader.list(f"{MONITORING}/{resource}", f"{resource}.monitoring.coreos.com")
    if everywhere.state is not State.FORBIDDEN:
        return everywhere
    path = f"{MONITORING}/namespaces/{namespace}/{resource}"
    here = reader.list(path, f"{resource}.monitoring.coreos.com", namespace)
    return Observation(State.PARTIAL, here.value, everywhere.detail) if here.seen else everywhere


def rule_facts(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Keep the rules that may be about MLflow with their place, and the names that rules record."""
    kept, recorded = [], set()
    for item in items:
        for group, entry in enumerate(item["spec"].get("groups") or []):
            for index, row in enumerate(entry.get("rules") or []):
                if row.get("record"):
                    recorded.add(str(row["record"]))
                if not ABOUT_US.search(json.dumps(row)):
                    continue
                kept.append(
                    {
                        "namespace": item["metadata"].get("namespace", ""),
                        "name": item["metadata"]["name"],
                        "group": group,
                        "index": index,
                        "alert": str(row.get("alert") or ""),
                        "record": str(row.get("record") or ""),
                        "expr": str(row.get("expr", "")),
                    }
                )
    return {"items": kept, "recorded": sorted(name for name in recorded if "mlflow" in name.lower())}
