# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.items import Grade

from .conftest import Audited, container, patched

OK, WEAK, MISSING, UNKNOWN = Grade.OK, Grade.WEAK, Grade.MISSING, Grade.UNKNOWN
RATIO = 'sum(rate(mlflow_http_request_total{namespace="pv",status="400"}[5m])) > 0.05'


def rules(audited: Audited, *expressions: str, recorded: tuple[str, ...] = (), alert: str = "Some") -> Audited:
    items = [
        {"namespace": "m", "name": "r", "group": 0, "index": index, "alert": alert, "record": "", "expr": text}
        for index, text in enumerate(expressions)
    ]
    return audited.change(
        "kubernetes.prometheusrules", lambda value: value.update(items=items, recorded=list(recorded))
    )


def expose(audited: Audited) -> Audited:
    return audited.change(
        "kubernetes.deployments", lambda value: container(value)["args"].append("--expose-prometheus=/tmp/metrics")
    )


def test_no_rule(audited: Audited) -> None:
    item = rules(audited)["alerts.pool_exhaustion"]
    assert item.grade is MISSING
    assert "kind: Probe" in patched(item, "kubectl")
    assert audited["alerts.metric_names"].grade is OK


@pytest.mark.parametrize("matcher", ['="400"', '=~"4.."', '=~"400|503"', '=~"[45].."', '!="200"', '!~"2..|5.."'])
def test_a_count_of_400_sees_it_where_it_is_exported(audited: Audited, matcher: str) -> None:
    rules(audited, RATIO.replace('="400"', matcher))
    assert audited["alerts.pool_exhaustion"].grade is WEAK  # nothing exports it
    assert expose(audited)["alerts.pool_exhaustion"].grade is OK


@pytest.mark.parametrize("matcher", ['="500"', '=~"5.."', '!~"4.."', '=~"("'])
def test_a_count_of_something_else_does_not_see_it(audited: Audited, matcher: str) -> None:
    rules(audited, RATIO.replace('="400"', matcher))
    assert expose(audited)["alerts.pool_exhaustion"].grade is MISSING


def test_a_server_that_exports_gets_a_ratio(audited: Audited) -> None:
    text = patched(expose(rules(audited))["alerts.pool_exhaustion"], "kubectl")
    assert "mlflow_http_request_total" in text
    assert "kind: Probe" not in text


def test_a_rule_that_only_claims_to_see_it(audited: Audited) -> None:
    item = rules(audited, "up == 0", alert="MLflowPostgresConnectionPoolExhausted")["alerts.pool_exhaustion"]
    assert item.grade is WEAK
    assert "MLflowPostgresConnectionPoolExhausted" in item.summary


def test_a_probe_of_health_does_not_see_it(audited: Audited) -> None:
    def health(value: Any) -> None:
        value["items"][0]["spec"]["targets"]["staticConfig"]["static"] = ["http://mlflow.pv.svc:5000/health"]

    assert audited.change("kubernetes.probes", health)["alerts.pool_exhaustion"].grade is MISSING


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('rate(mlflow_http_requests_total{status=~"5.."}[5m])', "mlflow_http_requests_total"),
        ('rate(http_request_duration_seconds_bucket{job="mlflow"}[5m])', "http_request_duration_seconds_bucket"),
        ("mlflow_active_runs > 5", "mlflow_active_runs"),
    ],
)
def test_a_metric_that_does_not_exist_is_called_out(audited: Audited, expression: str, names: str) -> None:
    item = rules(audited, expression)["alerts.metric_names"]
    assert item.grade is WEAK
    assert f"Some uses {names}" in item.summary


@pytest.mark.parametrize(
    "expression",
    [
        RATIO,
        "rate(mlflow_http_request_duration_seconds_bucket[5m])",
        'probe_success{job="mlflow_api"} == 0',
        'up{job="mlflow_server"} == 0',
        "mlflow_error_ratio > 0.1",
        'kube_deployment_status_replicas{deployment="mlflow"} < 1',
    ],
)
def test_labels_recorded_and_exported_names_are_no_mistakes(audited: Audited, expression: str) -> None:
    rules(audited, expression, recorded=("mlflow_error_ratio",))
    assert audited["alerts.metric_names"].grade is OK


def test_what_was_meant_is_put_in_and_what_nothing_is_like_is_taken_out(audited: Audited) -> None:
    rules(audited, "rate(mlflow_http_requests_total[5m]) > 1", "mlflow_db_pool_size > 1")
    remove, replace = [
        json.loads(line.partition(" -p '")[2].rstrip("'"))[0]
        for line in patched(audited["alerts.metric_names"], "kubectl").splitlines()
        if not line.startswith("#")
    ]
    assert replace == {
        "op": "replace",
        "path": "/spec/groups/0/rules/0/expr",
        "value": "rate(mlflow_http_request_total[5m]) > 1",
    }
    assert remove == {"op": "remove", "path": "/spec/groups/0/rules/1"}


def test_without_the_operators_kinds_nothing_is_known(audited: Audited) -> None:
    audited.hide("kubernetes.prometheusrules", State.ABSENT, "the server could not find the requested resource")
    item = audited["alerts.pool_exhaustion"]
    assert item.grade is UNKNOWN
    assert "kept elsewhere" in item.summary


def test_a_rule_about_another_server_helps_and_hurts_nobody_here(audited: Audited) -> None:
    expose(rules(audited, RATIO.replace('"pv"', '"other"'), 'mlflow_active_runs{namespace=~"other|more"} > 5'))
    assert audited["alerts.pool_exhaustion"].grade is MISSING
    assert audited["alerts.metric_names"].grade is OK


@pytest.mark.parametrize(
    ("url", "grade"),
    [
        ("http://mlflow.pv.svc.cluster.local:5000/api/2.0/mlflow/experiments/search", OK),
        ("http://mlflow.other.svc:5000/api/2.0/mlflow/experiments/search", MISSING),
        ("https://mlflow.example.com/api/2.0/mlflow/experiments/search", MISSING),
    ],
)
def test_only_a_probe_of_this_server_counts(audited: Audited, url: str, grade: Grade) -> None:
    def aim(value: Any) -> None:
        value["items"][0]["spec"]["targets"]["staticConfig"]["static"] = [url]

    assert audited.change("kubernetes.probes", aim)["alerts.pool_exhaustion"].grade is grade
