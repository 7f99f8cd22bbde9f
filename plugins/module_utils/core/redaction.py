# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal of secrets from everything that is kept, by known value and by pattern."""

from __future__ import annotations

import base64
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

MASK = "********"
SHORTEST_SECRET = 4
SECRET_NAME = re.compile(r"(?:password|passwd|_pwd|passphrase|secret_access_key|secret_key|_token)$", re.IGNORECASE)

PATTERNS = (
    (
        # Up to the last @ of the word: an unescaped password may contain one.
        re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@\"']*:)[^\s\"']+(?P<tail>@)", re.IGNORECASE),
        rf"\g<head>{MASK}\g<tail>",
    ),
    (
        # A driver takes the end of such a password for a part of the host name.
        re.compile(r"(?P<head>(?:translate host name|resolve host) [\"'])[^\s\"']*(?P<tail>@)"),
        rf"\g<head>{MASK}\g<tail>",
    ),
    (re.compile(r"\b(?P<head>(?:AKIA|ASIA))[A-Z0-9]{12,}\b"), rf"\g<head>{MASK}"),
    (re.compile(r"(?P<head>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\g<head>{MASK}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), MASK),
    (re.compile(r"(?P<head>X-Amz-(?:Signature|Security-Token|Credential)=)[^&\s\"']+"), rf"\g<head>{MASK}"),
    (
        re.compile(
            r"(?P<head>\b\w*(?:password|passwd|_pwd|passphrase|secret_access_key|secret_key|_token)\b"
            r"[\"']?\s*[=:]\s*[\"']?)(?!\*)[^\s\"',;&]{3,}",
            re.IGNORECASE,
        ),
        rf"\g<head>{MASK}",
    ),
)


def spellings(secret: str) -> set[str]:
    """Return the forms in which one secret value may turn up in text."""
    raw = secret.encode()
    return {
        secret,
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret),
        base64.b64encode(raw).decode(),
    }


class Redactor:
    """Replaces secrets in text and in nested data.

    Args:
        values: known secret values; shorter ones than four characters are left to the patterns.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """Remember further secret values."""
        for value in values:
            if len(value) >= SHORTEST_SECRET:
                self._values |= spellings(value)
        self._longest_first = sorted(self._values, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return ``text`` without any known or recognisable secret."""
        for value in self._longest_first:
            text = text.replace(value, MASK)
        for pattern, replacement in PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def data(self, value: Any) -> Any:
        """Return a copy of JSON data with every string redacted."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: MASK if self._tells(value, key) else self.data(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.data(item) for item in value]
        return value

    def _tells(self, data: Mapping[str, Any], key: str) -> bool:
        """Tell whether an entry, or an environment variable, is a secret by its name; a reference to one is none."""
        name = data.get("name") if key == "value" else key
        text = data[key]
        return isinstance(text, str) and "$" not in text and bool(text and SECRET_NAME.search(str(name)))
