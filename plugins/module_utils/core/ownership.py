# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who decides what an object looks like, and who touched it last."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from .findings import parse_time

PAUSE_ANNOTATION = "mlflow-runbook.mlops/pause"
"""An object or its namespace with this annotation is left alone; its value is the reason."""

HELM_RELEASE = "meta.helm.sh/release-name"
MARKS = (
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
    ("labels", "argocd.argoproj.io/instance", "Argo CD"),
    ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("labels", "helm.toolkit.fluxcd.io/name", "Flux"),
    ("annotations", HELM_RELEASE, "Helm"),
)
"""Marks that owners leave on what they apply (documentation of Argo CD, Flux and Helm)."""

MANAGERS = (
    (re.compile(r"^argocd"), "Argo CD"),
    (re.compile(r"^(kustomize|helm)-controller$"), "Flux"),
    (re.compile(r"^[Hh]elm$"), "Helm"),
    (re.compile(r"^Terraform|^HashiCorp"), "Terraform"),
)
"""Field managers of tools that apply declared state again (Kubernetes, server-side apply)."""

PEOPLE = re.compile(r"^(kubectl|k9s|Lens|Mozilla|dashboard|rancher|okteto|oc$)", re.IGNORECASE)
"""Field managers behind which a person sits."""


def owner_of(obj: Mapping[str, Any]) -> str:
    """Name who applies an object's declared state; empty when nobody is known to.

    Args:
        obj: an object of the evidence, with ``lastChanged`` in place of its managed fields.
    """
    metadata = obj["metadata"]
    for part, key, name in MARKS:
        value = (metadata.get(part) or {}).get(key)
        if value:
            return f"{name} ({value})"
    if (metadata.get("labels") or {}).get("app.kubernetes.io/managed-by") == "Helm":
        return "Helm"
    for row in metadata.get("lastChanged") or []:
        for pattern, name in MANAGERS:
            if pattern.search(str(row.get("manager") or "")):
                return name
    controllers = [item for item in metadata.get("ownerReferences") or [] if item.get("controller")]
    return f"{controllers[0]['kind']} {controllers[0]['name']}" if controllers else ""


def pause_of(*objects: Mapping[str, Any] | None) -> str:
    """Return the reason for which one of some objects is to be left alone; empty when none is."""
    for obj in objects:
        annotations = (obj or {"metadata": {}})["metadata"].get("annotations") or {}
        if PAUSE_ANNOTATION in annotations:
            return str(annotations[PAUSE_ANNOTATION]).strip() or "no reason is given"
    return ""


def touched_by_person(obj: Mapping[str, Any], now: datetime, window: timedelta) -> str:
    """Say which person's tool changed an object lately; empty when none did."""
    for row in obj["metadata"].get("lastChanged") or []:
        if PEOPLE.search(str(row.get("manager") or "")) and row.get("time"):
            age = now - parse_time(row["time"])
            if age < window:
                return f"{row['manager']} changed it {max(0, int(age.total_seconds()))} s ago"
    return ""
