# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attempt that nobody judged has left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .attempts import ABANDONED, Attempt
from .evidence import CLOUD, POD, EvidenceSet
from .kubernetes_patch import RESOURCES, still_ours
from .outcome import FIXED, IMPROVED, UNCHANGED, UNKNOWN
from .redaction import by_pattern
from .steps_database import rules_by_group

LEFT: Mapping[str, str] = {
    ABANDONED: "nothing of it was written",
    FIXED: "it was written, and the server is repaired",
    IMPROVED: "it was written and its cause is gone, another one is left",
    UNCHANGED: "it was written, and its cause is still there",
    UNKNOWN: "what became of it could not be judged",
}
"""What an outcome says about an attempt that its own run could not judge."""

STATUS_MESSAGE = re.compile(r'"message":("(?:[^"\\]|\\.)*")')
"""Message of the Status object with which the API server refuses (Kubernetes API conventions, error responses)."""

ANSIBLES_OWN = re.compile(r"^(Task failed: )?(Module failed: )?")
"""What ansible-core 2.19 and later put before a module's own words."""

TEST_FAILED = 422
"""How the API server answers a JSON patch whose ``test`` fails (Unprocessable Entity)."""

LONGEST_REASON = 400


def in_place(attempt: Attempt, evidence: EvidenceSet) -> bool | None:
    """Tell whether an attempt's change is there; None when that cannot be seen."""
    change = attempt.change
    what = (change.get("service"), change.get("operation"))
    if what == ("kubernetes", "patch"):
        found = object_of(change, evidence)
        return None if found is None else not still_ours(as_undo(change), found)
    if what == ("kubernetes", "delete"):
        there = {pod["metadata"].get("uid") for pod in evidence.objects("kubernetes.pods", str(change["namespace"]))}
        return not any(pod["uid"] in there for pod in change["pods"])
    if what == ("ec2", "AuthorizeSecurityGroupIngress"):
        rules = rules_by_group(evidence).get(str(change["group_id"]))
        return None if rules is None else all(rule in rules for rule in change["rules"])
    if what == ("rds", "StartDBInstance"):
        status = (evidence.value("aws.db_instance", CLOUD) or {}).get("DBInstanceStatus")
        return None if status is None else status != change.get("status")
    if what == ("pod", "end_session"):
        return session_ended(change, evidence)
    if what == ("pod", "clear_cache"):
        return cache_cleared(change, evidence)
    return False if change.get("operation") == "wait" else None


def session_ended(change: Mapping[str, Any], evidence: EvidenceSet) -> bool | None:
    """Tell whether a session that others waited for is gone; None when who waits for whom was not seen."""
    queries = [item.value for item in evidence.all("probe.query") if item.seen]
    waiting = [value["blocked"] for value in queries if isinstance(value.get("blocked"), list)]
    holders = {(str(row["blocker"]["pid"]), str(row["blocker"]["backend_start"])) for rows in waiting for row in rows}
    return (str(change["pid"]), str(change["backend_start"])) not in holders if waiting else None


def cache_cleared(change: Mapping[str, Any], evidence: EvidenceSet) -> bool | None:
    """Tell whether no file is left that would be removed; None when the folder was not measured for files as old."""
    measured = [item.value.get("cache") or {} for item in evidence.all("probe.disk", POD) if item.seen]
    wanted = (change["directory"], change["older_than_seconds"])
    caches = [cache for cache in measured if (cache.get("folder"), cache.get("older_than_seconds")) == wanted]
    return not any(cache["old_files"] for cache in caches) if caches else None


def object_of(change: Mapping[str, Any], evidence: EvidenceSet) -> dict[str, Any] | None:
    """Return the object that a change is about, as it was seen."""
    for item in evidence.objects(f"kubernetes.{RESOURCES[str(change['kind'])]}", str(change["namespace"])):
        if item["metadata"]["name"] == change["name"] and item["metadata"].get("uid", "") == change.get("uid", ""):
            return item
    return None


def as_undo(change: Mapping[str, Any]) -> dict[str, Any]:
    """Return tests for everything that a patch writes."""
    written = [item for item in change["patch"] if item["op"] in ("add", "replace")]
    return {"patch": [{"op": "test", "path": item["path"], "value": item["value"]} for item in written]}


def judge(attempt: Attempt, evidence: EvidenceSet, verdict: Mapping[str, Any]) -> str:
    """Return the outcome of an attempt whose run ended before it could judge it itself.

    Args:
        attempt: the attempt.
        evidence: what is seen now.
        verdict: the verdict's JSON document, now.
    """
    done = in_place(attempt, evidence)
    if done is False:
        return ABANDONED
    if verdict["status"] == "unknown" or done is None:
        return UNKNOWN
    if any((cause["id"], cause["object"]) == (attempt.cause, attempt.cause_object) for cause in verdict["causes"]):
        return UNCHANGED
    return FIXED if verdict["status"] in ("healthy", "recovered") else IMPROVED


def document(attempt: Attempt, outcome: str, unrecorded: str = "") -> dict[str, str]:
    """Describe for the report an attempt that was judged later than it should have been.

    Args:
        attempt: the attempt.
        outcome: as which it was judged.
        unrecorded: why that could not be recorded; empty when it was.
    """
    known = {name: str(getattr(attempt, name)) for name in ("step", "object", "at", "by")}
    return {**known, "outcome": outcome, "unrecorded": unrecorded}


def not_kept(found: Mapping[str, str]) -> str:
    why = found.get("unrecorded")
    return f"; this could not be recorded ({why}), so the next run judges it again" if why else ""


def told(found: Mapping[str, str]) -> str:
    """Say what a run that ended too early has left behind."""
    begun = f"{found['step']} on {found['object']} was begun at {found['at']} by a run that ended before it judged it"
    return f"{begun}: {LEFT.get(found['outcome'], found['outcome'])}{not_kept(found)}"


def failed_write(failed: Mapping[str, Any]) -> str:
    """Say in one line why a write failed.

    Args:
        failed: result of the task that failed, as its module gave it.
    """
    each = [item for item in failed.get("results") or [] if isinstance(item, Mapping) and item.get("failed")]
    result = each[0] if each else failed
    text = ANSIBLES_OWN.sub("", str(result.get("msg") or "no reason is given"))
    message = STATUS_MESSAGE.search(text)
    if message:
        text = f"the API server answered {result.get('status')}: {json.loads(message[1])}"
    if result.get("status") == TEST_FAILED:
        text += "; the object is not the one any more that was looked at"
    return by_pattern(" ".join(text.split()))[:LONGEST_REASON]


def told_of_failure(failure: Mapping[str, str]) -> str:
    """Say what became of a step whose write failed.

    Args:
        failure: ``step``, ``why``, the ``outcome`` as which it was judged (empty when it could not be judged), and why
            that could not be recorded.
    """
    step, why, outcome = failure["step"], failure["why"], failure["outcome"]
    if outcome == ABANDONED:
        return f"{step} was not carried out: {why}{not_kept(failure)}"
    left = LEFT.get(outcome, "what became of it is not known, the next run judges it")
    return f"{step} failed on its way: {why}; {left}{not_kept(failure)}"


def changed_by_others(attempt: Attempt, evidence: EvidenceSet) -> list[str]:
    """Return what an undo would take back although it is not ours any more; empty when it may be taken back."""
    if attempt.undo.get("service") != "kubernetes":
        return [] if in_place(attempt, evidence) is not False else ["the change is not there any more"]
    found = object_of(attempt.undo, evidence)
    return ["the object is another one now"] if found is None else still_ours(attempt.undo, found)
