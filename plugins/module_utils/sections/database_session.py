# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Database connection failures behind an open port: what the database says to the login."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..core.evidence import API, CLOUD, DEBUG_COPY, POD, Evidence, State
from ..core.findings import TO_DATABASE, Context, Finding, SectionResult, Unknown, keys
from ..core.workload import ready_pods, result_of
from .database_facts import database_object, facts_of, logins, origin, place

LOGIN_ERRORS = (
    (
        "database.password_wrong",
        re.compile(
            r"password authentication failed|PAM authentication failed|no such role|role \"[^\"]+\" does not exist"
        ),
    ),
    ("database.password_missing", re.compile(r"no password supplied|empty password")),
    (
        "database.uri_invalid",
        re.compile(r"invalid \w+ value: |invalid (?:connection option|URI query parameter|integer value|dsn)"),
    ),
    ("database.unknown_database", re.compile(r"database \"[^\"]*\" does not exist", re.DOTALL)),
    (
        "database.certificate_rejected",
        re.compile(r"certificate verify failed|root certificate file|does not match host name"),
    ),
    ("database.connection_limit_reached", re.compile(r"too many connections for (?P<limit>role|database)")),
    ("database.connections_exhausted", re.compile(r"too many clients|remaining connection slots")),
    (
        "database.not_accepting",
        re.compile(
            r"not currently accepting connections|is starting up|is shutting down|not yet accepting|in recovery mode"
        ),
    ),
    (
        "database.tls_required",
        re.compile(r"(?:no pg_hba\.conf entry|pg_hba\.conf rejects).*(?:no encryption|SSL off)", re.DOTALL),
    ),
    ("database.privileges_missing", re.compile(r"permission denied for database")),
    (
        "database.client_not_admitted",
        re.compile(r"no pg_hba\.conf entry|pg_hba\.conf rejects|is not permitted to log in"),
    ),
)
"""PostgreSQL and libpq texts (field guide section 9, measured with PostgreSQL 15).

The refusals of an unencrypted attempt come last: with ``sslmode=prefer``, libpq's default, each refusal of the
encrypted attempt is followed by one of those.
"""

OF_THE_SERVER = frozenset(
    {
        "database.connection_limit_reached",
        "database.connections_exhausted",
        "database.not_accepting",
        "database.client_not_admitted",
        "database.privileges_missing",
    }
)
"""Refusals for which nothing that is configured for MLflow is to blame."""

FEWEST_FREE = 1
OURS = "mlflow-runbook"


def login(context: Context, result: SectionResult) -> None:
    """Say why the database refuses new logins; what is configured now counts before what old pods still use."""
    refused = [(item, reason) for item in logins(context) if (reason := reason_of(item))]
    if old_settings(context, result) or not refused:
        return
    items = [item for item, dummy in refused]
    text = " ".join(str(item.value.get("error", "")) for item in items)
    result.findings.append(
        Finding(
            "database.login_denied",
            database_object(context),
            f"the database refuses the login of the pods: {text[:160]}",
            keys(items),
            flow=TO_DATABASE,
            measured=True,
            facts=facts_of(context, error=text),
        )
    )
    identifier = refused[0][1]
    if identifier == "database.password_wrong" and not configured_now(context):
        what = f"whether {origin(context)} holds another password than the pods were started with"
        result.unknown.append(
            Unknown(what, "it may not be read, and no new pod tried it", "get secrets, or create pods")
        )
    elif identifier != "database.login_denied":
        result.findings.append(cause_of(context, identifier, items, text))


def configured_now(context: Context) -> bool:
    """Tell whether we know what is configured now, and not only what pods were started with."""
    hidden = any(item.state is State.FORBIDDEN for item in context.evidence.all("kubernetes.secrets", API))
    tried = [item for item in context.evidence.all("probe.login", DEBUG_COPY) if item.seen]
    return not hidden or not context.target.backend.get("secret") or bool(tried)


def reason_of(item: Evidence) -> str:
    """Return the kind of finding that a login's outcome stands for; empty when it worked or never got an answer."""
    if result_of(item) == "ok":
        return ""
    text = str(item.value.get("error", ""))
    known = next((name for name, pattern in LOGIN_ERRORS if pattern.search(text)), "")
    return known or ("database.login_denied" if result_of(item) == "denied" else "")


def old_settings(context: Context, result: SectionResult) -> bool:
    """Find pods that cannot reach their database with what they started with, while what is configured now works."""
    fresh = [item for item in context.evidence.all("probe.login", DEBUG_COPY) if item.seen and result_of(item) == "ok"]
    theirs = (context.evidence.value("probe.environment", POD) or {}).get("backend") or {}
    host = str(theirs.get("host") or context.target.backend.get("host") or "")
    failing = [
        item
        for what in ("probe.dns", "probe.tcp", "probe.login")
        for item in context.evidence.all(what, POD)
        if item.seen
        and result_of(item) != "ok"
        and (what == "probe.login" or item.subject.partition(":")[0] == host)
        and reason_of(item) not in OF_THE_SERVER
    ]
    if not fresh or not failing:
        return False
    secret = secret_of(context)
    result.findings.append(
        Finding(
            "database.credentials_stale",
            origin(context),
            f"the pods still use an older password or address than {origin(context)}, whose login works",
            keys([*fresh, *failing, context.evidence.first("kubernetes.secrets", API)]),
            flow=TO_DATABASE,
            since=last_change(secret) if secret else None,
            configured=secret is not None,
            measured=True,
            facts=facts_of(context, error=str(failing[0].value.get("error", ""))[:300]),
        )
    )
    return True


