# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal of secrets from everything that is kept, by known value and by pattern."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .secret_forms import SECRET_NAME, SHORTEST_SECRET, spellings

MASK = "********"
NAMES = (
    r"(?:password|passwd|_pwd|_pass|passphrase|secret_access_key|secret_key|_token|_secret|client[-_]?secret"
    r"|(?:api|access|private)[-_]?key)"
)
ASSIGNMENT = re.compile(
    rf"(?P<head>\b[\w.-]*{NAMES}\b\\?[\"']?[ \t]*[=:][ \t]*\\?[\"']?)(?![*<$({{\[])(?P<value>[^\s\"'\\,;&]{{3,}})",
    re.IGNORECASE,
)
"""``name=value``, ``name: value`` and the same in JSON, also in JSON within JSON."""

PATTERNS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "a password in a URI": (
        # Up to the last @ of the word: an unescaped password may contain one.
        re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@\"'<>]*:)[^\s\"'<>]+(?P<tail>@)", re.IGNORECASE),
        rf"\g<head>{MASK}\g<tail>",
    ),
    "a password in an encoded URI": (
        re.compile(r"(?P<head>%3A%2F%2F[^\s%&]*%3A)[^\s\"'&]+?(?P<tail>%40)", re.IGNORECASE),
        rf"\g<head>{MASK}\g<tail>",
    ),
    "a part of a password": (
        # A driver takes the end of such a password for a part of the host name.
        re.compile(r"(?P<head>(?:translate host name|resolve host) \\?[\"'])[^\s\"']*(?P<tail>@)"),
        rf"\g<head>{MASK}\g<tail>",
    ),
    "an AWS access key": (re.compile(r"\b(?P<head>(?:AKIA|ASIA))[A-Z0-9]{12,}\b"), rf"\g<head>{MASK}"),
    "an authorization header": (
        re.compile(r"(?P<head>\b(?:Bearer|Basic)\s+)(?!authenticat|authoriz)[A-Za-z0-9._~+/=-]{8,}"),
        rf"\g<head>{MASK}",
    ),
    "a JSON web token": (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), MASK),
    "a signed URL": (
        re.compile(r"(?P<head>X-Amz-(?:Signature|Security-Token|Credential)=)(?!\*)[^&\s\"']+"),
        rf"\g<head>{MASK}",
    ),
    "a private key": (
        re.compile(
            # As it is, or URL-encoded.
            r"(?P<head>-----BEGIN(?:(?: |\+|%20)[A-Z]+)*(?: |\+|%20)PRIVATE(?: |\+|%20)KEY-----)"
            r"(?=(?:(?!-----END).)*?[A-Za-z0-9+/=]{16}).*?(?=-----END|\Z)",
            re.DOTALL,
        ),
        rf"\g<head>{MASK}",
    ),
    "a password in SQL": (
        re.compile(r"(?P<head>\b(?:(?i:PASSWORD)|IDENTIFIED BY)\s+\\?')(?!\*)[^'\\]+"),
        rf"\g<head>{MASK}",
    ),
    "a password's verifier": (re.compile(r"(?P<head>SCRAM-SHA-256\$)[\w+/=:$]+"), rf"\g<head>{MASK}"),
    "a token of a service": (
        # GitHub, GitLab, Slack, Google, Hugging Face, Databricks and model providers: as their documentation describes.
        re.compile(
            r"\b(?P<head>gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AIza|hf_|dapi|sk-(?:ant-|proj-)?)"
            r"(?=[\w-]*\d)[\w-]{20,}"
        ),
        rf"\g<head>{MASK}",
    ),
}
"""Secrets that are recognised by their form: what each is called, its pattern and what takes its place."""

KEY_BEGIN = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
KEY_END = "-----END"
KEY_LINES = 120
"""An RSA key of 8192 bits has about a hundred lines."""

