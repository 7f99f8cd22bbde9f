# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generated pages are complete and current."""

from __future__ import annotations

import pytest

from tests.lab.settings import REPOSITORY
from tests.tools.pages import __main__ as pages
from tests.tools.pages import marked, parity, proofs, restricted

ENTRIES = parity.entries()


def named(entry: parity.Entry) -> str:
    return f"{entry.heading}: {entry.text}"


@pytest.mark.parametrize("name", pages.PAGES)
def test_the_committed_page_is_current(name: str) -> None:
    committed = (REPOSITORY / "docs" / name).read_text(encoding="utf-8")
    assert committed == pages.PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("entry", ENTRIES, ids=named)
def test_every_line_of_the_runbooks_leads_somewhere(entry: parity.Entry) -> None:
    assert entry.evidence
    assert set(entry.evidence) <= proofs.collected()
    assert entry.findings or entry.audited or entry.part
    assert not entry.advice or entry.proposed_by or entry.warned_by


@pytest.mark.parametrize("role", sorted({entry.role for entry in ENTRIES}))
def test_every_section_is_a_role(role: str) -> None:
    assert (REPOSITORY / "roles" / role / "meta" / "argument_specs.yml").exists()


def test_every_section_stands_in_a_runbook() -> None:
    assert {entry.role for entry in ENTRIES} == {*proofs.ANALYZERS, "dashboard", "escalation", "prevention"}


def test_what_a_recorded_run_proved_is_collected() -> None:
    assert frozenset().union(*proofs.recorded().values()) <= proofs.collected()


def test_a_part_between_marks_is_replaced() -> None:
    page = "before\n<!-- x: begin -->\nold\n<!-- x: end -->\nafter\n"
    assert marked.replaced(page, "x", "new\n") == "before\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nafter\n"
    with pytest.raises(ValueError, match="no marks"):
        marked.replaced(page, "y", "new")


def test_the_restricted_operators_table_counts() -> None:
    one = {"fault": "a", "phase": "running", "expected": ["x y"], "forbidden_writes": [], "status": "down"}
    rows = {
        "full": [{**one, "causes": ["x y"], "exact": True, "false_causes": []}],
        "no-aws": [{**one, "causes": [], "exact": False, "false_causes": [], "status": "unknown"}],
        "forbidden": [{**one, "causes": ["z"], "exact": False, "false_causes": ["z"], "status": "healthy"}],
    }
    text = restricted.table(rows)
    assert "| no-aws | AWS (no credentials) | 1 | 0 (0 %) | 1 | 0 | 0 | 0 |" in text
    assert "| `a` | exact | unknown | **false** |" in text
    assert "| forbidden | anything, in the cluster and in AWS | 1 | 0 (0 %) | 0 | 1 | 1 | 0 |" in text
