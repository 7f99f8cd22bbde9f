# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says, in its order; the text and the page only set it in lines or in boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .attempts import ABANDONED
from .catalogue import BY_ID
from .commands import COMMANDS, approve, command_apart, needed
from .findings import parse_time
from .kinds import Role
from .plain import harmless
from .resume import told, told_of_failure
from .step_changes import change_lines

HEADLINES = {
    "healthy": "is healthy",
    "degraded": "is DEGRADED",
    "down": "is DOWN",
    "at_risk": "is AT RISK: it works until the next reconnect or restart",
    "recovered": "has recovered",
    "unknown": "could NOT be judged",
}
STATES = {
    "works": "works",
    "broken": "BROKEN",
    "at_risk": "AT RISK",
    "slow": "SLOW",
    "affected": "suffers",
    "unknown": "not seen",
}
"""Words for the states of a hop (see ``observed.flow``)."""

WORDS = {True: "yes", False: "NO", None: "unknown"}
CAPABILITIES = ("reads", "writes", "artifacts", "registry")
WELL = ("healthy", "recovered")


@dataclass(frozen=True)
class Line:
    """One paragraph of a block; a command is set so that it can be copied."""

    text: str
    faint: bool = False

    @property
    def command(self) -> bool:
        return self.text.startswith(COMMANDS)


@dataclass(frozen=True)
class Block:
    """What a tired person reads first: a label and some lines."""

    label: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Entry:
    """One item of a section; ``head`` may be empty."""

    head: str
    rest: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.head}: {self.rest}" if self.head and self.rest else self.head or self.rest


@dataclass(frozen=True)
class Section:
    """The reasons: ``key`` tells the page how to show them."""

    key: str
    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Content:
    """Everything that a report says."""

    name: str
    status: str
    headline: str
    subtitle: str
    blocks: tuple[Block, ...]
    sections: tuple[Section, ...]
    footer: str

    def section(self, key: str) -> Section | None:
        return next((item for item in self.sections if item.key == key), None)


def content(report: Mapping[str, Any]) -> Content:
    """Say what a report says.

    Args:
        report: the JSON document (``core.report.build``); every text in it is made harmless first.
    """
    report = harmless(dict(report))
    verdict, server = report["verdict"], report["server"]
    about = [short_time(report["started"])]
    about += [f"cluster {server['cluster']}"] if server.get("cluster") else []
    about += [f"MLflow {server['mlflow_version']}"] if server.get("mlflow_version") else []
    sections = (Section(key, title, tuple(entries)) for key, title, entries in reasons(report))
    seconds = report["seconds"].get("total")
    return Content(
        name=f"{server['namespace']}/{server['name'] or '?'}",
        status=verdict["status"],
        headline=HEADLINES[verdict["status"]],
        subtitle=" · ".join(about),
        blocks=tuple(block for block in blocks(report) if block.lines),
        sections=tuple(section for section in sections if section.entries),
        footer=f"diagnosed at {report['started']}" + (f" in {seconds} s" if seconds is not None else ""),
    )


def blocks(report: Mapping[str, Any]) -> list[Block]:
    """Cause, impact, since, do now, do not; then what became of a repair."""
    verdict = report["verdict"]
    since = [cause["since"] for cause in verdict["causes"] if cause["since"]]
    begun = [Line(f"{short_time(min(since))} ({ago(min(since), report['started'])})")] if since else []
    named = bool(verdict["causes"])
    cause = tuple(
        Line(text, faint=index % 2 == 1 if named else index > 0) for index, text in enumerate(cause_lines(report))
    )
    outcome = [report["outcome"], *action_lines(report)] if report["outcome"] else []
    outcome += left_lines(report)
    return [
        Block("Cause" if len(verdict["causes"]) < 2 else "Causes", cause),
        Block("Impact", tuple(Line(text) for text in impact_lines(verdict["impact"]))),
        Block("Since", tuple(begun)),
        Block("Do now", tuple(Line(text) for text in do_now(report))),
        Block("Do not", tuple(Line(text) for text in verdict["do_not"])),
        Block("Outcome", tuple(Line(text) for text in outcome)),
    ]


