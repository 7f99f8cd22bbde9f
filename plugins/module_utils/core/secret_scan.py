# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last look before something leaves the house: is there any secret in it after all?

Redaction works on values before they are written down; this looks at what was written, so that it also finds what
quoting, joining or a name brought in.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Mapping

from .redaction import ASSIGNMENT, ENCODED, PATTERNS, decoded
from .secret_forms import SHORTEST_SECRET, forms

NO_WORD = re.compile(r"(?=.{6})(?=.*[\d/+=@#%!^]).*")
"""What follows ``password:`` in prose is a word; a password that is one is found as a known value."""

ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")


class SecretScan:
    """Finds secrets in finished text.

    Args:
        known: every secret value that was met.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._forms: dict[str, str] = {}
        for secret in known:
            if len(secret) >= SHORTEST_SECRET:
                for encoding, form in forms(secret):
                    self._forms.setdefault(form, encoding)

    def kinds(self, text: str) -> list[str]:
        """Name the kinds of secrets in a text, never a value.

        Args:
            text: a finished part, or a name.
        """
        found = {f"a known secret value, {encoding}" for form, encoding in self._forms.items() if form in text}
        plain = set(recognised(text))
        found |= plain
        if ESCAPED.search(text):
            found |= {f"{kind}, URL-encoded" for kind in set(recognised(urllib.parse.unquote(text))) - plain}
        inside = "\n".join(filter(None, (decoded(run) for run in ENCODED.findall(text))))
        found |= {f"{kind}, in base64" for kind in recognised(inside)}
        return sorted(found)


def recognised(text: str) -> list[str]:
    """Name the kinds of secrets that a text holds by their form."""
    found = [kind for kind, (pattern, mask) in PATTERNS.items() if changes(pattern, mask, text)]
    if any(NO_WORD.fullmatch(match["value"]) for match in ASSIGNMENT.finditer(text)):
        found.append("a named secret")
    return found


def changes(pattern: re.Pattern[str], mask: str, text: str) -> bool:
    return any(match.expand(mask) != match[0] for match in pattern.finditer(text))


def scan(parts: Mapping[str, str], known: Iterable[str]) -> dict[str, list[str]]:
    """Return the kinds of secrets by the part that holds them, by its name or by its text.

    Args:
        parts: name and text of everything that would leave.
        known: every secret value that was met.
    """
    looker = SecretScan(known)
    found = {name: looker.kinds(f"{name}\n{text}") for name, text in parts.items()}
    return {name: kinds for name, kinds in found.items() if kinds}
