# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus rules: whether one would see an exhausted pool, and whether their metrics exist at all."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

from ..core.discovery_stores import SERVERLESS
from ..core.evidence import API, Evidence, State
from ..core.findings import Context
from .items import Item, Patch, kubectl, missing, ok, unknown, unseen, weak
from .pods import SEARCH, allowed_host
from .server import command_of

RIGHT = "list prometheusrules.monitoring.coreos.com"
EXPORTED = frozenset(
    {
        "mlflow_http_request_total",
        "mlflow_http_request_duration_seconds_bucket",
        "mlflow_http_request_duration_seconds_sum",
        "mlflow_http_request_duration_seconds_count",
        "mlflow_http_request_exceptions_total",
        "mlflow_exporter_info",
        "mlflow_otlp_request_duration_seconds_bucket",
        "mlflow_otlp_request_duration_seconds_sum",
        "mlflow_otlp_request_duration_seconds_count",
        "mlflow_otlp_request_payload_bytes_bucket",
        "mlflow_otlp_request_payload_bytes_sum",
        "mlflow_otlp_request_payload_bytes_count",
        "mlflow_otlp_spans_per_request_bucket",
        "mlflow_otlp_spans_per_request_sum",
        "mlflow_otlp_spans_per_request_count",
    }
)
"""What MLflow 3.17.2 exports with --expose-prometheus (measured, field guide section 7.1)."""
MEANT = {
    "mlflow_http_requests_total": "mlflow_http_request_total",
    "mlflow_requests_total": "mlflow_http_request_total",
    "http_requests_total": "mlflow_http_request_total",
    "http_request_duration_seconds_bucket": "mlflow_http_request_duration_seconds_bucket",
    "http_request_duration_seconds_sum": "mlflow_http_request_duration_seconds_sum",
    "http_request_duration_seconds_count": "mlflow_http_request_duration_seconds_count",
    "mlflow_http_requests_duration_seconds_bucket": "mlflow_http_request_duration_seconds_bucket",
    "mlflow_request_duration_seconds_bucket": "mlflow_http_request_duration_seconds_bucket",
}
"""Names found in published rules, and what their authors meant (field guide section 7.2)."""
NAME = re.compile(
    r"(?<![\w:\"'=.-])(?:mlflow_[a-z0-9_]+|http_request(?:s_total|_duration_seconds_(?:bucket|sum|count)))\b(?!\s*[=!(])"
)
REQUESTS = re.compile(r"\bmlflow_http_request_total\s*\{(?P<labels>[^}]*)\}")
MATCHER = re.compile(r"\b(?P<name>[a-z_]+)\s*(?P<operator>=~|!~|!=|=)\s*\"(?P<value>[^\"]*)\"")
SELECTOR = re.compile(r"\{(?P<labels>[^}]*)\}")
NAMESPACE_LABELS = frozenset({"namespace", "kubernetes_namespace", "exported_namespace"})
EXHAUSTED = "400"
PROBED = re.compile(r"\bprobe_success\s*(?:\{(?P<labels>[^}]*)\})?")
JOB = re.compile(r"\bjob\s*=~?\s*\"(?P<job>[^\"]+)\"")
API_PATH = "/api/"
Rule = Mapping[str, Any]


def judge(context: Context) -> list[Item]:
    """Judge the rules of the whole cluster, as far as they are objects of the Prometheus operator."""
    look = context.evidence.first("kubernetes.prometheusrules", API)
    if look is None or not look.seen:
        if look is not None and look.state is State.ABSENT:
            why = "the cluster has no PrometheusRule objects; rules that are kept elsewhere cannot be seen from here"
            return [unknown(id_, why, "the rules of your own monitoring", look) for id_ in ITEMS]
        return [unseen(id_, look, RIGHT) for id_ in ITEMS]
    return [pool_exhaustion(context, look), metric_names(context, look)]


ITEMS = ("alerts.pool_exhaustion", "alerts.metric_names")