def reasons(report: Mapping[str, Any]) -> list[tuple[str, str, Iterable[Entry]]]:
    """The sections after the first screen: what most readers want next comes first."""
    verdict, steps = report["verdict"], report["plan"]["steps"]
    changes = planned_lines(steps)
    digest = [Entry("plan digest", report["plan"]["digest"])] if changes else []
    return [
        ("outcome", "Before and after", before_and_after(report)),
        ("change", "Change that would be made", [*plain(changes), *digest]),
        ("proposal", "Ready for its owner", proposals(steps)),
        ("attempts", "Tried before", [attempt_entry(row) for row in report.get("attempts") or []]),
        ("flow", "The way of a request", [hop_entry(hop) for hop in report.get("flow") or []]),
        ("timeline", "What happened", [moment_entry(row, report) for row in moments(report)]),
        ("latency", "How long each layer takes", [layer_entry(row) for row in report.get("latency") or []]),
        ("explained", "Explained by it", explained(report)),
        ("notes", "Worth knowing", plain(notes(report))),
        ("unknown", "Could not be seen", unknown_entries(verdict)),
        ("ruled_out", "Ruled out", ruled_out_entries(verdict)),
        ("proof", "Proven by", proof_entries(report)),
        ("discovered", "Discovered", discovered(report["server"])),
    ]


def plain(lines: Iterable[str]) -> list[Entry]:
    return [Entry("", line) for line in lines]


def short_time(moment: str) -> str:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(since: str, now: str) -> str:
    seconds = int((parse_time(now) - parse_time(since)).total_seconds())
    if seconds < 120:
        return f"{max(seconds, 0)} s ago"
    return f"{seconds // 60} min ago" if seconds < 7200 else f"{seconds // 3600} h ago"


def cause_lines(report: Mapping[str, Any]) -> list[str]:
    """Say what the cause is: for each cause its sentence, then its id, its object and who owns it."""
    verdict = report["verdict"]
    if verdict["causes"]:
        return [
            line
            for cause in verdict["causes"]
            for line in (cause["summary"], f"({cause['id']} · {cause['object']} · owner: {cause['owner']})")
        ]
    if verdict["status"] == "healthy":
        return ["none; the server answers API calls that use its database"]
    over = verdict.get("recovered")
    if over:
        begin, end = short_time(over["from"]), short_time(over["to"])
        first, *more = over["what"].split("; ")
        return [f"none now; from {begin} to {end.partition(' ')[2]} {first}", *more]
    starting = [item["summary"] for item in report["findings"] if item["id"] == "pods.starting"]
    if starting:
        return [f"none so far: {starting[0]}; look again then"]
    first = verdict["unknown"][0] if verdict["unknown"] else {"what": "nothing was seen", "why": "no evidence"}
    return [f"not known: {first['what']} ({first['why']})"]


def impact_lines(impact: Mapping[str, Any]) -> list[str]:
    capabilities = " · ".join(f"{name} {WORDS[impact[name]]}" for name in CAPABILITIES)
    lost = [f"not served: workloads in namespace {', '.join(impact['sources'])}"] if impact["sources"] else []
    return [capabilities, *lost]


def do_now(report: Mapping[str, Any]) -> list[str]:
    """What to do: the causes' own advice and the collection's step, or what would let the cause be seen."""
    verdict = report["verdict"]
    lines = [line for cause in verdict["causes"] for text in cause["next"] for line in command_apart(text)]
    for step in report["plan"]["steps"]:
        lines += approve(report, step)
    if not verdict["causes"] and verdict["status"] not in WELL:
        lines += needed(verdict["unknown"])
    return lines


def action_lines(report: Mapping[str, Any]) -> list[str]:
    """Say what was done, and whether what made things worse was taken back."""
    lines = [f"{item['step']}: {'; '.join(item['diff'])}" for item in report["actions"]]
    if "undone" in report:
        helped = "what it had taken away is there again" if report["undone"] else "that did not help"
        lines.append(f"taken back: {helped}")
    return lines


def left_lines(report: Mapping[str, Any]) -> list[str]:
    """Say what a run that ended too early has left, and what became of a write that failed."""
    failure = report.get("interrupted")
    lines = [told_of_failure(failure)] if failure else []
    return [*lines, *(told(item) for item in report.get("resumed") or [])]


def attempt_entry(row: Mapping[str, str]) -> Entry:
    became = "never written" if row["outcome"] == ABANDONED else row["outcome"] or row["state"]
    return Entry(f"{short_time(row['at'])} {row['step']}", f"{row['object']}, {became}", row)


def before_and_after(report: Mapping[str, Any]) -> list[Entry]:
    """Set what was against what is, when something was repaired."""
    before, verdict = report.get("before"), report["verdict"]
    if not before:
        return []
    earlier = before["verdict"]

    def slowest(rows: Sequence[Mapping[str, Any]]) -> str:
        said = [row["said"] for row in rows if row["layer"] == "database call"]
        return said[0] if said else "not measured"

    def named(causes: Sequence[Mapping[str, Any]]) -> str:
        return ", ".join(f"{cause['id']} ({cause['object']})" for cause in causes) or "none"

    rows = [
        ("time", time_of_day(before["started"], report), time_of_day(report["started"], report)),
        ("status", earlier["status"], verdict["status"]),
        *((name, WORDS[earlier["impact"][name]], WORDS[verdict["impact"][name]]) for name in CAPABILITIES),
        ("cause", named(earlier["causes"]), named(verdict["causes"])),
        ("database call", slowest(before.get("latency") or []), slowest(report.get("latency") or [])),
    ]
    return [Entry(name, f"{old} → {new}", {"before": old, "after": new}) for name, old, new in rows]


