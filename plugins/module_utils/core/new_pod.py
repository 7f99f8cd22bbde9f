# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a pod that starts now would live: shown by a copy of the server's pod, never assumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .evidence import DEBUG_COPY, POD, Evidence
from .findings import Context
from .workload import current_pods, owned_by, result_of, server_pods

PINNED = "@sha256:"


def problems(context: Context, image: str, baseline: Mapping[str, Any], replica_set: str = "") -> list[str]:
    """Return why a new pod is not known to live; an empty list means that it is proven.

    Args:
        context: the server and the evidence.
        image: the image that the new pod would have.
        baseline: what the last healthy diagnosis recorded.
        replica_set: the earlier revision that would start again; empty for the current one. Its own pods that still
            run prove as much as a copy does.
    """
    scheme = str(context.target.backend.get("scheme") or "")
    if not scheme.startswith("postgres"):
        return [f"a login to a store of the scheme {scheme or 'unknown'} cannot be proven"]
    place, about = witness(context, image, replica_set)
    if about is None:
        return [why_no_copy(context)]
    pod = str(about.value.get("name") or "")
    found = [login(context, place, pod), query(context, place, pod), schema(context, place, pod)]
    if not replica_set:
        found.append(digest(context, about, image, baseline))
    return [text for text in found if text]


def witness(context: Context, image: str, replica_set: str) -> tuple[str, Evidence | None]:
    """Return where the proof was made, and which pod made it."""
    if replica_set:
        names = {pod["metadata"]["name"] for pod in server_pods(context) if owned_by(pod, "ReplicaSet", replica_set)}
        for item in context.evidence.all("probe.pod", POD):
            if item.seen and item.value.get("name") in names:
                return POD, item
    for item in context.evidence.all("probe.pod", DEBUG_COPY):
        if item.seen and item.value.get("image") == image:
            return DEBUG_COPY, item
    return DEBUG_COPY, None


def why_no_copy(context: Context) -> str:
    told = [item.detail for item in context.evidence.all("probe.pod", DEBUG_COPY) if not item.seen and item.detail]
    return f"no copy of the server's pod has shown that a new one would live{': ' + told[0] if told else ''}"


def rows(context: Context, what: str, place: str, pod: str) -> Iterable[Evidence]:
    return [item for item in context.evidence.all(what, place) if item.seen and item.value.get("probe_pod") == pod]


def login(context: Context, place: str, pod: str) -> str:
    tried = list(rows(context, "probe.login", place, pod))
    if any(result_of(item) == "ok" for item in tried):
        return ""
    said = str(tried[0].value.get("error") or result_of(tried[0]))[:160] if tried else "no login was tried"
    return f"a new pod could not log in to the database: {said}"


def query(context: Context, place: str, pod: str) -> str:
    for item in rows(context, "probe.query", place, pod):
        value = item.value
        if value.get("transaction_read_only") or value.get("in_recovery"):
            return "a new pod could not write: the database answers read-only"
        lost = sorted(name for name, allowed in (value.get("can_write") or {}).items() if allowed is False)
        if lost:
            return f"a new pod could not write: it lacks {', '.join(lost)}"
        if value.get("transaction_read_only") is False:
            return ""
    return "whether a new pod could write was not seen"


def schema(context: Context, place: str, pod: str) -> str:
    for item in rows(context, "probe.schema", place, pod):
        revision, head = item.value.get("revision"), item.value.get("image_head")
        if revision and head:
            return "" if revision == head else f"the schema is at {revision}, the image of a new pod expects {head}"
    return "the schema's revision and the one that the image expects were not both seen"


def digest(context: Context, about: Evidence, image: str, baseline: Mapping[str, Any]) -> str:
    """Compare the image that a new pod gets with the one that runs: a moved tag would make a restart an upgrade."""
    got = str(about.value.get("image_id") or "")
    if PINNED in image:
        return ""
    if not got:
        return f"which digest {image} has now was not seen"
    known = running_digests(context, image) or set(baseline.get("image_ids") or [])
    if not known:
        return f"which digest of {image} the server ran before is not known"
    return "" if got in known else f"{image} is another image now than the one that runs: its tag was moved"


def running_digests(context: Context, image: str) -> set[str]:
    """Return the digests of the image that the server's containers run."""
    return {
        str(status.get("imageID"))
        for pod in current_pods(context)
        for spec in pod["spec"]["containers"]
        for status in pod["status"].get("containerStatuses") or []
        if spec["name"] == status["name"] == context.target.container
        and spec.get("image") == image
        and status.get("imageID")
    }
