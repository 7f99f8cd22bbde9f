# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collected text made harmless for a person's eyes: nothing in it moves a cursor, turns a line or fills a screen."""

from __future__ import annotations

import unicodedata
from typing import Any

MOST_CHARACTERS = 5000
"""Longer texts are cut: nobody reads them in a report, and the evidence file has them whole. A patch is shorter."""

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories that do not show: controls (terminal escapes), formats (text direction), surrogates, breaks."""


def visible(text: str, most: int = MOST_CHARACTERS) -> str:
    """Spell every character that does not show, and cut what is too long.

    Args:
        text: anything that was collected.
        most: characters that are kept.
    """
    cut = text if len(text) <= most else f"{text[:most]} … ({len(text) - most} more characters)"
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(spelled(character) for character in cut)


def spelled(character: str) -> str:
    if character in "\n\t":
        return character
    return f"\\u{ord(character):04x}" if unicodedata.category(character) in HIDDEN else character


def harmless(data: Any) -> Any:
    """Return JSON data with every text in it, keys too, made visible."""
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, dict):
        return {visible(str(key)): harmless(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [harmless(value) for value in data]
    return data
