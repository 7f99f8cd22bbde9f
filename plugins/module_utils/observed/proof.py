# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one observation says, in words: for the picture of the flow, for the proof, and as an excerpt to look up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..core.evidence import Evidence, EvidenceSet, State
from ..core.signatures import SIGNATURES

RESULTS = {
    "timeout": "no answer within {seconds:.1f} s",
    "refused": "connection refused",
    "not_found": "the name does not resolve",
    "try_again": "name resolution does not answer",
}
LONGEST = 160
MOST_NAMES = 4
MOST_LINES = 40
MOST_ROWS = 12
LOG_LINE = 300
MOST_PROOFS = 16
TELLING = ("DBInstanceStatus", "Arn", "arn", "version")
"""Fields that say most of a thing that is not a list."""

FIRST = ("metadata", "name", "status", "spec")
"""What an excerpt of an object begins with."""

NOISE = frozenset(
    {
        "uid",
        "resourceVersion",
        "ownerReferences",
        "generateName",
        "generation",
        "creationTimestamp",
        "probe_pod",
        "annotations",
        "tolerations",
        "volumeMounts",
        "volumes",
        "lastChanged",
        "labels",
        "observedGeneration",
        "imageID",
        "containerID",
        "hostIP",
        "hostIPs",
        "podIPs",
    }
)
"""What an excerpt leaves out: the evidence file has it."""


def one_line(text: str, longest: int = LONGEST) -> str:
    """Set text in one line, cut at its end."""
    words = " ".join(text.split())
    return words if len(words) <= longest else words[:longest].rstrip() + " …"


def probed(value: Mapping[str, Any]) -> str:
    """Say what a probe met: how fast it was answered, or how it failed."""
    result = str(value.get("result", ""))
    seconds = float(value.get("seconds") or 0.0)
    if result == "ok":
        status = value.get("status")
        return f"status {status} in {seconds:.2f} s" if status else f"answers in {seconds:.2f} s"
    if result in RESULTS:
        return RESULTS[result].format(seconds=seconds)
    if value.get("code") and value.get("operation"):
        return f"{value['code']} on {value['operation']}"
    return one_line(str(value.get("error") or result))


def statement(item: Evidence) -> str:
    """Say in one line what a piece of evidence shows."""
    if not item.seen:
        reasons = {State.ABSENT: "does not exist", State.FORBIDDEN: f"not permitted: {item.detail}"}
        return one_line(reasons.get(item.state, f"not seen: {item.detail}"))
    cut = " (incomplete)" if item.state is State.PARTIAL else ""
    value = item.value
    if item.what.startswith("probe.") and isinstance(value, dict):
        return probed(value) + cut
    if isinstance(value, dict) and isinstance(value.get("lines"), list):
        return f"{len(value['lines'])} lines of log{cut}"
    if isinstance(value, dict) and isinstance(value.get("items"), list):
        return listed(value["items"]) + cut
    said = next((value[key] for key in TELLING if value.get(key)), "") if isinstance(value, dict) else ""
    return one_line(f"{said or 'read'}{cut}")


def listed(items: list[Any]) -> str:
    if not items:
        return "none"
    if isinstance(items[-1], dict) and "Date" in items[-1]:
        return f"{len(items)} events, the last one: {label(items[-1])}"
    names = [name for name in (label(row) for row in items) if name]
    more = len(items) - len(names[:MOST_NAMES])
    shown = ", ".join(dict.fromkeys(names[:MOST_NAMES]))
    if not shown:
        return f"{len(items)} entries"
    return f"{shown} and {more} more" if more > 0 else shown


def label(row: Any) -> str:
    """Name an API object or an AWS resource."""
    if not isinstance(row, dict):
        return ""
    named = (row.get("metadata") or {}).get("name") or next(
        (row[key] for key in ("GroupName", "NetworkAclId", "SubnetId", "Message", "Name") if row.get(key)), ""
    )
    return str(named)


def without_noise(data: Any) -> Any:
    if isinstance(data, dict):
        cleaned = {key: without_noise(value) for key, value in data.items() if key not in NOISE}
        return {key: value for key, value in cleaned.items() if value not in (None, "", [], {})}
    if isinstance(data, list):
        return [without_noise(value) for value in data]
    return data


def excerpt(item: Evidence, names: Iterable[str]) -> str:
    """Return the part of a piece of evidence that a doubter wants to see.

    Args:
        item: the evidence.
        names: objects that the finding is about; of a list only they are shown, when they are in it.
    """
    if not item.seen:
        return ""
    value = item.value
    if isinstance(value, dict) and isinstance(value.get("items"), list):
        wanted = {name.rpartition("/")[2] for name in names}
        about = [row for row in value["items"] if isinstance(row, dict) and wanted & identities(row)]
        value = {**value, "items": about or value["items"][-MOST_ROWS:]}
    if isinstance(value, dict) and isinstance(value.get("lines"), list):
        rows = logged(value["lines"])
    else:
        rows = [row[:LONGEST] for row in outline(without_noise(value))]
    kept = rows[:MOST_LINES]
    return "\n".join([*kept, f"… {len(rows) - len(kept)} more lines"] if len(kept) < len(rows) else kept)


def outline(data: Any, indent: str = "") -> Iterator[str]:
    """Write JSON data as indented lines, an object's name and status before the rest."""
    if isinstance(data, dict):
        rank = {key: index for index, key in enumerate(FIRST)}
        for key in sorted(data, key=lambda key: (rank.get(key, len(FIRST)), key)):
            yield from entry(f"{indent}{key}:", data[key], indent)
    elif isinstance(data, list):
        for value in data:
            lines = list(outline(value, f"{indent}  "))
            yield f"{indent}- {lines[0].lstrip()}" if lines else f"{indent}-"
            yield from lines[1:]
    else:
        yield f"{indent}{data}"


def entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, (dict, list)):
        yield head
        yield from outline(value, indent + "  ")
    else:
        yield f"{head} {value}"


def logged(lines: list[Any]) -> list[str]:
    """Return the last lines that an error signature knows, or the last lines when it knows none."""
    rows = [row for row in lines if isinstance(row, dict)]
    telling = [row for row in rows if any(item.pattern.search(str(row.get("text", ""))) for item in SIGNATURES)]
    return [one_line(f"{row.get('at', '')} {row.get('text', '')}", LOG_LINE) for row in (telling or rows)[-MOST_ROWS:]]


def identities(row: Mapping[str, Any]) -> set[str]:
    values = {value for key, value in row.items() if key.endswith("Id") and isinstance(value, str)}
    return values | {label(row)}


def proofs(evidence: EvidenceSet, wanted: Mapping[str, Iterable[str]]) -> list[dict[str, str]]:
    """Describe the evidence that a verdict stands on.

    Args:
        evidence: all of it.
        wanted: keys of evidence, each with the objects that it is cited for.
    """
    known: dict[str, Evidence] = {}
    for item in evidence:
        known.setdefault(item.key, item)
    return [
        {
            "key": key,
            "at": known[key].at,
            "said": statement(known[key]),
            "excerpt": excerpt(known[key], names),
        }
        for key, names in list(wanted.items())[:MOST_PROOFS]
        if key in known
    ]
