# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes that are the mistake themselves."""

from __future__ import annotations

from typing import Any

import pytest

from .test_pods import PROBE, events, found, listed, pod

API = "http://127.0.0.1:5000/api/2.0/mlflow/experiments/search?max_results=1"
PROGRAM: dict[str, Any] = {"readinessProbe": {"exec": {"command": ["curl", "-f", "localhost"]}}}
MISSING = "Readiness probe errored and resulted in unknown state: rpc error: exec: curl: executable file not found"
FAILED = "Readiness probe failed: the check is not satisfied"


def answer(status: int = 200) -> tuple[str, str, str, Any]:
    return "probe.http", "pod", API, {"result": "ok", "status": status, "probe_pod": "mlflow-1", "seconds": 1.4}


@pytest.mark.parametrize(
    ("ready", "text", "status", "expected"),
    [
        (False, FAILED, 200, True),
        (False, FAILED, 503, False),
        (False, MISSING, 503, True),
        (True, MISSING, 200, False),
    ],
)
def test_a_probe_whose_program_fails(ready: bool, text: str, status: int, expected: bool) -> None:
    names = found(listed(pod(ready, **PROGRAM)), events(("Unhealthy", text)), answer(status))
    assert ("pods.probe_misconfigured" in names) is expected


@pytest.mark.parametrize(("seconds", "status", "expected"), [(1, 200, True), (5, 200, False), (1, 503, False)])
def test_a_readiness_probe_that_does_not_wait(seconds: int, status: int, expected: bool) -> None:
    item = pod(False, readinessProbe={**PROBE, "timeoutSeconds": seconds})
    told = events(("Unhealthy", 'Readiness probe failed: Get "http://10.0.0.1:5000/health": context deadline exceeded'))
    assert ("pods.readiness_too_tight" in found(listed(item), told, answer(status))) is expected


@pytest.mark.parametrize(("scheme", "expected"), [("HTTPS", True), ("HTTP", False)])
def test_a_probe_that_speaks_https_to_a_plain_port(scheme: str, expected: bool) -> None:
    item = pod(False, readinessProbe={"httpGet": {"path": "/health", "port": 5000, "scheme": scheme}})
    assert ("pods.probe_misconfigured" in found(listed(item), answer())) is expected
