# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ingress objects: their class, paths, certificates and hosts."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import API, POD, Evidence, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import service as section
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections.service_ingress import covers

from .conftest import AT, MakeContext, listed, probe

HOST = "mlflow.example.com"
NONE_WRONG: list[str] = []


def ingress(
    path: str = "/",
    path_type: str = "Prefix",
    *,
    address: str = "",
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    entry = {
        "path": path,
        "pathType": path_type,
        "backend": {"service": {"name": "mlflow", "port": {"name": "http"}}},
    }
    return {
        "metadata": {"name": "public", "annotations": annotations or {}, "creationTimestamp": "2026-01-01T10:00:00Z"},
        "spec": {"rules": [{"host": HOST, "http": {"paths": [entry]}}], **spec},
        "status": {"loadBalancer": {"ingress": [{"ip": address}]} if address else {}},
    }


def ingress_class(name: str, default: bool = False) -> dict[str, Any]:
    annotations = {"ingressclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {"metadata": {"name": name, "annotations": annotations}}


def classes(*items: dict[str, Any], state: State = State.OK) -> Evidence:
    value = {"items": list(items)} if state is State.OK else None
    return Evidence("kubernetes.ingressclasses", API, "", AT, state, value)


def found(context: MakeContext, item: dict[str, Any], *more: Evidence, **target: Any) -> list[str]:
    result = section.analyze(context(listed("ingresses", item), *more, **target))
    return [finding.id.removeprefix("service.ingress_") for finding in result.findings]


@pytest.mark.parametrize(
    ("item", "known", "wrong"),
    [
        (ingress(ingressClassName="nginx"), classes(ingress_class("nginx")), ["not_published"]),
        (ingress(ingressClassName="nginx", address="10.0.0.1"), classes(), []),
        (ingress(ingressClassName="nginxx"), classes(ingress_class("nginx")), ["class_missing"]),
        (ingress(ingressClassName="nginx"), classes(), ["class_missing"]),
        (ingress(ingressClassName="nginx"), classes(state=State.FORBIDDEN), []),
        (ingress(), classes(ingress_class("nginx")), ["not_published"]),
        (ingress(annotations={"kubernetes.io/ingress.class": "alb"}, address="a.b"), classes(), []),
    ],
)
def test_a_class_that_nobody_has(context: MakeContext, item: dict[str, Any], known: Evidence, wrong: list[str]) -> None:
    assert found(context, item, known) == wrong


@pytest.mark.parametrize(
    ("path", "path_type", "prefix", "wrong"),
    [
        ("/", "Prefix", "", False),
        ("", "ImplementationSpecific", "", False),
        ("/", "Exact", "", True),
        ("/mlflow", "Prefix", "", True),
        ("/mlflow/", "Prefix", "/mlflow", False),
        ("/", "Prefix", "/mlflow", False),
        ("/ml", "Prefix", "/mlflow", True),
        ("/mlflow(/|$)(.*)", "ImplementationSpecific", "", False),
    ],
)
def test_paths(context: MakeContext, path: str, path_type: str, prefix: str, wrong: bool) -> None:
    names = found(context, ingress(path, path_type), static_prefix=prefix)
    assert names == (["path_wrong"] if wrong else NONE_WRONG)


def test_a_path_that_the_controller_rewrites(context: MakeContext) -> None:
    rewritten = ingress("/mlflow", annotations={"nginx.ingress.kubernetes.io/rewrite-target": "/$2"})
    assert found(context, rewritten) == []


def secret(
    state: State = State.OK, *, not_after: str = "2027-01-01T00:00:00Z", names: tuple[str, ...] = (HOST,), **more: Any
) -> Evidence:
    value = {
        "keys": ["tls.crt", "tls.key"],
        "certificate": {"not_after": not_after, "names": list(names), "subject": "", "issuer": ""},
        **more,
    }
    return Evidence("kubernetes.tls_secrets", API, "ml/edge", AT, state, value if state is State.OK else None)


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        (secret(), False),
        (secret(State.FORBIDDEN), False),
        (secret(State.ABSENT), True),
        (secret(not_after="2025-12-31T00:00:00Z"), True),
        (secret(names=("*.example.com",)), False),
        (secret(names=("old.example.com",)), True),
        (secret(keys=["ca.crt"]), True),
        (secret(certificate={}), False),
    ],
)
def test_certificates(context: MakeContext, seen: Evidence, wrong: bool) -> None:
    item = ingress(tls=[{"hosts": [HOST], "secretName": "edge"}])
    assert found(context, item, seen) == (["certificate_broken"] if wrong else NONE_WRONG)


@pytest.mark.parametrize(
    ("name", "host", "holds"),
    [("a.b.c", "A.b.c", True), ("*.b.c", "a.b.c", True), ("*.b.c", "x.a.b.c", False), ("*.b.c", "b.c", False)],
)
def test_a_star_stands_for_one_label(name: str, host: str, holds: bool) -> None:
    assert covers(name, host) is holds


def asked(status: int) -> Evidence:
    url = f"http://127.0.0.1:5000/ (Host: {HOST})"
    return probe("http", url, place=POD, status=status, body="Invalid Host header" if status == 403 else "")


@pytest.mark.parametrize(
    ("item", "status", "wrong"),
    [(ingress(address="10.0.0.1"), 403, True), (ingress(address="10.0.0.1"), 200, False), (ingress(), 403, False)],
)
def test_a_published_host_that_mlflow_refuses(
    context: MakeContext, item: dict[str, Any], status: int, wrong: bool
) -> None:
    assert found(context, item, asked(status)) == (["host_rejected"] if wrong else NONE_WRONG)


@pytest.mark.parametrize(("endpoints", "wrong"), [((), True), (({"addresses": ["10.0.0.7"]},), False)])
def test_a_backend_of_another_name_that_selects_nobody(
    context: MakeContext, endpoints: tuple[dict[str, Any], ...], wrong: bool
) -> None:
    item = ingress()
    item["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "mlflow-old"
    service = {
        "metadata": {"name": "mlflow"},
        "spec": {"selector": {"app": "mlflow"}, "ports": [{"port": 80, "targetPort": 5000}]},
    }
    old = {
        "metadata": {"name": "mlflow-old"},
        "spec": {"selector": {"app": "gone"}, "ports": [{"name": "http", "port": 80}]},
    }
    slices = [
        {
            "metadata": {"labels": {"kubernetes.io/service-name": "mlflow"}},
            "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"port": 5000}],
        },
        {"metadata": {"labels": {"kubernetes.io/service-name": "mlflow-old"}}, "endpoints": list(endpoints)},
    ]
    names = found(context, item, listed("services", service, old), listed("endpointslices", *slices))
    assert names == (["backend_wrong"] if wrong else NONE_WRONG)