def cause_of(context: Context, identifier: str, denied: list[Evidence], text: str) -> Finding:
    secret = secret_of(context)
    user, database = context.target.backend.get("user"), context.target.backend.get("database")
    by_server = identifier in OF_THE_SERVER
    limited = re.search(r"too many connections for (?P<what>role|database) \"(?P<name>[^\"]+)\"", text)
    limit = f"{limited['what']}/{limited['name']}" if limited else database_object(context)
    words = {
        "database.password_wrong": f"the password in {origin(context)} is not the one of database user {user}",
        "database.password_missing": f"{origin(context)} holds no password",
        "database.uri_invalid": f"the database driver does not accept the URI in {origin(context)}: {text[:160]}",
        "database.unknown_database": f"database {database!r} does not exist on {place(context)}",
        "database.tls_required": f"{place(context)} accepts only TLS, the URI in {origin(context)} does not ask for it",
        "database.certificate_rejected": f"the URI in {origin(context)} asks to verify the certificate of "
        f"{place(context)}, which fails",
        "database.client_not_admitted": f"{place(context)} does not admit user {user} from here: {text[:160]}",
        "database.privileges_missing": f"database user {user} lacks CONNECT on database {database}",
        "database.connection_limit_reached": f"the connection limit of {limit} on {place(context)} is reached",
        "database.connections_exhausted": f"{place(context)} has no connection left: {share(context)}",
        "database.not_accepting": f"{place(context)} does not accept connections now: {text[:160]}",
    }
    return Finding(
        identifier,
        limit
        if identifier == "database.connection_limit_reached"
        else database_object(context)
        if by_server
        else origin(context),
        words[identifier],
        keys([*denied, *own_connections(context), context.evidence.first("kubernetes.secrets", API)]),
        flow=TO_DATABASE,
        since=None if by_server or secret is None else last_change(secret),
        configured=secret is not None,
        measured=True,
        facts=facts_of(context, error=text[:300], holders=share(context), limit=limit, missing="CONNECT"),
    )


def own_connections(context: Context) -> list[Evidence]:
    return [item for item in context.evidence.all("probe.own_connections", POD) if item.seen]


def share(context: Context) -> str:
    """Say how much of the connections is MLflow's, when nobody can log in to see who holds the others."""
    metrics = context.evidence.value("aws.metrics", CLOUD) or {}
    points = (metrics.get("DatabaseConnections") or {}).get("points") or []
    ours = [int(item.value.get("count") or 0) for item in own_connections(context)]
    if not ours:
        return "who holds them could not be seen"
    pods = max(len(ready_pods(context)), 1)
    mine = f"MLflow holds about {max(ours) * pods} ({pods} x {max(ours)})"
    counted = f", RDS counted {int(points[-1][1])} at {points[-1][0]}" if points else ""
    return f"{mine}{counted}; who holds the others could not be seen"


def crowded(context: Context, item: Evidence, result: SectionResult) -> None:
    """Find a database in which our own login took one of the last connections, and name who holds most."""
    value = item.value
    most, reserved, used = (value.get(name) for name in ("max_connections", "reserved", "used"))
    if not (isinstance(most, int) and isinstance(reserved, int) and isinstance(used, int)):
        return
    free = most - reserved - (used - 1)
    if free > FEWEST_FREE:
        return
    held: dict[str, int] = {}
    for row in value.get("connections") or []:
        name = f"{row.get('user')} ({row.get('application') or 'unnamed'})"
        held[name] = held.get(name, 0) + int(row.get("count") or 0)
    largest = sorted(held.items(), key=lambda entry: -entry[1])[:3]
    holders = ", ".join(f"{name} holds {count}" for name, count in largest)
    result.findings.append(
        Finding(
            "database.connections_exhausted",
            database_object(context),
            f"{place(context)} has {free} of {most - reserved} connections left: {holders}",
            (item.key,),
            flow=TO_DATABASE,
            configured=True,
            measured=True,
            facts=facts_of(context, holders=holders, error="", limit=most - reserved),
        )
    )


def secret_of(context: Context) -> dict[str, Any] | None:
    name = context.target.backend.get("secret")
    for item in context.evidence.objects("kubernetes.secrets"):
        if item["metadata"]["name"] == name:
            return item
    return None


def last_change(secret: Mapping[str, Any]) -> str | None:
    """Return when a Secret was last written, if that was after its creation."""
    moments = [item["time"] for item in secret["metadata"].get("lastChanged") or [] if item.get("time")]
    latest = max(moments, default=None)
    return latest if latest != secret["metadata"].get("creationTimestamp") else None
