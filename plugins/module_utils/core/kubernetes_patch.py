# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of Kubernetes objects as JSON patches (RFC 6902) that first test what they replace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VERSIONS = {"Deployment": "apps/v1", "StatefulSet": "apps/v1", "Service": "v1", "Pod": "v1"}
RESOURCES = {"Deployment": "deployments", "StatefulSet": "statefulsets", "Service": "services"}
"""Kinds that a step may patch, and how the evidence names them."""

MISSING = object()
"""What stands where a path leads to nothing."""


@dataclass(frozen=True)
class Edit:
    """One field: its path as a JSON pointer, its value now (``MISSING``: none) and the one that it shall have."""

    path: str
    before: Any
    after: Any


def pointer(*parts: str | int) -> str:
    """Join the parts of a path to a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def at(obj: Any, *parts: str | int) -> Any:
    """Return the value at a path in an object; ``MISSING`` when there is none."""
    for part in parts:
        if isinstance(obj, Mapping) and str(part) in obj:
            obj = obj[str(part)]
        elif isinstance(obj, list) and isinstance(part, int) and 0 <= part < len(obj):
            obj = obj[part]
        else:
            return MISSING
    return obj


def edit(obj: Mapping[str, Any], path: Sequence[str | int], after: Any) -> Edit:
    """Describe the change of one field of an object as it is now."""
    return Edit(pointer(*path), at(obj, *path), after)


def operations(edits: Iterable[Edit]) -> list[dict[str, Any]]:
    """Return the JSON patch that makes edits, and makes none of them unless every field is as it was."""
    tests, changes = [], []
    for item in edits:
        if item.before is MISSING:
            changes.append({"op": "add", "path": item.path, "value": item.after})
            continue
        tests.append({"op": "test", "path": item.path, "value": item.before})
        changes.append(
            {"op": "remove", "path": item.path}
            if item.after is MISSING
            else {"op": "replace", "path": item.path, "value": item.after}
        )
    return [*tests, *changes]


def reversed_operations(edits: Iterable[Edit]) -> list[dict[str, Any]]:
    """Return the JSON patch that takes edits back while every field still is what they made it."""
    return operations([Edit(item.path, item.after, item.before) for item in reversed(list(edits))])


def reference(obj: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Name an object, and the version of it that was seen."""
    metadata = obj["metadata"]
    return {
        "service": "kubernetes",
        "api_version": VERSIONS[kind],
        "kind": kind,
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "version": str(metadata.get("generation") or metadata.get("resourceVersion") or ""),
    }


def patch_change(obj: Mapping[str, Any], kind: str, edits: Sequence[Edit]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a change of an object, and the change that takes it back."""
    named = {**reference(obj, kind), "operation": "patch"}
    back = {key: value for key, value in named.items() if key != "version"}
    return {**named, "patch": operations(edits)}, {**back, "patch": reversed_operations(edits)}


def held_to(change: Mapping[str, Any], resource_version: str) -> list[dict[str, Any]]:
    """Return a change's patch with a test in front that the object has not been written since it was looked at."""
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": resource_version}
    return [test, *change["patch"]]


def still_ours(change: Mapping[str, Any], obj: Mapping[str, Any]) -> list[str]:
    """Return the paths of an undo's fields that somebody else has changed since."""
    return [
        operation["path"]
        for operation in change.get("patch", [])
        if operation["op"] == "test" and at(obj, *parts_of(operation["path"])) != operation["value"]
    ]


def parts_of(path: str) -> list[str | int]:
    """Take a JSON pointer apart; numbers are positions in lists."""
    words = [word.replace("~1", "/").replace("~0", "~") for word in path.split("/")[1:]]
    return [int(word) if word.isdigit() else word for word in words]


def lines(change: Mapping[str, Any]) -> list[str]:
    """Say in one line a field what a patch does."""
    before = {item["path"]: item["value"] for item in change["patch"] if item["op"] == "test"}
    told = []
    for item in change["patch"]:
        if item["op"] == "test" or item["path"] == "/metadata/resourceVersion":
            continue
        was, will = before.get(item["path"], "nothing"), item.get("value", "nothing")
        told.append(f"{item['path']}: {short(was)} -> {short(will)}")
    return told


def short(value: Any, most: int = 160) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
