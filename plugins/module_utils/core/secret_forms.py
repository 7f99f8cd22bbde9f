# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms in which one secret value turns up: as it is, quoted for some language, URL-encoded, in base64."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
import urllib.parse
from collections.abc import Iterator

SHORTEST_SECRET = 4
SHORTEST_FRAGMENT = 8
"""A shorter piece of base64 turns up by chance."""

SHORTEST_LINE = 12
PLAIN, QUOTED, URL_ENCODED, BASE64 = "as it is", "quoted", "URL-encoded", "in base64"
SECRET_NAME = re.compile(
    r"(?:passw(?:or)?d|_pass|_pwd|passphrase|secret|credentials?|token|(?:api|access|secret|private|kek)[-_]?key)$",
    re.IGNORECASE,
)
"""Names of variables and fields whose value is a secret."""

ASSIGNED = re.compile(r"^\s*(?:export\s+)?[\w.-]*?(?P<name>\w+)\s*[=:]\s*[\"']?(?P<value>[^\s\"']+)", re.MULTILINE)

CERTIFICATES = re.compile(r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
"""Public, even where they stand beside a private key."""


def aligned(raw: bytes) -> set[str]:
    """Return what base64 makes of some bytes at each of the three places where they can begin in a longer text.

    The characters that hold bits of a neighbour are left out.
    """
    found = set()
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode()
        begin, end = -(-offset * 8 // 6), (offset + len(raw)) * 8 // 6
        fragment = encoded[begin:end]
        if len(fragment) >= SHORTEST_FRAGMENT:
            found |= {fragment, fragment.replace("+", "-").replace("/", "_")}
    return found


def forms(secret: str) -> Iterator[tuple[str, str]]:
    """Yield each form of a secret with the name of its encoding; the same form may come twice."""
    once = urllib.parse.quote(secret, safe="")
    encoded = {once, urllib.parse.quote_plus(secret), urllib.parse.quote(secret), urllib.parse.quote(once, safe="")}
    quoted = {
        html.escape(secret),
        html.escape(secret, quote=False),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    }
    yield PLAIN, secret
    yield from ((QUOTED, form) for form in quoted)
    yield from ((URL_ENCODED, form) for form in encoded)
    yield from ((URL_ENCODED, form.lower()) for form in encoded if form != secret and secret.islower())
    for raw in (secret, once):
        whole = base64.b64encode(raw.encode()).decode()
        for fragment in {whole, *aligned(raw.encode())}:
            yield BASE64, fragment
            yield BASE64, urllib.parse.quote(fragment, safe="")


def spellings(secret: str) -> set[str]:
    """Return the forms in which one secret value may turn up in text."""
    return {form for dummy, form in forms(secret)}


def parts_of(value: str) -> set[str]:
    """Return what of a secret value may turn up alone: its lines, and what a file of settings in it calls secret.

    Args:
        value: the whole value of one entry of a Secret.
    """
    value = CERTIFICATES.sub("", value)
    found = {line.strip() for line in value.splitlines() if len(line.strip()) >= SHORTEST_LINE}
    if found == {value.strip()} and not value.lstrip().startswith("{"):
        return set()
    found |= {match["value"] for match in ASSIGNED.finditer(value) if SECRET_NAME.search(match["name"])}
    with contextlib.suppress(ValueError, RecursionError):
        found |= set(named_secrets(json.loads(value)))
    return {item for item in found if len(item) >= SHORTEST_SECRET and not item.startswith("-----")}


def named_secrets(document: object) -> Iterator[str]:
    """Yield the texts in a JSON document whose names say that they are secret."""
    for name, value in document.items() if isinstance(document, dict) else ():
        if isinstance(value, str) and (SECRET_NAME.search(name) or name == "auth"):
            yield value
        else:
            yield from named_secrets(value)
    if isinstance(document, list):
        for item in document:
            yield from named_secrets(item)
