# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server in whose prevention nothing is missing, as the lab recorded it, to be spoiled by each test."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import discover
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context, parse_time
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.audit import judge
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.items import Item

PREPARED = Path(__file__).parents[4] / "evidence" / "prevention" / "prepared.json"
RECORDED = json.dumps(json.loads(PREPARED.read_text(encoding="utf-8"))["evidence"])
Change = Callable[[Any], None]


class Audited:
    """The recorded evidence, and what an audit says of it once it was changed."""

    def __init__(self, recorded: str = RECORDED) -> None:
        self.evidence = EvidenceSet.from_json(recorded)
        self.now = max(parse_time(item.at) for item in self.evidence)

    def change(self, what: str, change: Change) -> Audited:
        """Change the value of every piece of one kind."""
        rows = [copy.deepcopy(item) for item in self.evidence]
        assert any(item.what == what and item.seen for item in rows), f"no {what} is recorded"
        for item in rows:
            if item.what == what and item.seen:
                change(item.value)
        self.evidence = EvidenceSet(rows)
        return self

    def hide(self, what: str, state: State, detail: str) -> Audited:
        """Let a look at one kind have come to nothing."""
        assert self.evidence.all(what), f"no {what} is recorded"
        self.evidence = EvidenceSet(
            [
                replace(item, state=state, value=None, detail=detail) if item.what == what else item
                for item in self.evidence
            ]
        )
        return self

    def drop(self, *whats: str) -> Audited:
        self.evidence = EvidenceSet([item for item in self.evidence if item.what not in whats])
        return self

    def at(self, now: datetime) -> Audited:
        self.now = now
        return self

    def context(self) -> Context:
        namespace = next(item.subject for item in self.evidence if item.what == "kubernetes.namespace")
        target = discover(self.evidence, Settings(namespace=namespace)).target
        assert target is not None
        return Context(target, self.evidence, self.now)

    def items(self) -> dict[str, Item]:
        return {item.id: item for item in judge(self.context())}

    def __getitem__(self, id_: str) -> Item:
        return self.items()[id_]


@pytest.fixture
def audited() -> Audited:
    return Audited()


def container(value: Any) -> dict[str, Any]:
    """Return MLflow's container in a list of Deployments."""
    found: dict[str, Any] = value["items"][0]["spec"]["template"]["spec"]["containers"][0]
    return found


def patched(item: Item, tool: str) -> str:
    return "\n".join(patch.text for patch in item.patches if patch.tool == tool)


def states(items: Iterable[Item]) -> dict[str, str]:
    return {item.id: item.grade.value for item in items}
