# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML file without external resources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import (
    COMMANDS,
    HEADLINES,
    cause_lines,
    change_lines,
    changed_lines,
    do_now,
    impact_lines,
    ruled_out_lines,
    short_time,
    unknown_lines,
)
from jinja2 import Environment

TEMPLATE = Path(__file__).with_name("report.html.j2")


def page(report: Mapping[str, Any]) -> str:
    """Render the page; every value is escaped."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        report=report,
        verdict=report["verdict"],
        server=report["server"],
        headline=HEADLINES[report["verdict"]["status"]],
        started=short_time(report["started"]),
        since=min((cause["since"] for cause in report["verdict"]["causes"] if cause["since"]), default=None),
        causes=cause_lines(report),
        impact=impact_lines(report["verdict"]["impact"]),
        do_now=do_now(report),
        commands=COMMANDS,
        changes=change_lines(report["plan"]["steps"]),
        changed=changed_lines(report),
        ruled_out=ruled_out_lines(report["verdict"]),
        unknown=unknown_lines(report["verdict"]),
        short_time=short_time,
    )
