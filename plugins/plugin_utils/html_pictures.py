# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the boxes, lines and words of a page's pictures stand; the templates only draw them.

Lengths are units of the picture, which is as wide as a phone: one unit is about one CSS pixel there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.content import STATES, Entry

WIDTH = 360
ROW, GAP, BOX = 52, 10, 42
LABELS = {
    "source": "clients in namespace",
    "ingress": "ingress",
    "service": "Service",
    "server": "tracking server",
    "dns": "name service",
    "database": "database",
    "object_storage": "object storage",
    "identity": "AWS identity",
}
BADGE = 84
TRUNK = 22
CHARACTER = 0.62
"""Width of an average character in ems; common sans-serif fonts are narrower."""

NAME_SIZE, NOTE_SIZE = 13, 11
LEAST_SCALE_SECONDS = 2.0
"""A plot of milliseconds would make noise look like trouble; from here on an API call counts as slow."""


@dataclass(frozen=True)
class Box:
    """A part of the way: its kind, its name, and what was measured at it."""

    x: float
    y: float
    width: float
    label: str
    name: str
    full: str
    state: str
    note: str = ""
    height: float = BOX


@dataclass(frozen=True)
class Line:
    """A line of the way; ``end`` draws the arrow's head."""

    x1: float
    y1: float
    x2: float
    y2: float
    state: str
    end: bool = True


@dataclass(frozen=True)
class Badge:
    """The word and the sign on a line; ``x`` and ``y`` are its centre."""

    x: float
    y: float
    state: str
    word: str
    width: float = BADGE
    note: str = ""


@dataclass
class Picture:
    """All parts of a picture and its height."""

    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    badges: list[Badge] = field(default_factory=list)
    height: float = 0


def fitted(text: str, width: float, size: float) -> str:
    """Shorten a text in its middle so that it fits; both ends of a host or a bucket tell something."""
    most = max(int(width / (size * CHARACTER)), 4)
    if len(text) <= most:
        return text
    front = most // 2
    return f"{text[:front]}…{text[len(text) - (most - front - 1) :]}"


def box(hop: Mapping[str, str], name: str, x: float, y: float, width: float) -> Box:
    return Box(
        x,
        y,
        width,
        fitted(LABELS[hop["kind"]], width - 12, NOTE_SIZE),
        fitted(name, width - 16, NAME_SIZE),
        name,
        hop["state"],
    )


def flow_picture(hops: Sequence[Mapping[str, str]]) -> Picture:
    """Set clients above the Service, the Service above the server, and what the server needs below it."""
    picture = Picture()
    outside = [hop for hop in hops if hop["kind"] in ("source", "ingress")]
    y = rows_above(picture, outside)
    service = next((hop for hop in hops if hop["kind"] == "service"), None)
    server = next((hop for hop in hops if hop["kind"] == "server"), None)
    if service is not None:
        picture.boxes.append(box({**service, "state": "plain"}, service["from"], 0, y, WIDTH))
        picture.lines.append(Line(WIDTH / 2, y + BOX, WIDTH / 2, y + BOX + ROW, service["state"]))
        middle = y + BOX + ROW / 2 - 2
        note = fitted(service["said"], WIDTH / 2 - BADGE / 2 - 12, NOTE_SIZE)
        picture.badges.append(Badge(WIDTH / 2, middle, service["state"], STATES[service["state"]], note=note))
        y += BOX + ROW
    if server is not None:
        note = fitted(server["said"], WIDTH - BADGE - 24, NOTE_SIZE)
        whole = box(server, server["from"], 0, y, WIDTH)
        picture.boxes.append(Box(**{**whole.__dict__, "note": note, "height": BOX + 16}))
        picture.badges.append(Badge(WIDTH - BADGE / 2 - 8, y + 16, server["state"], STATES[server["state"]]))
        y += BOX + 16
    picture.height = rows_below(picture, [hop for hop in hops if hop["kind"] in BELOW], y) + 2
    return picture


BELOW = ("dns", "database", "object_storage", "identity")


def rows_above(picture: Picture, hops: Iterable[Mapping[str, str]]) -> float:
    """Set a box for each client, its line to the trunk on the right, and the trunk down to the Service."""
    y, right, width = 2.0, WIDTH - TRUNK, WIDTH - TRUNK - BADGE - 34
    rows = list(hops)
    for hop in rows:
        picture.boxes.append(noted(box({**hop, "state": "plain"}, hop["from"], 0, y, width), hop["said"]))
        middle = y + (BOX + 16) / 2
        picture.lines.append(Line(width, middle, right, middle, hop["state"], end=False))
        picture.badges.append(Badge((width + right) / 2, middle, hop["state"], STATES[hop["state"]]))
        y += BOX + 16 + GAP
    if rows:
        picture.lines.append(Line(right, 2 + (BOX + 16) / 2, right, y + 8, "plain"))
        y += 8
    return y


def rows_below(picture: Picture, hops: Iterable[Mapping[str, str]], y: float) -> float:
    """Set a box for each dependency, the trunk from the server on the left, and a line to each."""
    left = TRUNK + BADGE + 34
    rows, top = list(hops), y
    for hop in rows:
        y += GAP
        picture.boxes.append(noted(box({**hop, "state": "plain"}, hop["to"], left, y, WIDTH - left), hop["said"]))
        middle = y + (BOX + 16) / 2
        picture.lines.append(Line(TRUNK, middle, left, middle, hop["state"]))
        picture.badges.append(Badge((TRUNK + left) / 2 - 3, middle, hop["state"], STATES[hop["state"]]))
        y += BOX + 16
    if rows:
        picture.lines.append(Line(TRUNK, top, TRUNK, y - (BOX + 16) / 2, "plain", end=False))
    return y


def noted(plain: Box, said: str) -> Box:
    """Give a box a third line for what was measured."""
    note = fitted(said, plain.width - 16, NOTE_SIZE)
    return Box(**{**plain.__dict__, "note": note, "height": BOX + 16})


@dataclass(frozen=True)
class Bar:
    """One layer of the plot: its length and where slowness begins, as shares of the whole width."""

    name: str
    value: str
    width: float
    limit: float | None
    state: str


def latency_picture(entries: Sequence[Entry]) -> list[Bar]:
    """Set one bar for each layer on a common scale."""
    rows: list[Mapping[str, Any]] = [entry.data for entry in entries]
    longest = max([LEAST_SCALE_SECONDS, *(float(row["seconds"]) for row in rows)])
    bars = []
    for entry, row in zip(entries, rows, strict=True):
        state = "broken" if row["failed"] else "slow" if row["slow"] else "works"
        limit = row["limit"] / longest * WIDTH if row["limit"] < longest else None
        width = max(float(row["seconds"]) / longest * WIDTH, 2.0)
        bars.append(Bar(entry.head, entry.rest, round(width, 1), limit and round(limit, 1), state))
    return bars
