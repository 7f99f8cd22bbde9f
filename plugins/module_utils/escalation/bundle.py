# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a bundle, and the reading of a bundle that somebody else may have made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ..core.evidence import Evidence, EvidenceSet, State
from ..core.findings import parse_time
from . import strict_json
from .archive import BundleError, pack, printable, unpack
from .contents import LeftOut, file_name

KIND = "mlops.mlflow_runbook/bundle"
SCHEMA = 1
MANIFEST = "manifest.json"
FIELDS = frozenset(Evidence.__dataclass_fields__)
TEXTS = ("what", "place", "subject", "at", "detail")
MOST_EVIDENCE = 5000
LONGEST_TEXT = 20_000


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds for a judge.

    Attributes:
        manifest: what it says about itself.
        context: what the diagnosis knew besides the evidence.
        report: the report of that time.
        evidence: its evidence.
    """

    manifest: Mapping[str, Any]
    context: Mapping[str, Any]
    report: Mapping[str, Any]
    evidence: EvidenceSet


def make_manifest(
    report: Mapping[str, Any], parts: Mapping[str, bytes], left_out: Iterable[LeftOut], version: str, created: str
) -> dict[str, Any]:
    """Describe a bundle: whose it is, what it says, each part with its digest, and what it does not hold."""
    verdict, server = report["verdict"], report["server"]
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "version": version,
        "created": created,
        "server": {name: server.get(name, "") for name in ("cluster", "namespace", "name")},
        "status": verdict["status"],
        "causes": [cause["id"] for cause in verdict["causes"]],
        "parts": [
            {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in parts.items()
        ],
        "left_out": [asdict(item) for item in left_out],
    }


def folder_name(report: Mapping[str, Any]) -> str:
    """Return the name of a bundle's folder, which is also that of its file."""
    server = report["server"]
    moment = report["started"].replace("-", "").replace(":", "")
    return file_name(f"mlflow-{server['namespace']}-{server['name'] or 'unknown'}-{moment}")


def write_bundle(report: Mapping[str, Any], parts: Mapping[str, bytes], manifest: Mapping[str, Any]) -> bytes:
    """Return the archive, the manifest first.

    Raises:
        BundleError: it would not be read again.
    """
    whole = {MANIFEST: (json.dumps(manifest, indent=1) + "\n").encode(), **parts}
    packed = pack(folder_name(report), whole, parse_time(report["started"]))
    read_bundle(packed)
    return packed


def read_bundle(packed: bytes) -> Bundle:
    """Read a bundle, believing nothing.

    Raises:
        BundleError: it is none, or not as it was written.
    """
    parts = unpack(packed)
    if MANIFEST not in parts:
        raise BundleError(f"holds no {MANIFEST}, so that it is no bundle of this collection")
    manifest = document(MANIFEST, parts.pop(MANIFEST))
    check_manifest(manifest)
    check_parts(manifest["parts"], parts)
    context, report = (document(name, needed(name, parts)) for name in ("context.json", "report.json"))
    evidence = read_evidence(strict("evidence.json", needed("evidence.json", parts)))
    return Bundle(manifest, context, report, evidence)


def needed(name: str, parts: Mapping[str, bytes]) -> bytes:
    if name not in parts:
        raise BundleError(f"holds no {name}")
    return parts[name]


def strict(name: str, content: bytes) -> Any:
    try:
        return strict_json.load(content)
    except ValueError as error:
        raise BundleError(f"holds a {name} that {error}") from None


def document(name: str, content: bytes) -> dict[str, Any]:
    value = strict(name, content)
    if not isinstance(value, dict):
        raise BundleError(f"holds a {name} that is no JSON object")
    return value


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Refuse what is no manifest of ours, or one of a later form."""
    if manifest.get("kind") != KIND:
        raise BundleError("is no bundle of this collection (its manifest is of another kind)")
    schema = manifest.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise BundleError("has a manifest without a schema number")
    if schema > SCHEMA:
        version = printable(str(manifest.get("version")))
        raise BundleError(f"has schema {schema} of version {version}; this version reads schema {SCHEMA}")
    if not isinstance(manifest.get("version"), str) or not isinstance(manifest.get("parts"), list):
        raise BundleError("has a manifest without a version or a list of parts")


def check_parts(rows: list[Any], parts: Mapping[str, bytes]) -> None:
    """Hold every part to its size and digest; a part that the manifest does not name is foreign."""
    named = {}
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("name", "sha256")):
            raise BundleError("has a manifest with a part that is not described")
        named[row["name"]] = row
    for name in parts:
        if name not in named:
            raise BundleError(f"holds {name}, which its manifest does not name")
    for name, row in named.items():
        content = parts.get(name)
        if content is None:
            raise BundleError(f"holds no {printable(name)}, which its manifest names")
        if row.get("size") != len(content) or row["sha256"] != hashlib.sha256(content).hexdigest():
            raise BundleError(f"was changed: {name} is not the one that its manifest describes")


def read_evidence(rows: Any) -> EvidenceSet:
    """Return evidence whose fields have the types that every rule relies on."""
    if not isinstance(rows, list) or not rows:
        raise BundleError("holds an evidence.json that is no list of evidence")
    if len(rows) > MOST_EVIDENCE:
        raise BundleError(f"holds more than {MOST_EVIDENCE} pieces of evidence")
    return EvidenceSet([evidence_of(index, row) for index, row in enumerate(rows)])


def evidence_of(index: int, row: Any) -> Evidence:
    wrong = BundleError(f"holds an evidence.json whose entry {index} is no evidence")
    if not isinstance(row, dict) or set(row) != FIELDS or not all(isinstance(row[name], str) for name in TEXTS):
        raise wrong
    if max(len(row[name]) for name in TEXTS) > LONGEST_TEXT:
        raise wrong
    try:
        moment, state = parse_time(row["at"]), State(row["state"])
    except (ValueError, TypeError):
        raise wrong from None
    seen = state in (State.OK, State.PARTIAL)
    if moment.tzinfo is None or (seen and row["value"] is None):
        raise wrong
    return Evidence(**{**row, "state": state})


def moment_of(text: Any) -> datetime:
    """Read a moment of a context.

    Raises:
        BundleError: it is none.
    """
    try:
        moment = parse_time(text)
    except (ValueError, TypeError, AttributeError):
        raise BundleError("has a context.json without the moment of its diagnosis") from None
    if moment.tzinfo is None:
        raise BundleError("has a context.json whose moment has no time zone")
    return moment
