# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit says about one thing that prevents incidents, and the helpers that every area shares."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..core.evidence import Evidence, State
from ..core.findings import Context
from .catalogue import BY_ID

ENTRY = "a measurement from inside one of the server's pods"


class Grade(StrEnum):
    """State of one item; what could not be looked at is unknown and never ok."""

    OK = "ok"
    WEAK = "weak"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Patch:
    """One way to put an item right: commands for a shell (``kubectl``, ``aws``) or lines of ``terraform``."""

    tool: str
    text: str


@dataclass(frozen=True)
class Item:
    """The judgement of one item.

    Attributes:
        id: ``<area>.<slug>``, a key of the catalogue, which knows title, risk and source.
        grade: its state.
        summary: what was seen, or why nothing was.
        needs: the right or the variable that would reveal an unknown state.
        patches: how to put it right; empty when it is right.
        evidence: keys of the evidence that says so.
    """

    id: str
    grade: Grade
    summary: str
    needs: str = ""
    patches: tuple[Patch, ...] = ()
    evidence: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        kind = BY_ID[self.id]
        return {
            "id": self.id,
            "area": self.id.partition(".")[0],
            "title": kind.title,
            "state": self.grade.value,
            "summary": self.summary,
            "risk": kind.risk,
            "source": kind.source,
            "needs": self.needs,
            "patches": [{"tool": patch.tool, "text": patch.text} for patch in self.patches],
            "evidence": list(self.evidence),
        }


def ok(id_: str, summary: str, *seen: Evidence | None) -> Item:
    return Item(id_, Grade.OK, summary, evidence=keys(seen))


def weak(id_: str, summary: str, patches: Iterable[Patch], *seen: Evidence | None) -> Item:
    return Item(id_, Grade.WEAK, summary, patches=tuple(patches), evidence=keys(seen))


def missing(id_: str, summary: str, patches: Iterable[Patch], *seen: Evidence | None) -> Item:
    return Item(id_, Grade.MISSING, summary, patches=tuple(patches), evidence=keys(seen))


def unknown(id_: str, why: str, needs: str, *seen: Evidence | None) -> Item:
    return Item(id_, Grade.UNKNOWN, why, needs=needs, evidence=keys(seen))


def keys(seen: Iterable[Evidence | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.key for item in seen if item is not None))


def unseen(id_: str, look: Evidence | None, needs: str) -> Item:
    """Say that something could not be looked at.

    Args:
        id_: the item.
        look: the evidence that is no answer; ``None`` when nobody looked.
        needs: the right that would have shown it, when the evidence names no other.
    """
    if look is None:
        return unknown(id_, "nobody looked at it", needs)
    if look.state is State.FORBIDDEN:
        return unknown(id_, f"not allowed to look: {look.detail}", look.detail or needs, look)
    if look.state is State.SKIPPED:
        return unknown(id_, f"not measured: {look.detail}", ENTRY, look)
    return unknown(id_, f"could not look ({look.state.value}): {look.detail or 'no answer'}", needs, look)


def lines(text: str) -> str:
    """Return a block of text without its indentation and its outer line breaks."""
    return textwrap.dedent(text).strip("\n")


def kubectl(manifest: str) -> Patch:
    """Apply whole objects."""
    return Patch("kubectl", f"kubectl apply -f - <<'EOF'\n{lines(manifest)}\nEOF")


def workload_patch(context: Context, body: str) -> Patch:
    """Change the server's workload by a strategic merge, so that everything else in it stays.

    Args:
        context: the server.
        body: YAML of the patch.
    """
    target = context.target
    command = f"kubectl -n {target.namespace} patch {target.kind.lower()} {target.deployment} --type=strategic"
    return Patch("kubectl", f"{command} --patch-file=/dev/stdin <<'EOF'\n{lines(body)}\nEOF")


def container_patch(context: Context, body: str) -> Patch:
    """Change MLflow's container in the server's workload.

    Args:
        context: the server.
        body: YAML of what changes in the container.
    """
    head = f"spec:\n  template:\n    spec:\n      containers:\n        - name: {context.target.container}\n"
    return workload_patch(context, head + textwrap.indent(lines(body), " " * 10))
