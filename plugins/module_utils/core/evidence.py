# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts that a diagnosis rests on. A piece of evidence never holds an opinion."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

API = "api"
CLOUD = "aws"
CONTROLLER = "controller"
POD = "pod"
DEBUG_COPY = "debug_copy"
SOURCE_PREFIX = "source:"


def source_place(namespace: str) -> str:
    """Name the place that stands for a pod in a source namespace."""
    return SOURCE_PREFIX + namespace


class State(StrEnum):
    """What became of our observation; it says nothing about the target."""

    OK = "ok"
    ABSENT = "absent"
    PARTIAL = "partial"
    FORBIDDEN = "forbidden"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Evidence:
    """One observation.

    Attributes:
        what: the kind of fact, such as ``kubernetes.pods`` or ``probe.tcp``.
        place: where it was seen from: ``api``, ``aws``, ``controller``, ``pod``, ``debug_copy`` or
            ``source:<namespace>``.
        subject: the pod, object or target that it is about; empty when ``what`` says enough.
        at: UTC time of the observation, ISO 8601 with ``Z``.
        state: outcome of our observation.
        value: the redacted fact as plain JSON data; ``None`` unless ``state`` is ``ok`` or ``partial``.
        detail: reason for any other state; for ``forbidden`` the missing right, such as
            ``get secrets in namespace mlflow``.
    """

    what: str
    place: str
    subject: str
    at: str
    state: State
    value: Any = None
    detail: str = ""

    @property
    def key(self) -> str:
        return f"{self.what}@{self.place}" + (f"/{self.subject}" if self.subject else "")

    @property
    def seen(self) -> bool:
        """True when the value may prove something."""
        return self.state in (State.OK, State.PARTIAL)

    @property
    def conclusive(self) -> bool:
        """True when the evidence may also rule something out."""
        return self.state in (State.OK, State.ABSENT)


@dataclass
class EvidenceSet:
    """All evidence of one server, kept in the order in which it was collected."""

    items: list[Evidence] = field(default_factory=list)

    def __iter__(self) -> Iterator[Evidence]:
        return iter(self.items)

    def add(self, *more: Evidence) -> None:
        self.items.extend(more)

    def extend(self, more: Iterable[Evidence]) -> None:
        self.items.extend(more)

    def renewed(self, more: Iterable[Evidence]) -> EvidenceSet:
        """Return this evidence with what ``more`` saw again in the place of what was seen before."""
        newer = list(more)
        keys = {item.key for item in newer}
        return EvidenceSet([*(item for item in self.items if item.key not in keys), *newer])

    def all(self, what: str, place: str | None = None, subject: str | None = None) -> list[Evidence]:
        """Return the evidence of one kind, optionally of one place and subject."""
        return [
            item
            for item in self.items
            if item.what == what
            and (place is None or item.place == place)
            and (subject is None or item.subject == subject)
        ]

    def first(self, what: str, place: str | None = None, subject: str | None = None) -> Evidence | None:
        found = self.all(what, place, subject)
        return found[0] if found else None

    def value(self, what: str, place: str | None = None, subject: str | None = None, default: Any = None) -> Any:
        """Return the value of the first seen piece of this kind, or ``default``."""
        for item in self.all(what, place, subject):
            if item.seen:
                return item.value
        return default

    def objects(self, what: str, namespace: str = "") -> list[dict[str, Any]]:
        """Return the listed API objects of one kind, of all namespaces unless one is named."""
        return [
            obj
            for item in self.all(what, API)
            if item.seen and (not namespace or item.subject in ("", namespace))
            for obj in item.value["items"]
        ]

    def to_json(self) -> str:
        return json.dumps([asdict(item) for item in self.items], sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> EvidenceSet:
        """Read evidence back.

        Raises:
            ValueError: the text is not a list of evidence.
        """
        try:
            rows = json.loads(text)
            return cls([Evidence(**{**row, "state": State(row["state"])}) for row in rows])
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a list of evidence: {error}") from error
