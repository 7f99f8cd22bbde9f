# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator with fewer rights still finds out, from the results of ``make faults OPERATOR=...``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OPERATORS = {
    "full": "nothing",
    "no-secrets": "`get secrets`",
    "no-exec": "`create pods`, `pods/exec`",
    "no-aws": "AWS (no credentials)",
    "forbidden": "anything, in the cluster and in AWS",
}
HEADINGS = (
    "operator", "may not", "diagnoses", "exact", "fewer causes", "false causes", "broken but called healthy",
    "forbidden writes",
)  # fmt: skip
WELL = ("healthy", "recovered")
Rows = dict[str, list[dict[str, Any]]]


def results(build: Path) -> Rows:
    """Rows of each operator's last run below the folder ``build``."""
    found = {}
    for name in OPERATORS:
        path = build / ("faults" if name == "full" else f"faults-{name}") / "summary.json"
        if path.exists():
            rows = json.loads(path.read_text(encoding="utf-8"))
            found[name] = [row for row in rows if row["bites"] and row.get("status")]
    return found


def spelt(row: dict[str, Any] | None) -> str:
    """One fault's result in a word."""
    if row is None:
        return ""
    if row["false_causes"]:
        return "**false**"
    if row["exact"]:
        return "exact"
    return f"{len(row['causes'])} of {len(row['expected'])}" if row["causes"] else row["status"]


def table(found: Rows) -> str:
    """Both tables as Markdown: the sums, and each fault."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---|" + "--:|" * (len(HEADINGS) - 2)]
    for name, rows in found.items():
        exact, false = sum(row["exact"] for row in rows), sum(len(row["false_causes"]) for row in rows)
        fewer = sum(not row["exact"] and not row["false_causes"] for row in rows)
        healthy = sum(bool(row["expected"]) and row["status"] in WELL for row in rows)
        writes = sum(len(row["forbidden_writes"]) for row in rows)
        cells = (
            name,
            OPERATORS[name],
            len(rows),
            f"{exact} ({100 * exact // len(rows)} %)",
            fewer,
            false,
            healthy,
            writes,
        )
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    lines += ["", "| fault | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    by_key = {name: {(row["fault"], row["phase"]): row for row in rows} for name, rows in found.items()}
    for fault, phase in sorted({key for rows in by_key.values() for key in rows}):
        title = fault if phase == "running" else f"{fault}, {phase}"
        answers = [spelt(rows.get((fault, phase))) for rows in by_key.values()]
        lines.append(f"| `{title}` | " + " | ".join(answers) + " |")
    return "\n".join(lines) + "\n"