def planned_lines(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each change that a step would make."""
    return [f"{step['step']}: {line}" for step in steps for line in change_lines(step["change"])]


def proposals(steps: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Hand each patch that only its owner may make over, whole."""
    return [
        Entry(f"{step['step']} ({step['object']})", step["proposal"], step) for step in steps if step.get("proposal")
    ]


def hop_entry(hop: Mapping[str, str]) -> Entry:
    head = hop["from"] if hop["from"] == hop["to"] else f"{hop['from']} → {hop['to']}"
    said = f", {hop['said']}" if hop["said"] else ""
    return Entry(head, f"{STATES[hop['state']]}{said}", hop)


def moments(report: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """Return the time line, with both diagnoses when something was repaired between them."""
    rows = list(report.get("timeline") or [])
    earlier = report.get("before")
    if earlier:
        names = ", ".join(cause["id"] for cause in earlier["verdict"]["causes"])
        said = f"diagnosed: {earlier['verdict']['status']}" + (f", {names}" if names else "")
        rows.append({"at": earlier["started"], "kind": "failure", "what": said})
        what = f"diagnosed after the repair: {report['verdict']['status']}"
        kind = "recovery" if report["verdict"]["status"] in WELL else "failure"
        rows.append({"at": report["started"], "kind": kind, "what": what})
    return sorted(rows, key=lambda row: parse_time(row["at"]))


def moment_entry(row: Mapping[str, str], report: Mapping[str, Any]) -> Entry:
    return Entry(f"{time_of_day(row['at'], report)} {row['kind']}", row["what"], row)


def time_of_day(moment: str, report: Mapping[str, Any]) -> str:
    """Give the time of day, and the date where it is not the report's."""
    day, dummy, clock = short_time(moment).removesuffix(" UTC").partition(" ")
    return clock if report["started"].startswith(day) else f"{day} {clock}"


def layer_entry(row: Mapping[str, Any]) -> Entry:
    slow = f", slow from {row['limit']:g} s" if row["slow"] else ""
    return Entry(row["layer"], row["said"] if row["failed"] else f"{row['seconds']:.2f} s{slow}", row)


def explained(report: Mapping[str, Any]) -> list[Entry]:
    return [Entry(item["id"], item["summary"]) for item in report["findings"] if item["explained_by"]]


def notes(report: Mapping[str, Any]) -> list[str]:
    known = [item for item in report["findings"] if item["id"] in BY_ID and BY_ID[item["id"]].role is Role.NOTE]
    return [*report["server"].get("remarks", []), *(item["summary"] for item in known if not item["explained_by"])]


def ruled_out_entries(verdict: Mapping[str, Any]) -> list[Entry]:
    """Name what the same evidence rules out in one line."""
    grouped: dict[str, list[str]] = {}
    for item in verdict["ruled_out"]:
        grouped.setdefault(", ".join(item["by"]), []).append(item["what"])
    return [Entry(", ".join(whats), f"by {by}") for by, whats in grouped.items()]


def unknown_entries(verdict: Mapping[str, Any]) -> list[Entry]:
    """Name what the same obstacle hides in one line."""
    grouped: dict[str, list[str]] = {}
    for item in verdict["unknown"]:
        grouped.setdefault(f"{item['why']}; needs {item['needs']}", []).append(item["what"])
    return [Entry(", ".join(whats), obstacle) for obstacle, whats in grouped.items()]


def proof_entries(report: Mapping[str, Any]) -> list[Entry]:
    """Name the evidence of the causes and what each piece shows."""
    known = {row["key"]: row for row in report.get("proof") or []}
    cited = [key for cause in report["verdict"]["causes"] for key in cause["evidence"]]
    over = report["verdict"].get("recovered") or {"evidence": []}
    return [
        Entry(key, known[key]["said"] if key in known else "", known.get(key, {}))
        for key in dict.fromkeys([*cited, *over["evidence"]])
    ]


def discovered(server: Mapping[str, Any]) -> list[Entry]:
    """Say for each discovered value where it was found, in one line for each place."""
    backend = server.get("backend") or {}
    shown = {**server, "backend": backend.get("host") or backend.get("scheme") or ""}
    grouped: dict[str, list[str]] = {}
    for name, where in sorted((server.get("found") or {}).items()):
        if shown.get(name):
            grouped.setdefault(where, []).append(f"{name.replace('_', ' ')} {shown[name]}")
    return [Entry(where, ", ".join(values)) for where, values in grouped.items()]
