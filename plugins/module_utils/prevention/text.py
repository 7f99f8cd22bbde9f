# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit as text: what is wrong in one screen, then how to put each of it right."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from ..core.report import WHOLE_WORDS, WIDTH, bullet, short_time
from .audit import by_state

HEADLINES = {
    "ok": "is prepared",
    "weak": "has gaps in its prevention",
    "unknown": "could not be audited completely",
}
TITLES = {"missing": "MISSING", "weak": "WEAK", "unknown": "UNKNOWN", "ok": "OK"}
TOOLS = {"kubectl": "Kubernetes", "aws": "AWS command line", "terraform": "Terraform"}


def counts_line(report: Mapping[str, Any]) -> str:
    return " · ".join(f"{report['counts'][state]} {state}" for state in TITLES)


def text(report: Mapping[str, Any]) -> str:
    """Write the report as text."""
    server = report["server"]
    head = f"MLflow {server['namespace']}/{server['name'] or '?'} {HEADLINES[report['status']]}"
    lines = [f"{head}   {short_time(report['started'])}", counts_line(report)]
    if report["problem"]:
        lines.append(report["problem"])
    for state, items in by_state(report):
        lines += ["", TITLES[state]]
        lines += [line for item in items for line in row(item)]
    if report["remarks"]:
        lines += ["", "Worth knowing", *(line for remark in report["remarks"] for line in bullet(remark))]
    lines += patches(report)
    said = [f"{item['id']}: {item['source']}" for item in report["items"] if item["state"] != "ok"]
    if said:
        lines += ["", "Sources", *(line for entry in said for line in bullet(entry))]
    seconds = report["seconds"].get("total")
    return "\n".join([*lines, "", f"{report['started']}  {seconds} s", ""])


def row(item: Mapping[str, Any]) -> list[str]:
    """Set an item's summary, and for what is not right its risk or what would reveal it."""
    lines = wrapped(f"  {item['id']:<32}", item["summary"])
    if item["state"] in ("missing", "weak"):
        lines += wrapped(" " * 34, f"risk: {item['risk']}")
    if item["state"] == "unknown" and item["needs"]:
        lines += wrapped(" " * 34, f"needs: {item['needs']}")
    return lines


def wrapped(head: str, words: str) -> list[str]:
    found = textwrap.wrap(words, WIDTH - len(head), **WHOLE_WORDS) or [""]
    return [f"{head}{found[0]}", *(" " * len(head) + line for line in found[1:])]


def patches(report: Mapping[str, Any]) -> list[str]:
    """Set every patch in one piece, so that it can be copied."""
    wanted: dict[tuple[str, str], list[str]] = {}
    for item in report["items"]:
        for patch in item["patches"]:
            wanted.setdefault((patch["tool"], patch["text"]), []).append(item["id"])
    lines: list[str] = []
    for (tool, commands), ids in wanted.items():
        lines += ["", f"--- {', '.join(ids)} ({TOOLS[tool]})", commands]
    return ["", "HOW TO PUT IT RIGHT", *lines] if lines else []
