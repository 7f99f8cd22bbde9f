# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's result as a table and a plot in ``docs/performance.md``."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from tests.lab import settings
from tests.tools.pages import marked

DOCS = settings.REPOSITORY / "docs"
PAGE, PLOT = DOCS / "performance.md", DOCS / "images" / "performance.svg"
HEADINGS = (
    "server", "what", "seconds", "times ours", "processor s", "tasks", "requests to Kubernetes", "calls of AWS",
    "pods made", "peak MiB",
)  # fmt: skip
STATES = ("healthy", "broken")
WIDTH, LEFT, BAR, GAP, TOP = 720, 120, 22, 8, 34
COLORS = {"diagnose": "#2a78d6", "script": "#8a8f98", "playbook": "#b9bdc4"}


def table(summary: dict[str, Any]) -> str:
    """The result as Markdown."""
    machine = summary["machine"]
    lines = [
        f"Medians of {summary['rounds']} alternating rounds on {machine['processors']} cores, {summary['at'][:10]}; "
        f"the broken server has the fault `{summary['fault']}`.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---|---|" + "--:|" * (len(HEADINGS) - 2),
    ]
    for state in STATES:
        rows = summary["servers"][state]
        ours = rows["diagnose"]["median_seconds"]
        for name, row in rows.items():
            processor = sorted(row["processor_seconds"])[len(row["processor_seconds"]) // 2]
            cells = [
                state,
                summary["titles"][name],
                f"{row['median_seconds']:.1f}",
                f"{row['median_seconds'] / ours:.1f}",
                f"{processor:.1f}",
                row["tasks"],
                sum(row["kubernetes"].values()),
                sum(row["aws"].values()),
                row["pods_created"],
                f"{row['peak_memory_mib']:.0f}",
            ]
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    lines += ["", "Requests to Kubernetes by verb, and calls of AWS by service:", ""]
    lines += ["| server | what | Kubernetes | AWS |", "|---|---|---|---|"]
    for state in STATES:
        for name, row in summary["servers"][state].items():
            lines.append(f"| {state} | {name} | {spelt(row['kubernetes'])} | {spelt(row['aws'])} |")
    lines += ["", "What they answer: " + "; ".join(answer(summary, state) for state in STATES) + "."]
    further = summary["each_further_server"]
    lines += [
        "",
        f"In one run of `diagnose` for {further['servers']} servers, each further one takes {further['seconds']} s.",
    ]
    lines += ["", *spent(summary)]
    return "\n".join(lines) + "\n"


def spelt(counts: dict[str, int]) -> str:
    """Counts in words, largest first."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"


def answer(summary: dict[str, Any], state: str) -> str:
    """Our answer for one server; the others leave theirs to the reader."""
    found = summary["answers"][state]
    causes = ", ".join(f"`{cause}`" for cause in found["causes"])
    return f"`diagnose` calls the {state} server {found['status']}" + (f" because of {causes}" if causes else "")


def spent(summary: dict[str, Any]) -> list[str]:
    """Where the last diagnosis of each server spent its time."""
    lines = ["| part of `diagnose` | " + " | ".join(f"{state} (s)" for state in STATES) + " |", "|---|--:|--:|"]
    parts = summary["parts"]
    whole = {state: summary["servers"][state]["diagnose"]["seconds"][-1] for state in STATES}
    rows = (
        ("start of Ansible, imports, report", lambda state: whole[state] - parts[state]["total"]),
        ("the cluster's objects, in parallel", lambda state: parts[state].get("cluster", 0.0)),
        ("probes in pods; AWS and logs meanwhile", lambda state: parts[state].get("probes", 0.0)),
        (
            "clean-up, rules, verdict, plan",
            lambda state: parts[state]["total"] - parts[state].get("cluster", 0.0) - parts[state].get("probes", 0.0),
        ),
        ("whole command", lambda state: whole[state]),
    )
    return lines + [f"| {title} | " + " | ".join(f"{of(state):.2f}" for state in STATES) + " |" for title, of in rows]


def plot(summary: dict[str, Any]) -> str:
    """Bars of the medians as SVG, with a mark for every round."""
    rows = [(state, name, row) for state in STATES for name, row in summary["servers"][state].items()]
    longest = max(max(row["seconds"]) for _, _, row in rows)
    scale = (WIDTH - LEFT - 90) / longest
    height = TOP + len(rows) * (BAR + GAP) + (len(STATES) - 1) * 2 * GAP + GAP
    style = 'font-family="system-ui, sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {style}>',
        "<title>Seconds per diagnosis</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{GAP}" y="20" fill="#333333">seconds: median of {summary["rounds"]} rounds, and each round</text>',
    ]
    top, before = TOP, STATES[0]
    for state, name, row in rows:
        top += 2 * GAP if state != before else 0
        before = state
        middle, end = top + BAR / 2, LEFT + row["median_seconds"] * scale
        parts.append(f'<text x="{GAP}" y="{middle + 4}" fill="#333333">{escape(state)}, {escape(name)}</text>')
        parts.append(f'<rect x="{LEFT + 20}" y="{top}" width="{end - LEFT:.1f}" height="{BAR}" fill="{COLORS[name]}"/>')
        for seconds in row["seconds"]:
            x = LEFT + 20 + seconds * scale
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + 4}" y2="{top + BAR - 4}" stroke="#111111"/>')
        parts.append(
            f'<text x="{LEFT + 28 + max(row["seconds"]) * scale:.1f}" y="{middle + 4}" fill="#111111">'
            f"{row['median_seconds']:.1f}</text>"
        )
        top += BAR + GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def write(summary: dict[str, Any]) -> None:
    """Put table and plot into the documentation."""
    settings.write_text(PLOT, plot(summary))
    marked.replace(PAGE, "bench", table(summary))