def exposes(context: Context) -> bool:
    command = command_of(context)
    return bool(
        command and ("expose-prometheus" in command.options or "MLFLOW_EXPOSE_PROMETHEUS" in command.environment)
    )


def probes_api(context: Context, expression: str) -> bool:
    """Tell whether a rule goes by a blackbox probe of the API, which waits for the pool as a client does."""
    found = PROBED.search(expression)
    job = JOB.search((found["labels"] or "") if found else "")
    if job is None:
        return False
    probes = context.evidence.objects("kubernetes.probes")
    return any(
        re.fullmatch(job["job"], str(item["spec"].get("jobName") or ""))
        and any(
            API_PATH in str(url) and leads_to(context, str(url))
            for url in ((item["spec"].get("targets") or {}).get("staticConfig") or {}).get("static") or []
        )
        for item in probes
    )


def leads_to(context: Context, url: str) -> bool:
    """Tell whether an address is the server's: its Service by name, or a host of an ingress of its namespace."""
    host = urllib.parse.urlsplit(url).hostname or ""
    target = context.target
    if host.split(".")[:2] == [target.service, target.namespace]:
        return True
    ingresses = context.evidence.objects("kubernetes.ingresses", target.namespace)
    return host in {rule.get("host") for item in ingresses for rule in item["spec"].get("rules") or []} - {None}


def counts_exhaustion(expression: str, namespace: str) -> bool:
    """Tell whether a rule counts a server's answers by a status that an exhausted pool gives."""
    return any(
        selects(match["operator"], match["value"], EXHAUSTED)
        for found in REQUESTS.finditer(expression)
        for match in MATCHER.finditer(found["labels"])
        if match["name"] == "status" and is_about(found["labels"], namespace)
    )


def is_about(labels: str, namespace: str) -> bool:
    """Tell whether label matchers let the metrics of a namespace through."""
    return all(
        selects(match["operator"], match["value"], namespace)
        for match in MATCHER.finditer(labels)
        if match["name"] in NAMESPACE_LABELS
    )


def selects(operator: str, value: str, text: str) -> bool:
    """Evaluate a label matcher of PromQL."""
    try:
        alike = bool(re.fullmatch(value, text)) if operator.endswith("~") else value == text
    except re.error:
        return False
    return alike != operator.startswith("!")


def pool_exhaustion(context: Context, look: Evidence) -> Item:
    """An exhausted pool is a 400 after 30 s and nothing else (field guide sections 1 and 2.5)."""
    id_ = "alerts.pool_exhaustion"
    if str(context.target.backend.get("scheme") or "").partition("+")[0] in SERVERLESS:
        return unknown(id_, "the backend store has no pool", "a PostgreSQL database", look)
    rules = [row for row in look.value["items"] if row.get("alert")]
    by_status = [row for row in rules if counts_exhaustion(row["expr"], context.target.namespace)]
    by_probe = [row for row in rules if probes_api(context, row["expr"])]
    patches = (proposal(context),)
    if by_probe or (by_status and exposes(context)):
        names = ", ".join(sorted({row["alert"] for row in (by_probe or by_status)}))
        return ok(id_, f"{names} would fire", look)
    if by_status:
        names = ", ".join(sorted({row["alert"] for row in by_status}))
        return weak(id_, f"{names} never fires: the server runs without --expose-prometheus", patches, look)
    if look.state is not State.OK:
        return unknown(id_, f"not all rules could be read: {look.detail}", RIGHT, look)
    claims = [row["alert"] for row in rules if re.search("pool|connection", row["alert"], re.IGNORECASE)]
    if claims:
        return weak(id_, f"{', '.join(sorted(set(claims)))} does not see it by its expression", patches, look)
    return missing(id_, "no alert rule would see it", patches, look)


