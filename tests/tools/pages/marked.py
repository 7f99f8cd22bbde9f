# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generated parts of pages that are otherwise written by hand."""

from __future__ import annotations

from pathlib import Path

from tests.lab.settings import write_text


def replaced(text: str, name: str, content: str) -> str:
    """The page with ``content`` between its marks ``<!-- name: begin -->`` and ``<!-- name: end -->``.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, found, rest = text.partition(begin)
    dummy, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no marks {begin} and {end}")
    return f"{head}{begin}\n\n{content.strip()}\n\n{end}{tail}"


def replace(path: Path, name: str, content: str) -> None:
    """Write ``content`` between the marks of the page at ``path``."""
    write_text(path, replaced(path.read_text(encoding="utf-8"), name, content))
