# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Search for secrets in any form. It shares no code with what it checks."""

from __future__ import annotations

import base64
import html
import json
import re
import tarfile
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path

SHORTEST = 8
BEGINNING = 12
"""Whoever cuts a long text may cut a value in two."""
RUN = re.compile(rb"[A-Za-z0-9+/_-]{16,}")


def forms(value: str) -> dict[bytes, str]:
    """Every form of a value, each with its name."""
    once = urllib.parse.quote(value, safe="")
    encoded = {once, urllib.parse.quote_plus(value), urllib.parse.quote(value), urllib.parse.quote(once, safe="")}
    in_json = json.dumps(value)
    quoted = {in_json[1:-1], json.dumps(in_json)[3:-3], html.escape(value), repr(value)[1:-1]}
    pieces = {piece for text in (value, once) for piece in in_base64(text.encode())}
    begin = {value[:BEGINNING]} if len(value) > BEGINNING + 4 and "://" not in value else set()
    found = {"plain": {value}, "the beginning": begin, "URL-encoded": encoded, "quoted": quoted, "base64": pieces}
    return {text.encode(): name for name, texts in found.items() for text in texts if len(text) >= SHORTEST}


def in_base64(raw: bytes) -> set[str]:
    """What base64 makes of a value behind 0, 1 or 2 other bytes, without the characters that others share."""
    found = set()
    for before in range(3):
        bits = [*range(before * 8, (before + len(raw)) * 8)]
        first, last = -(-bits[0] // 6), (bits[-1] + 1) // 6
        text = base64.b64encode(bytes(before) + raw + bytes(3)).decode()[first:last]
        found |= {text, text.translate(str.maketrans("+/", "-_"))}
    return found


def search(places: Mapping[str, bytes], values: Iterable[str]) -> list[str]:
    """Name every place that holds a value, the form, and the first characters of the value.

    Args:
        places: content by name.
        values: what must not be there.
    """
    wanted = {form: (name, value) for value in values for form, name in forms(value).items()}
    found = set()
    for place, content in places.items():
        whole = content + b"\n" + b"\n".join(decoded(content))
        for form, (name, value) in wanted.items():
            if form in whole:
                found.add(f"{place}: {value[:4]}… {name}")
    return sorted(found)


def decoded(content: bytes) -> list[bytes]:
    """What the runs of base64 in a content hold."""
    result = []
    for run in RUN.findall(content):
        text = run.translate(bytes.maketrans(b"-_", b"+/"))
        result.append(base64.b64decode(text[: len(text) // 4 * 4] + b"="))
    return result


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and every part of every archive there."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        found[str(path.relative_to(folder))] = path.read_bytes()
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                for member in archive.getmembers():
                    stream = archive.extractfile(member)
                    content = stream.read() if stream else b""
                    found[f"{path.name}:{member.name}"] = member.name.encode() + b"\n" + content
    return found
