# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's arithmetic, and that no secret reaches an argument list; nothing here is timed."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.lab import aws, operator, servers
from tests.lab.bench import __main__ as bench
from tests.lab.bench import contenders, measure, page
from tests.lab.faults import templates


def row(seconds: list[float]) -> dict[str, Any]:
    return {
        "tasks": 3,
        "kubernetes": {"get": 2, "list": 20},
        "aws": {"rds": 2},
        "pods_created": 1,
        "peak_memory_mib": 130.4,
        "seconds": seconds,
        "processor_seconds": [1.0, 2.0, 3.0],
        "codes": [0, 0, 0],
        "median_seconds": sorted(seconds)[1],
    }


SERVERS = {
    state: {"diagnose": row([3.0, 2.9, 4.0]), "script": row([15.0, 14.0, 16.0]), "playbook": row([30.0, 31.0, 33.0])}
    for state in page.STATES
}
SUMMARY = {
    "at": "2026-01-02T03:04:05Z",
    "rounds": 3,
    "fault": "selector_matches_nothing",
    "machine": {"processors": 2, "load_before": 0.1},
    "titles": {"diagnose": "ours", "script": "typed", "playbook": "plain"},
    "each_further_server": {"seconds": 0.7, "servers": 11},
    "parts": {state: {"total": 3.0, "collect": 2.8, "cluster": 0.3, "probes": 2.4} for state in page.STATES},
    "answers": {
        "healthy": {"status": "healthy", "causes": []},
        "broken": {"status": "down", "causes": ["service.selector_matches_nothing"]},
    },
    "servers": SERVERS,
}


def server() -> servers.Server:
    chosen = servers.options("one", "mlflow", {})
    return servers.Server(
        **chosen.model_dump(),
        name="one",
        layout="mlflow",
        region="us-west-2",
        account_id="123456789012",
        role_arn="arn:aws:iam::123456789012:role/one",
        database={**templates.SAMPLE_DATABASE, "password": "p@ss/word"},
    )


def test_ratios_are_of_medians() -> None:
    assert bench.ratios(SERVERS["healthy"]) == {"script": 5.0, "playbook": 10.33}


def test_the_table_names_every_contender_and_where_the_time_goes() -> None:
    text = page.table(SUMMARY)
    assert "| healthy | typed | 15.0 | 5.0 | 2.0 | 3 | 22 | 2 | 1 | 130 |" in text
    assert "20 list, 2 get" in text
    assert "| start of Ansible, imports, report | 1.00 | 1.00 |" in text
    assert "because of `service.selector_matches_nothing`" in text


def test_the_plot_is_well_formed_and_has_a_bar_for_each() -> None:
    root = ET.fromstring(page.plot(SUMMARY))  # noqa: S314
    bars = [one for one in root.iter("{http://www.w3.org/2000/svg}rect") if one.get("fill") != "#ffffff"]
    assert len(bars) == 6


def test_the_contenders_do_what_the_runbooks_say(tmp_path: Path) -> None:
    tasks = {one.name: one.tasks for one in contenders.contenders(tmp_path)}
    assert tasks == {"diagnose": 3, "script": 21, "playbook": 24}


def test_no_argument_and_no_variable_holds_the_databases_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contenders, "aws_command_line", lambda: tmp_path)
    monkeypatch.setattr(operator, "environment", lambda _identity: {})
    for one in contenders.contenders(tmp_path):
        argv, environment = one.command(server())
        assert "p@ss" not in repr((argv, environment))
        assert "p%40ss" not in repr((argv, environment))


def test_a_run_has_its_code_and_output(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "one.txt"
    memory: list[int] = []
    argv = [sys.executable, "-c", "import time; print('seen'); time.sleep(0.3); raise SystemExit(3)"]
    sample = measure.run(argv, dict(os.environ), log, memory)
    assert (sample.code, log.read_text(encoding="utf-8")) == (3, "seen\n")
    assert max(memory) > 1000


def test_an_operator_without_aws_looks_for_no_credentials_elsewhere() -> None:
    variables = aws.environment(None)
    assert not [name for name in variables if "KEY" in name]
    assert variables["AWS_EC2_METADATA_DISABLED"] == "true"
    assert variables["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
