# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One audit from settings to report files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.prevention import collect
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.redaction import Redactor
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import server_document, short_time
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.audit import (
    by_state,
    document,
    judge,
    remarks,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.text import (
    HEADLINES,
    TITLES,
    TOOLS,
    counts_line,
    text,
)

from .diagnose import utc_now
from .html import render
from .run import server_folder, write_whole

display = Display()
CLASSES = {"missing": "down", "weak": "degraded", "unknown": "unknown", "ok": "healthy"}
"""States of items as the pages' style calls them."""
PREFIX = "prevention"
"""Before the names of an audit's files, which stand beside those of diagnoses."""


def audit(settings: Settings) -> tuple[dict[str, Any], str]:
    """Collect and judge what prevents incidents of one server; nothing is written to it.

    Returns:
        the report, and the evidence that it stands on as JSON; both redacted.
    """
    started, began = utc_now(), time.monotonic()
    collected = collect(settings, utc_now, lambda line: display.display(f"{settings.namespace}: {line}"))
    target = collected.target
    context = Context(target, collected.evidence, datetime.now(UTC)) if target else None
    report = document(
        server=server_document(target, collected.evidence, settings.namespace, collected.cluster),
        started=started,
        seconds={"total": round(time.monotonic() - began, 3), **collected.seconds},
        calls=collected.calls,
        items=judge(context) if context else (),
        said=remarks(context) if context else (),
        problem=collected.discovery.problem,
    )
    clean: dict[str, Any] = Redactor(collected.secrets).data(report)
    return clean, collected.evidence.to_json()


def page(report: Mapping[str, Any]) -> str:
    """Render the page; every value is escaped."""
    server = report["server"]
    cluster = f" · cluster {server['cluster']}" if server.get("cluster") else ""
    return render(
        "audit.html.j2",
        report=report,
        name=f"{server['namespace']}/{server['name'] or '?'}",
        headline=HEADLINES[report["status"]],
        subtitle=short_time(report["started"]) + cluster,
        counts=counts_line(report),
        states=by_state(report),
        titles=TITLES,
        tools=TOOLS,
        classes=CLASSES,
    )


def publish(report: Mapping[str, Any], evidence: str, settings: Settings) -> str:
    """Write JSON, text, HTML and the evidence beside each other; return the JSON's path."""
    folder = server_folder(settings.report_dir, report["server"])
    stem = f"{PREFIX}-{report['started'].replace(':', '').replace('-', '')}"
    documents = {"json": json.dumps(report, indent=1, sort_keys=True) + "\n", "txt": text(report), "html": page(report)}
    for suffix, content in documents.items():
        write_whole(folder / f"{stem}.{suffix}", content)
        write_whole(folder / f"{PREFIX}-latest.{suffix}", content)
    write_whole(folder / f"{stem}.evidence.json", evidence)
    return str(folder / f"{stem}.json")


def summary_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a program needs of it: status, and the ids of the items by state."""
    states = {state: [item["id"] for item in items] for state, items in by_state(report) if state != "ok"}
    return {"status": report["status"], **{state: states.get(state, []) for state in ("missing", "weak", "unknown")}}


def failure_of(report: Mapping[str, Any], settings: Settings) -> str:
    """Return why the playbook fails, or an empty text: a gap found is a successful audit."""
    if report["problem"] and not report["server"]["name"]:
        return str(report["problem"])
    found = summary_of(report)
    gaps = found["missing"] + found["weak"]
    if settings.fail_on in ("cause", "unknown") and gaps:
        return "gaps found: " + ", ".join(gaps)
    if settings.fail_on == "unknown" and found["unknown"]:
        return "could not be looked at: " + ", ".join(found["unknown"])
    return ""
