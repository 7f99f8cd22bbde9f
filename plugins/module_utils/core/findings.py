# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sections conclude from evidence, and what they hand to the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .discovery import Target
from .evidence import Evidence, EvidenceSet

SERVER = "server"
TO_DATABASE = "server>database"
TO_OBJECT_STORAGE = "server>object_storage"
TO_IDENTITY = "server>identity"
TO_DNS = "server>dns"
FROM_INGRESS = "ingress>server"
TO_SERVER = ">server"
"""Flows along which one finding can explain another; a source's flow is ``source:<namespace>>server``."""


def source_flow(namespace: str) -> str:
    return f"source:{namespace}{TO_SERVER}"


@dataclass(frozen=True)
class Finding:
    """One conclusion of a section.

    Attributes:
        id: ``<section>.<slug>``, a key of the catalogue.
        object: what it is about, such as ``secret/mlflow-db-credentials`` or ``sg-0123``.
        summary: one sentence for a tired person.
        evidence: keys of the evidence that proves it.
        flow: the flow on which it acts.
        since: earliest moment that the evidence shows, ISO 8601, or ``None``.
        configured: whether a configuration fact proves it.
        measured: whether a behaviour measurement proves it.
        facts: plain data that the plan or the report needs.
    """

    id: str
    object: str
    summary: str
    evidence: tuple[str, ...]
    flow: str = SERVER
    since: str | None = None
    configured: bool = False
    measured: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def section(self) -> str:
        return self.id.partition(".")[0]


@dataclass(frozen=True)
class RuledOut:
    """A kind of cause that cannot be, and the evidence that says so."""

    what: str
    by: tuple[str, ...]


@dataclass(frozen=True)
class Unknown:
    """What could not be seen, why, and which right or route would show it."""

    what: str
    why: str
    needs: str


@dataclass
class SectionResult:
    """Everything that one section has to say."""

    findings: list[Finding] = field(default_factory=list)
    ruled_out: list[RuledOut] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)

    def rule_out(self, what: str, *by: Evidence) -> None:
        self.ruled_out.append(RuledOut(what, tuple(item.key for item in by)))


@dataclass(frozen=True)
class Context:
    """What an analyzer may look at."""

    target: Target
    evidence: EvidenceSet
    now: datetime


def keys(items: Iterable[Evidence | None]) -> tuple[str, ...]:
    """Return the keys of the evidence that is there, without repetition."""
    return tuple(dict.fromkeys(item.key for item in items if item is not None))


def earliest(*moments: str | None) -> str | None:
    """Return the earliest of some ISO 8601 moments in UTC."""
    known = [moment for moment in moments if moment]
    return min(known) if known else None


def parse_time(moment: str) -> datetime:
    """Read an ISO 8601 moment.

    Raises:
        ValueError: the text is not one.
    """
    return datetime.fromisoformat(moment.replace("Z", "+00:00"))