SHORTEST_CUT = 200
"""Nobody cuts a shorter text: our own limits begin at 200 characters, that of an event is 1024."""

SHORTEST_BEGINNING = 6
ENCODED = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
HEXADECIMAL = re.compile(r"[0-9a-f]+")


def decoded(run: str) -> str:
    """Return the text that a run of base64 characters holds; empty when it holds none."""
    if HEXADECIMAL.fullmatch(run):
        return ""
    plain = run.rstrip("=").replace("-", "+").replace("_", "/")
    plain = plain[: len(plain) - 1] if len(plain) % 4 == 1 else plain
    try:
        text = base64.b64decode(plain + "=" * (-len(plain) % 4)).decode("utf-8")
    except ValueError:
        return ""
    return text if text.replace("\n", " ").isprintable() else ""


def by_pattern(text: str) -> str:
    """Return ``text`` without anything that looks like a secret."""
    for pattern, replacement in PATTERNS.values():
        text = pattern.sub(replacement, text)
    return ASSIGNMENT.sub(rf"\g<head>{MASK}", text)


def mask_encoded(match: re.Match[str]) -> str:
    inside = decoded(match[0])
    return MASK if inside and by_pattern(inside) != inside else match[0]


def mask_key_lines(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mask a private key that a log holds line by line, where no line alone tells what it is.

    Args:
        rows: lines with their ``text``, in order.
    """
    masked, inside = [], 0
    for row in rows:
        text = str(row["text"])
        if inside and KEY_END not in text:
            inside -= 1
            masked.append({**row, "text": MASK})
            continue
        begins = KEY_BEGIN.search(text)
        inside = KEY_LINES if begins and KEY_END not in text[begins.end() :] else 0
        masked.append(row)
    return masked


class Redactor:
    """Replaces secrets in text and in nested data.

    Args:
        values: known secret values; shorter ones than four characters are left to the patterns.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        self._plain: set[str] = set()
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """Remember further secret values."""
        for value in values:
            if len(value) >= SHORTEST_SECRET:
                self._values |= spellings(value)
                self._plain.add(value)
        self._longest_first = sorted(self._values, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return ``text`` without any known or recognisable secret."""
        return self._clean(text, self._longest_first)

    def data(self, value: Any) -> Any:
        """Return a copy of JSON data with every string redacted."""
        whole = "\0".join(texts(value))
        return self._walk(value, [form for form in self._longest_first if form in whole])

    def _walk(self, value: Any, present: list[str]) -> Any:
        if isinstance(value, str):
            return self._clean(value, present)
        if isinstance(value, dict):
            return {
                self._clean(key, present) if present else key: (
                    MASK if self._tells(value, key) else self._walk(item, present)
                )
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._walk(item, present) for item in value]
        return value

    def _without_cut_value(self, text: str) -> str:
        """Mask the beginning of a known value at the very end of a text that somebody cut."""
        for value in self._plain:
            for length in range(len(value) - 1, SHORTEST_BEGINNING - 1, -1):
                if text.endswith(value[:length]):
                    return text[:-length] + MASK
        return text

    def _clean(self, text: str, forms: Iterable[str]) -> str:
        for form in forms:
            text = text.replace(form, MASK)
        if len(text) >= SHORTEST_CUT:
            text = self._without_cut_value(text)
        if len(text) < SHORTEST_SECRET:
            return text
        return ENCODED.sub(mask_encoded, by_pattern(text))

    @staticmethod
    def _tells(data: Mapping[str, Any], key: str) -> bool:
        """Tell whether an entry, or an environment variable, is a secret by its name; a reference to one is none."""
        name = data.get("name") if key == "value" else key
        text = data[key]
        if not isinstance(text, str) or not text or "$" in text or text.startswith(("/", "http")):
            return False
        return bool(SECRET_NAME.search(str(name)))


def texts(value: Any) -> Iterator[str]:
    """Yield every text of nested data, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)
