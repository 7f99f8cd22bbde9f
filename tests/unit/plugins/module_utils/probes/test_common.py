# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all probes share."""

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.probes import common


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "not_found"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "try_again"),
        (TimeoutError("timed out"), "timeout"),
        (OSError(errno.ETIMEDOUT, "Connection timed out"), "timeout"),
        (ConnectionRefusedError(111, "Connection refused"), "refused"),
        (ConnectionResetError(104, "Connection reset by peer"), "reset"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "error"),
        (RuntimeError('could not translate host name "db" to address: Name or service not known'), "not_found"),
        (RuntimeError("failed to resolve host 'db': [Errno -3] Temporary failure in name resolution"), "try_again"),
        (RuntimeError('connection to server at "db", port 5432 failed: timeout expired'), "timeout"),
        (RuntimeError("SSL SYSCALL error: EOF detected"), "reset"),
        (ValueError("anything"), "error"),
    ],
)
def test_classify(error: Exception, result: str) -> None:
    assert common.classify(error) == result


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://mlflow:hunter2@db/mlflow", "postgresql://mlflow:********@db/mlflow"),
        ("postgresql://mlflow:hun@ter2@db/mlflow", "postgresql://mlflow:********@db/mlflow"),
        ("the value is s3cr3t!", "the value is ********"),
        ("http://mlflow:5000/health", "http://mlflow:5000/health"),
    ],
)
def test_redact(text: str, clean: str) -> None:
    assert common.redact(text, ("s3cr3t!",)) == clean


def test_redact_data() -> None:
    data: dict[str, Any] = {"a": ["x hidden", 1, None], "b": ("hidden",)}
    assert common.redact_data(data, ("hidden",)) == {"a": ["x ********", 1, None], "b": ["********"]}


def test_record_notes_every_kind_of_result() -> None:
    record = common.Record()

    def refuse() -> dict[str, Any]:
        raise common.Failed("denied", "no", sqlstate="28P01")

    def fail() -> dict[str, Any]:
        raise ConnectionRefusedError(111, "Connection refused")

    assert record.measure("probe.dns", "db", lambda: {"addresses": []}) is not None
    assert record.measure("probe.login", "db", refuse) is None
    assert record.measure("probe.tcp", "db", fail) is None
    record.skip("probe.query", "db", "login failed")
    rows = {row["what"]: row for row in record.rows()}
    assert rows["probe.dns"]["value"]["result"] == "ok"
    assert rows["probe.login"]["value"]["sqlstate"] == "28P01"
    assert rows["probe.tcp"]["value"]["result"] == "refused"
    assert rows["probe.query"] == {"what": "probe.query", "subject": "db", "state": "skipped", "detail": "login failed"}
    assert record.failed("probe.tcp")
    assert not record.failed("probe.dns", "probe.query")


def test_a_hanging_probe_is_a_time_out() -> None:
    record = common.Record()
    release = threading.Event()

    def hang() -> None:
        record.measure("probe.http", "url", lambda: {"waited": release.wait(10)})

    begun = time.monotonic()
    common.run_together([hang], 0.2)
    assert time.monotonic() - begun < 2
    assert record.rows()[0]["value"]["result"] == "timeout"
    release.set()


def test_waiting_ends_when_it_is_pointless() -> None:
    release = threading.Event()
    begun = time.monotonic()

    def hang() -> None:
        release.wait(10)

    common.run_together([hang], 10, lambda: True)
    assert time.monotonic() - begun < 2
    release.set()
