# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue is whole: every edge leads somewhere, every sentence can be filled."""

from __future__ import annotations

import ast
import dataclasses
import re
import string
from operator import attrgetter
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils import sections
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.catalogue import (
    BY_ID,
    KINDS,
    closure,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.kinds import Kind, Role
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import SECTIONS
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.signatures import SIGNATURES

ID = re.compile(r"[a-z_]+\.[a-z0-9_]+")
FAULT = re.compile(r"[A-Z]-\d\d")
SECTION_FILES = sorted(Path(str(sections.__file__)).parent.glob("*.py"))


def texts_and_names(path: Path) -> set[str]:
    """Return every text and every keyword of a source file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return texts | {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}


SPOKEN = set().union(*(texts_and_names(path) for path in SECTION_FILES))
"""Everything that the analyzers spell out: ids of findings and names of facts."""

FILLED = {field.name for field in dataclasses.fields(Target)} | {"kind", "without"}


NAME = attrgetter("id")
FOUND = [kind for kind in KINDS if kind.id in SPOKEN | {signature.finding for signature in SIGNATURES}]


@pytest.mark.parametrize("kind", KINDS, ids=NAME)
def test_ids(kind: Kind) -> None:
    assert ID.fullmatch(kind.id)
    assert kind.id.partition(".")[0] in SECTIONS
    assert kind.severity in ("critical", "high", "medium")
    assert kind.owner
    assert all(FAULT.fullmatch(fault) for fault in kind.faults)


def test_every_kind_can_be_found() -> None:
    assert sorted(kind.id for kind in KINDS if kind not in FOUND) == []


def test_ids_are_unique() -> None:
    assert len(BY_ID) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=NAME)
def test_edges_lead_to_kinds(kind: Kind) -> None:
    assert [name for name in kind.explains if name not in BY_ID] == []
    assert kind.role is not Role.CAUSE or kind.id not in closure(kind.id)


@pytest.mark.parametrize("kind", FOUND, ids=NAME)
def test_templates_can_be_filled(kind: Kind) -> None:
    wanted = {
        name for text in (*kind.next, *kind.do_not) for _head, name, *_rest in string.Formatter().parse(text) if name
    }
    assert wanted - FILLED - SPOKEN == set()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.role in (Role.CAUSE, Role.EITHER)], ids=NAME)
def test_a_cause_says_what_to_do_and_which_fault_it_is(kind: Kind) -> None:
    assert kind.next
    assert kind.faults


def test_the_analyzers_speak_of_kinds_that_exist() -> None:
    """An id, or the start of one that is put together."""
    spoken = {text for text in SPOKEN if ID.fullmatch(text) and text.partition(".")[0] in SECTIONS}
    assert len(spoken) > 50
    assert [text for text in spoken if not any(name.startswith(text) for name in BY_ID)] == []


def test_the_signatures_speak_of_kinds_that_exist() -> None:
    assert {signature.finding for signature in SIGNATURES if signature.finding} <= set(BY_ID)


def test_closure_follows_the_edges() -> None:
    assert "database.connect_timeout" in closure("database.security_group_closed")
    assert "service.unreachable" in closure("database.connect_timeout")
    assert closure("service.unreachable") == frozenset()
