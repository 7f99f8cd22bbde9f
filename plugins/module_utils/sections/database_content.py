# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Database connection failures after the login: read-only, privileges, locks, and Force database migration."""

from __future__ import annotations

import re
from typing import Any

from ..core.discovery_stores import shared_endpoint
from ..core.evidence import CLOUD, DEBUG_COPY, Evidence
from ..core.findings import TO_DATABASE, Context, Finding, SectionResult, keys
from ..core.workload import probes_from_server, ready_pods, replica_sets, result_of, server_pods
from .database_facts import database_object, facts_of, origin, place
from .database_session import crowded

LOCK_PATIENCE_SECONDS = 5

CANCELED = re.compile(r"canceling statement due to (?:statement|lock) timeout")
TIMEOUT = re.compile(r"(?:statement|lock)_timeout=")

READ_ONLY_SOURCES = {
    "client": "the options in the URI ask for it",
    "user": "it is set for the database user (ALTER ROLE … SET default_transaction_read_only)",
    "database user": "it is set for the database user (ALTER ROLE … SET default_transaction_read_only)",
    "database": "it is set for the database (ALTER DATABASE … SET default_transaction_read_only)",
    "configuration file": "it is set for the whole instance (default_transaction_read_only)",
}
"""``pg_settings.source`` in words (PostgreSQL documentation, pg_settings)."""


def query(context: Context, result: SectionResult) -> None:
    """Judge what a session of the server's own user may do, and what keeps others waiting."""
    for item in probes_from_server(context, "probe.query"):
        crowded(context, item, result)
        read_only(context, item, result)
        privileges(context, item, result)
        objects(context, item, result)
        timeouts(context, item, result)
        blocking(context, item, result)


def read_only(context: Context, item: Evidence, result: SectionResult) -> None:
    value = item.value
    if not (value.get("transaction_read_only") or value.get("in_recovery")):
        return
    source = str(value.get("read_only_source") or "")
    why = "it is a replica" if value.get("in_recovery") else READ_ONLY_SOURCES.get(source, "")
    named = shared_endpoint(str(context.target.backend.get("host") or ""))[0] == "cluster-ro"
    if named:
        why = "the URI names the cluster's reader endpoint"
    result.findings.append(
        Finding(
            "database.read_only",
            origin(context)
            if named or (source == "client" and not value.get("in_recovery"))
            else database_object(context),
            f"{place(context)} answers read-only: nothing can be logged{f'; {why}' if why else ''}",
            keys([item, context.evidence.first("aws.db_instance", CLOUD)]),
            flow=TO_DATABASE,
            configured=True,
            measured=True,
            facts=facts_of(context, why=why or "nothing else is known", without="write either"),
        )
    )


def privileges(context: Context, item: Evidence, result: SectionResult) -> None:
    lost: dict[str, list[str]] = {}
    for name, allowed in (item.value.get("can_write") or {}).items():
        if allowed is False:
            privilege, dummy, table = name.partition("_")
            lost.setdefault(table, []).append(privilege.upper())
    if not lost:
        return
    tables: dict[str, list[str]] = {}
    for table, names in sorted(lost.items()):
        tables.setdefault("/".join(sorted(names)), []).append(table)
    missing = "; ".join(f"{names} on {', '.join(found)}" for names, found in tables.items())
    result.findings.append(
        Finding(
            "database.privileges_missing",
            database_object(context),
            f"database user {context.target.backend.get('user')} lacks {missing}",
            (item.key,),
            flow=TO_DATABASE,
            configured=True,
            measured=True,
            facts=facts_of(context, missing=missing, without="write either"),
        )
    )


def objects(context: Context, item: Evidence, result: SectionResult) -> None:
    """Find tables that the recorded revision has and the database has not, as after a partial restore."""
    missing = ", ".join(item.value.get("missing_tables") or [])
    recorded = any(seen.value.get("revision") for seen in probes_from_server(context, "probe.schema"))
    if not missing or not recorded:
        return
    result.findings.append(
        Finding(
            "database.objects_missing",
            database_object(context),
            f"the database has a schema of MLflow without {missing}",
            (item.key,),
            flow=TO_DATABASE,
            configured=True,
            measured=True,
            facts=facts_of(context, error=f"table {missing} is missing"),
        )
    )


