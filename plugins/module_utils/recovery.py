# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A failure that is over: a server that works now, failed its clients minutes ago, and was not repaired by us."""

from __future__ import annotations

from datetime import timedelta

from .core.evidence import API, CLOUD, Evidence
from .core.findings import Context, parse_time
from .core.verdict import Recovery
from .sections import logs

MEMORY = timedelta(minutes=5)
"""A person who is called now still has to hear of a failure that ended this recently; an older one is history."""

PAUSE = timedelta(minutes=1)
"""Failures further apart than this are not one incident."""

LEAST_FAILURES = 2
"""One failed call is no incident: a single pooled connection may break and be replaced."""


def recovery(context: Context, repaired: str = "") -> Recovery | None:
    """Tell what failed lately, when nothing fails any more.

    Calls that the server itself answered with an error count, error texts do not: those may be of any origin.

    Args:
        context: the server, whose verdict is healthy.
        repaired: when a step of ours last changed something, ISO 8601 in UTC; what ended by our repair has the outcome
            ``fixed``, and the server is simply healthy again.
    """
    calls = sorted(
        (at, status) for at, dummy, path, status in logs.accesses(context) if at and path.startswith(logs.API_PATHS)
    )
    failed = [at for at, status in calls if status >= logs.SERVER_ERROR]
    if not failed or context.now - parse_time(failed[-1]) > MEMORY:
        return None
    begin = first_of_incident(failed)
    count = sum(at >= begin for at in failed)
    end = next((at for at, status in calls if status < logs.SERVER_ERROR and at > failed[-1]), "")
    if count < LEAST_FAILURES or not end or repaired >= begin:
        return None
    said = last_words(context, begin, end)
    words = f"{count} calls failed" + (f"; the log says: {said.text.strip()}" if said else "")
    events, told = rds_events(context, begin)
    sources = {item.key: item for item in context.evidence.all("kubernetes.pod_log", API) if item.seen}
    return Recovery(words + told, begin, end, (*sources, *([events.key] if events else [])))


def first_of_incident(moments: list[str]) -> str:
    """Return the moment at which the last incident began.

    Args:
        moments: of failures, ISO 8601, oldest first, at least one.
    """
    begin = moments[-1]
    for moment in reversed(moments):
        if parse_time(begin) - parse_time(moment) > PAUSE:
            break
        begin = moment
    return begin


def last_words(context: Context, begin: str, end: str) -> logs.Match | None:
    """Return the last error text of the incident that names a layer."""
    slack = PAUSE.total_seconds()
    said = [
        match
        for match in logs.matches(context)
        if match.signature.finding
        and match.at
        and match.at <= end
        and (parse_time(begin) - parse_time(match.at)).total_seconds() <= slack
    ]
    named = [match for match in said if match.signature.id != "start_retry"]
    return max(named or said, key=lambda match: match.at, default=None)


def rds_events(context: Context, begin: str) -> tuple[Evidence | None, str]:
    """Return what RDS reported since shortly before the incident, and the evidence of it."""
    found = context.evidence.first("aws.rds_events", CLOUD)
    if found is None or not found.seen:
        return None, ""
    since = parse_time(begin) - PAUSE
    told = [
        f"{item.get('Message')} ({item.get('Date')})"
        for item in found.value.get("items", [])
        if item.get("Date") and parse_time(str(item["Date"])) >= since
    ]
    return (found, f"; RDS says: {', '.join(told)}") if told else (None, "")