def proposal(context: Context) -> Patch:
    """Alert on the ratio of 400 where MLflow exports it, and on a probe of the API where it does not."""
    target = context.target
    name = f"{target.deployment}-database-pool"
    if exposes(context):
        selector = f'namespace="{target.namespace}"'
        expression = (
            f'sum(rate(mlflow_http_request_total{{{selector},status="400"}}[5m])) '
            f"/ sum(rate(mlflow_http_request_total{{{selector}}}[5m])) > 0.05"
        )
        return kubectl(rule(context, name, "MLflowBadRequestRatio", expression))
    job = f"{target.namespace}-{target.deployment}-api"
    host = f"{target.service or target.deployment}.{target.namespace}.svc"
    url = f"http://{host}:{target.service_port or target.port}{target.static_prefix}{SEARCH}"
    probe = f"""
        # needs a blackbox exporter, here at blackbox-exporter.monitoring; where the server does not allow the name
        # {host}, its module has to send the header Host: {allowed_host(context)}
        apiVersion: monitoring.coreos.com/v1
        kind: Probe
        metadata:
          name: {name}
          namespace: {target.namespace}
        spec:
          jobName: {job}
          interval: 60s
          scrapeTimeout: 40s
          module: http_2xx
          prober:
            url: blackbox-exporter.monitoring.svc:9115
          targets:
            staticConfig:
              static:
                - {url}
        ---"""
    return kubectl(probe + rule(context, name, "MLflowApiUnavailable", f'probe_success{{job="{job}"}} == 0'))


def rule(context: Context, name: str, alert: str, expression: str) -> str:
    return f"""
        apiVersion: monitoring.coreos.com/v1
        kind: PrometheusRule
        metadata:
          name: {name}
          namespace: {context.target.namespace}
        spec:
          groups:
            - name: {name}
              rules:
                - alert: {alert}
                  expr: {json.dumps(expression)}
                  for: 5m
                  labels:
                    severity: critical
                  annotations:
                    summary: MLflow in {context.target.namespace} answers 400 or not at all (connection pool?)
        """


def unknown_names(row: Rule, recorded: set[str]) -> list[str]:
    """Return the metrics of a rule about MLflow that MLflow does not export and no rule records."""
    found = NAME.findall(row["expr"])
    return sorted({name for name in found if name not in EXPORTED and name not in recorded})


def metric_names(context: Context, look: Evidence) -> Item:
    """Name every alert that never fires since its metric does not exist."""
    id_ = "alerts.metric_names"
    recorded = set(look.value.get("recorded") or [])
    mine = [
        row
        for row in look.value["items"]
        if all(is_about(found["labels"], context.target.namespace) for found in SELECTOR.finditer(row["expr"]))
    ]
    wrong = [(row, names) for row in mine if (names := unknown_names(row, recorded))]
    if not wrong:
        if look.state is not State.OK:
            return unknown(id_, f"not all rules could be read: {look.detail}", RIGHT, look)
        return ok(id_, "no rule about MLflow uses a metric that MLflow does not export", look)
    said = [f"{row.get('alert') or row.get('record')} uses {', '.join(names)}" for row, names in wrong]
    return weak(id_, "MLflow does not export what these rules use: " + "; ".join(said), renamed(wrong), look)


def renamed(wrong: list[tuple[Rule, list[str]]]) -> tuple[Patch, ...]:
    """Return the expressions with the names that were meant; what has no counterpart can only be taken out."""
    commands = []
    for row, names in wrong:
        expression = row["expr"]
        for name in names:
            if name in MEANT:
                expression = re.sub(rf"(?<![\w:]){name}\b", MEANT[name], expression)
        head = f"kubectl -n {row['namespace']} patch prometheusrule {row['name']} --type=json -p"
        path = f"/spec/groups/{row['group']}/rules/{row['index']}"
        operation: dict[str, Any] = {"op": "replace", "path": f"{path}/expr", "value": expression}
        note = ""
        lost = [name for name in names if name not in MEANT]
        if lost:
            note = f"# MLflow has nothing like {', '.join(lost)}: take the rule out\n"
            operation = {"op": "remove", "path": path}
        change = json.dumps([operation]).replace("'", "'\\''")
        commands.append(f"{note}{head} '{change}'")
    return (Patch("kubectl", "\n".join(reversed(commands))),)  # the last first: a removal moves what follows it
