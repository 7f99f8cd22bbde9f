# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A patch changes what it has tested, and its undo only what still is ours."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.kubernetes_patch import (
    MISSING,
    at,
    edit,
    held_to,
    lines,
    operations,
    parts_of,
    patch_change,
    pointer,
    still_ours,
)

SERVICE: dict[str, Any] = {
    "metadata": {"name": "mlflow", "namespace": "ml", "uid": "u-1", "resourceVersion": "7"},
    "spec": {"selector": {"app.kubernetes.io/name": "other", "80": "x"}, "ports": [{"port": 80, "targetPort": "http"}]},
}


@pytest.mark.parametrize(
    "path", [("spec", "selector", "app.kubernetes.io/name"), ("spec", "ports", 0, "targetPort"), ("a~b", "c/d")]
)
def test_a_pointer_leads_back_to_its_parts(path: tuple[str | int, ...]) -> None:
    assert parts_of(pointer(*path)) == list(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "ports", 0, "port"), 80),
        (("spec", "ports", 1), MISSING),
        (("spec", "selector", 80), "x"),
        (("spec", "none"), MISSING),
        (("metadata", "name", "x"), MISSING),
    ],
)
def test_a_path_in_an_object(path: tuple[str | int, ...], value: Any) -> None:
    assert at(SERVICE, *path) is value or at(SERVICE, *path) == value


def test_what_is_replaced_is_tested_first() -> None:
    edits = [edit(SERVICE, ("spec", "ports", 0, "targetPort"), 5000), edit(SERVICE, ("spec", "type"), "ClusterIP")]
    assert operations(edits) == [
        {"op": "test", "path": "/spec/ports/0/targetPort", "value": "http"},
        {"op": "replace", "path": "/spec/ports/0/targetPort", "value": 5000},
        {"op": "add", "path": "/spec/type", "value": "ClusterIP"},
    ]


def test_the_undo_goes_back_while_the_fields_are_ours() -> None:
    change, undo = patch_change(SERVICE, "Service", [edit(SERVICE, ("spec", "selector"), {"app": "mlflow"})])
    assert (change["kind"], change["name"], change["namespace"], change["uid"]) == ("Service", "mlflow", "ml", "u-1")
    assert undo["patch"] == [
        {"op": "test", "path": "/spec/selector", "value": {"app": "mlflow"}},
        {"op": "replace", "path": "/spec/selector", "value": SERVICE["spec"]["selector"]},
    ]
    ours = {**SERVICE, "spec": {**SERVICE["spec"], "selector": {"app": "mlflow"}}}
    theirs = {**SERVICE, "spec": {**SERVICE["spec"], "selector": {"app": "mlflow-v3"}}}
    assert still_ours(undo, ours) == []
    assert still_ours(undo, theirs) == ["/spec/selector"]


def test_an_added_field_is_removed_again() -> None:
    dummy, undo = patch_change(SERVICE, "Service", [edit(SERVICE, ("spec", "type"), "ClusterIP")])
    assert undo["patch"] == [
        {"op": "test", "path": "/spec/type", "value": "ClusterIP"},
        {"op": "remove", "path": "/spec/type"},
    ]


def test_a_write_is_held_to_the_version_that_was_seen() -> None:
    change, dummy = patch_change(SERVICE, "Service", [edit(SERVICE, ("spec", "type"), "ClusterIP")])
    assert held_to(change, "7")[0] == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    assert held_to(change, "7")[1:] == change["patch"]
    assert lines(change) == ["/spec/type: nothing -> ClusterIP"]
