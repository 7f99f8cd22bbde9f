# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into a bundle: every part, how large it may be, and what is left out when it is larger."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..core.changes import Change
from ..core.evidence import EvidenceSet, State
from . import tables
from .archive import BundleError

KIB, MIB = 1024, 1024 * 1024
TEXT_BYTES = 256 * KIB
LOG_BYTES = 512 * KIB
OBJECTS_BYTES = MIB
EVIDENCE_BYTES = 16 * MIB
ALL_BYTES = 24 * MIB
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
HEAD, TAIL = 60, 30
CLOUD_LOG = "aws.log"
POD_LOG = "kubernetes.pod_log"


@dataclass(frozen=True)
class Part:
    """One file of a bundle.

    Attributes:
        name: path in the bundle.
        text: its content.
        most: bytes that it may have; what is more is cut.
        needed: a bundle without it could not be judged again, so that it is never cut.
        newest_last: keep the end and not the beginning.
    """

    name: str
    text: str
    most: int = TEXT_BYTES
    needed: bool = False
    newest_last: bool = False


@dataclass(frozen=True)
class LeftOut:
    """What a bundle does not hold, and why."""

    part: str
    what: str
    why: str


def file_name(*names: str) -> str:
    """Make one safe file name of some names of objects."""
    whole = UNSAFE.sub("-", ".".join(name for name in names if name)).strip("-._") or "part"
    return whole if len(whole) <= HEAD + TAIL else f"{whole[:HEAD]}-{whole[-TAIL:]}"


def pretty(document: Any) -> str:
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def build_parts(
    report: Mapping[str, Any], evidence: EvidenceSet, documents: Mapping[str, str], changes: Iterable[Change]
) -> Iterator[Part]:
    """Yield the parts, the most important ones first.

    Args:
        report: the report of the diagnosis.
        evidence: all of its evidence, already small enough.
        documents: further texts by file name, such as the report as text and HTML.
        changes: what changed in the last day.
    """
    yield Part("report.json", pretty(report), needed=True, most=EVIDENCE_BYTES)
    yield Part("evidence.json", evidence.to_json(), needed=True, most=EVIDENCE_BYTES)
    for name, text in documents.items():
        yield Part(name, text, needed=name == "context.json", most=MIB)
    yield Part("connections.txt", tables.probes(evidence, tables.LAYERS))
    yield Part("storage.txt", tables.probes(evidence, tables.STORAGE))
    yield Part("changes.txt", tables.changed(changes))
    yield Part("database.txt", tables.database(evidence))
    yield Part("not-seen.txt", tables.unseen(evidence))
    yield Part("events.txt", tables.events(evidence), newest_last=True)
    yield from log_parts(evidence)
    yield from object_parts(evidence)


def log_parts(evidence: EvidenceSet) -> Iterator[Part]:
    """Yield each log as plain text, those of the server's pods first."""
    for what, folder in ((POD_LOG, "logs"), (CLOUD_LOG, "cloudwatch")):
        for item in evidence.all(what):
            if item.seen:
                text = "".join(f"{line['at']} {line['text']}\n" for line in item.value["lines"])
                name = f"{folder}/{file_name(*item.subject.split('/'))}.log"
                yield Part(name, text or "(empty)\n", most=LOG_BYTES, newest_last=True)


def object_parts(evidence: EvidenceSet) -> Iterator[Part]:
    """Yield what the two APIs described, one file for each kind and namespace."""
    for item in evidence:
        source, dummy, kind = item.what.partition(".")
        if item.seen and source in ("kubernetes", "aws") and item.what not in (POD_LOG, CLOUD_LOG):
            name = f"{source}/{file_name(kind, *item.subject.split('/'))}.json"
            yield Part(name, pretty(item.value), most=OBJECTS_BYTES)


def missing_logs(evidence: EvidenceSet) -> list[LeftOut]:
    """Name the logs that could not be read, or not as a whole."""
    found = []
    for item in (*evidence.all(POD_LOG), *evidence.all(CLOUD_LOG)):
        where = f"log {item.subject}" if item.subject else "CloudWatch Logs"
        if not item.seen:
            found.append(LeftOut(where, "all of it", f"{item.state.value}: {item.detail}"))
        elif item.state is State.PARTIAL:
            found.append(
                LeftOut(where, "older lines", item.detail or f"only the last {len(item.value['lines'])} are read")
            )
    return found


def smaller(
    evidence: EvidenceSet, cited: Iterable[str], most: int = EVIDENCE_BYTES
) -> tuple[EvidenceSet, list[LeftOut]]:
    """Leave the largest pieces of evidence out that no cause cites, until the rest is small enough.

    Raises:
        BundleError: what the causes cite is too large by itself.
    """
    sizes = [len(EvidenceSet([item]).to_json()) for item in evidence]
    keys, items, left_out = set(cited), list(evidence), []
    total = sum(sizes)
    for index in sorted(range(len(items)), key=lambda index: -sizes[index]):
        if total <= most:
            break
        item = items[index]
        if item.key in keys:
            continue
        reason = f"left out of the bundle: {sizes[index] // KIB} KiB"
        items[index] = replace(item, state=State.SKIPPED, value=None, detail=reason)
        total += len(EvidenceSet([items[index]]).to_json()) - sizes[index]
        left_out.append(LeftOut("evidence.json", item.key, f"{sizes[index] // KIB} KiB, the evidence is too large"))
    if total > most:
        raise BundleError(f"the evidence of the causes alone is larger than {most // MIB} MiB")
    return EvidenceSet(items), left_out


def fit(parts: Iterable[Part], most: int = ALL_BYTES) -> tuple[dict[str, bytes], list[LeftOut]]:
    """Cut parts to their own limits and drop what no longer fits in all.

    Raises:
        BundleError: a needed part is too large.
    """
    kept: dict[str, bytes] = {}
    left_out: list[LeftOut] = []
    left = most
    for part in parts:
        content, cut = cut_to_size(part)
        if part.needed and (cut or len(content) > left):
            raise BundleError(f"{part.name} is larger than a bundle may be")
        if len(content) > left:
            left_out.append(LeftOut(part.name, "all of it", "the bundle is full"))
            continue
        name = unused(part.name, kept)
        kept[name] = content
        left -= len(content)
        if cut:
            end = "older lines" if part.newest_last else "the rest"
            left_out.append(LeftOut(name, f"{end} ({cut // KIB} KiB)", f"larger than {part.most // KIB} KiB"))
    return kept, left_out


def unused(name: str, taken: Mapping[str, bytes]) -> str:
    """Return a name that no other part has; two names of objects may become the same file name."""
    stem, dot, suffix = name.rpartition(".")
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{stem}-{number}{dot}{suffix}"
    return free


def cut_to_size(part: Part) -> tuple[bytes, int]:
    """Return a part's bytes within its limit, cut between lines, and how many bytes were cut."""
    content = part.text.encode("utf-8", "replace")
    if len(content) <= part.most:
        return content, 0
    if part.newest_last:
        kept = content[-part.most :]
        kept = kept[kept.find(b"\n") + 1 :]
    else:
        kept = content[: part.most]
        kept = kept[: kept.rfind(b"\n") + 1] or kept
    kept = kept.decode("utf-8", "ignore").encode()
    return kept, len(content) - len(kept)
