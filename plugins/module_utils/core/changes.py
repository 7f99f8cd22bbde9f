# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changed around a server in the last day, and by whom: facts for a person, never a proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

from .evidence import CLOUD
from .findings import Context, parse_time
from .workload import Object, labels_of, replica_sets, revision, workload, workload_name

DAY = timedelta(days=1)
MOST = 12
MOST_DIFFERENCES = 6
WIDTH = 70
SAME_MOMENT = timedelta(seconds=5)
FOUNDED = timedelta(minutes=5)
"""What was made together with the workload is no change of it."""

ROUTINE = frozenset({"backup", "creation"})
"""RDS events that say nothing about an incident (Amazon RDS user guide, event categories)."""

CONTROLLERS = frozenset({"kube-controller-manager", "kube-scheduler", "kubelet"})
"""Field managers that act on what others declared."""

NAMED_LISTS = frozenset({"containers", "env", "initContainers", "ports", "volumeMounts", "volumes"})
"""Lists of a pod template whose entries are told apart by their names."""


@dataclass(frozen=True)
class Change:
    """Something that changed.

    Attributes:
        at: UTC time, ISO 8601.
        object: what changed, such as ``deployment/mlflow``.
        by: the field manager that the API server recorded, or the service; empty when nobody is.
        what: the difference, or what kind of change it was.
    """

    at: str
    object: str
    by: str
    what: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def recent_changes(context: Context, most: int = MOST) -> list[Change]:
    """Return what changed in the last day, newest first.

    Args:
        context: the server and its evidence.
        most: how many changes a reader wants to see.
    """
    found = {
        *template_changes(context),
        *object_changes(context),
        *(
            Change(str(event["Date"]), str(event.get("SourceIdentifier", "")), "RDS", str(event.get("Message", "")))
            for item in context.evidence.all("aws.rds_events", CLOUD)
            if item.seen
            for event in item.value["items"]
            if not ROUTINE.issuperset(event.get("EventCategories") or ("none",))
        ),
    }
    recent = [change for change in found if change.at and context.now - parse_time(change.at) <= DAY]
    return sorted(recent, key=lambda change: (change.at, change.object, change.what), reverse=True)[:most]


def template_changes(context: Context) -> Iterator[Change]:
    """Yield how each revision of the pod template differs from the one before it."""
    found = workload(context)
    sets = replica_sets(context)
    for newer, older in pairwise(sets):
        at = newer["metadata"].get("creationTimestamp", "")
        if at < older["metadata"].get("creationTimestamp", ""):  # a rollback brings an old ReplicaSet back
            at = newest(found) or at
        lines = differences(newer["spec"].get("template") or {}, older["spec"].get("template") or {})
        shown = lines[:MOST_DIFFERENCES]
        more = f"; {len(lines) - len(shown)} more" if len(lines) > len(shown) else ""
        if lines:
            text = f"revision {revision(newer)}: {'; '.join(shown)}{more}"
            yield Change(at, workload_name(context), manager_at(found, at), text)


def newest(obj: Object | None) -> str:
    """Return when a person or a tool last changed an object."""
    return max((row["time"] for row in rows_of(obj)), default="")


def rows_of(obj: Object | None) -> list[Mapping[str, str]]:
    rows = ((obj or {}).get("metadata") or {}).get("lastChanged") or []
    return [row for row in rows if row.get("time") and row.get("manager") not in CONTROLLERS]


def manager_at(obj: Object | None, at: str) -> str:
    """Name the field manager that changed an object at a moment."""
    near = [row for row in rows_of(obj) if at and abs(parse_time(row["time"]) - parse_time(at)) <= SAME_MOMENT]
    return near[0]["manager"] if near else ""


def object_changes(context: Context) -> Iterator[Change]:
    """Yield when the objects that decide how the server runs and is reached were made or changed."""
    target = context.target
    wanted: tuple[tuple[str, str, tuple[str, ...] | None], ...] = (
        ("deployments", "deployment", (target.deployment,) if target.kind == "Deployment" else ()),
        ("statefulsets", "statefulset", (target.deployment,) if target.kind == "StatefulSet" else ()),
        ("services", "service", (target.service,)),
        ("configmaps", "configmap", target.config_maps),
        ("secrets", "secret", target.secrets),
        ("serviceaccounts", "serviceaccount", (target.service_account,)),
        ("ingresses", "ingress", None),
        ("networkpolicies", "networkpolicy", None),
        ("resourcequotas", "resourcequota", None),
        ("horizontalpodautoscalers", "horizontalpodautoscaler", None),
    )
    found = workload(context)
    revisions = {item["metadata"].get("creationTimestamp", "") for item in replica_sets(context)} - {""}
    for plural, kind, names in wanted:
        for item in context.evidence.objects(f"kubernetes.{plural}"):
            metadata = item["metadata"]
            namespace = metadata.get("namespace", target.namespace)
            if namespace != target.namespace or (names is not None and metadata["name"] not in names):
                continue
            made = metadata.get("creationTimestamp", "")
            for row in rows_of(item):
                created = row["time"] == made
                if created and kind not in ("deployment", "statefulset") and founded_with(found, made):
                    continue
                rolled = any(abs(parse_time(row["time"]) - parse_time(one)) <= SAME_MOMENT for one in revisions)
                if kind == "deployment" and rolled and not created:
                    continue  # the difference of the revisions says more
                yield Change(
                    row["time"], f"{kind}/{metadata['name']}", row["manager"], "created" if created else "changed"
                )


def founded_with(found: Object | None, made: str) -> bool:
    """Tell whether something is as old as the workload."""
    begun = ((found or {}).get("metadata") or {}).get("creationTimestamp", "")
    return bool(begun and made) and abs(parse_time(made) - parse_time(begun)) <= FOUNDED


def differences(new: Any, old: Any, path: str = "") -> list[str]:
    """Say how one pod template differs from another, field by field."""
    if not path:
        new, old = without_hash(new), without_hash(old)
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        names = [*old, *(name for name in new if name not in old)]
        return [
            line
            for name in names
            for line in differences(new.get(name), old.get(name), f"{path}.{name}" if path else str(name))
        ]
    if path.rpartition(".")[2] in NAMED_LISTS and named(new) is not None and named(old) is not None:
        return differences(named(new), named(old), path)
    if new == old:
        return []
    shown = path.removeprefix("spec.").removeprefix("containers.")
    return [f"{shown} {short(old)} -> {short(new)}"]


def named(entries: Any) -> dict[str, Any] | None:
    """Return the entries of a list by their names, a missing list as an empty one; nothing when one has no name."""
    if entries is None:
        return {}
    if not isinstance(entries, list) or not all(isinstance(item, Mapping) and item.get("name") for item in entries):
        return None
    return {str(item["name"]): item for item in entries}


def without_hash(template: Any) -> Any:
    metadata = dict(template.get("metadata") or {})
    labels = {name: value for name, value in labels_of(template).items() if name != "pod-template-hash"}
    return {**template, "metadata": {**metadata, "labels": labels}}


def short(value: Any) -> str:
    """Spell a value in a few characters."""
    if value is None:
        return "(none)"
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= WIDTH else text[:WIDTH] + "…"