def timeouts(context: Context, item: Evidence, result: SectionResult) -> None:
    """Tie answers that say a statement was canceled to the setting of the user or database that does so."""
    canceled = [
        answer
        for answer in context.evidence.all("probe.http")
        if answer.seen and CANCELED.search(str(answer.value.get("body") or ""))
    ]
    settings = [entry for entry in item.value.get("settings") or [] if TIMEOUT.match(entry)]
    if not canceled or not settings:
        return
    setting = ", ".join(sorted(settings))
    result.findings.append(
        Finding(
            "database.statement_canceled",
            database_object(context),
            f"the database ends MLflow's statements before they are done: {setting} is set for its user or database",
            keys([item, *canceled]),
            flow=TO_DATABASE,
            configured=True,
            measured=True,
            facts=facts_of(context, setting=setting),
        )
    )


def blocking(context: Context, item: Evidence, result: SectionResult) -> None:
    """Name the sessions at the head of the queue: those that MLflow's sessions wait for and that wait for nobody."""
    rows = [row for row in item.value.get("blocked") or [] if isinstance(row, dict)]
    waiting = {row.get("pid") for row in rows}
    user = context.target.backend.get("user")
    ours = [row for row in rows if row.get("user") == user and float(row.get("seconds") or 0) >= LOCK_PATIENCE_SECONDS]
    if not ours:
        return
    longest = max(float(row.get("seconds") or 0) for row in ours)
    for blocker in heads(rows, waiting):
        name = f"{blocker.get('user') or 'unknown user'}, {blocker.get('application') or 'unnamed'}"
        state = blocker.get("state") or "its state is hidden from MLflow's user"
        result.findings.append(
            Finding(
                "database.blocked_by_lock",
                f"session {blocker.get('pid')}",
                f"session {blocker.get('pid')} ({name}; {state}) holds a lock that MLflow waits for "
                f"since {longest:.0f} s",
                (item.key,),
                flow=TO_DATABASE,
                measured=True,
                configured=True,
                facts=facts_of(
                    context,
                    pid=blocker.get("pid"),
                    holder=blocker.get("user"),
                    idle_seconds=blocker.get("idle_seconds"),
                    backend_start=blocker.get("backend_start"),
                    application=name,
                    state=state,
                    seconds=blocker.get("seconds") or int(longest),
                ),
            )
        )


def heads(rows: list[dict[str, Any]], waiting: set[Any]) -> list[dict[str, Any]]:
    found = {
        (row.get("blocker") or {}).get("pid"): row.get("blocker") or {}
        for row in rows
        if (row.get("blocker") or {}).get("pid") not in waiting
    }
    return [found[pid] for pid in sorted(found, key=str)]


def schema(context: Context, result: SectionResult) -> None:
    """Hold the schema's revision against the image: MLflow compares them at its start, and only then."""
    for item in probes_from_server(context, "probe.schema"):
        value = item.value
        revision, head = value.get("revision"), value.get("image_head")
        if result_of(item) != "ok" or not head or revision == head or (not revision and not value.get("recorded")):
            continue
        if item.place != DEBUG_COPY and rolling_out(context):
            continue
        newer = value.get("image_knows") is False
        words = (
            f"the schema's revision is gone (alembic_version is empty), the image expects {head}"
            if not revision
            else f"the database's schema is at {revision}, the image expects {head}"
            + (" and does not know it: the schema is newer" if newer else "")
        )
        later = "; the running pods do not notice until they restart" if ready_pods(context) else ""
        result.findings.append(
            Finding(
                "database.schema_mismatch",
                database_object(context),
                words + later,
                (item.key,),
                flow=TO_DATABASE,
                configured=True,
                measured=True,
                facts=facts_of(
                    context, revision=revision or "nothing", head=head, upgradable=bool(revision) and not newer
                ),
            )
        )


def rolling_out(context: Context) -> bool:
    """During an upgrade the new pod migrates the schema while the old one, with the older image, is still there."""
    owners = {owner["name"] for pod in server_pods(context) for owner in pod["metadata"].get("ownerReferences") or []}
    return len(owners & {item["metadata"]["name"] for item in replica_sets(context)}) > 1
