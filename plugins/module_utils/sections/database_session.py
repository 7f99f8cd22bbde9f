# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Database connection failures behind an open port: login, queries, locks, schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..core.evidence import API, CLOUD, DEBUG_COPY, Evidence
from ..core.findings import TO_DATABASE, Context, Finding, SectionResult, keys
from ..core.workload import probes_from_server, ready_pods, result_of
from .database_facts import behaviour_failed, database_object, facts_of, logins, origin, place

LOGIN_ERRORS = (
    (
        "database.password_wrong",
        re.compile(
            r"password authentication failed|PAM authentication failed|no such role|role \"[^\"]+\" does not exist"
        ),
    ),
    ("database.password_missing", re.compile(r"no password supplied|empty password")),
    ("database.unknown_database", re.compile(r"database \"[^\"]*\" does not exist", re.DOTALL)),
    ("database.tls_required", re.compile(r"no pg_hba\.conf entry|pg_hba\.conf rejects")),
    (
        "database.certificate_rejected",
        re.compile(r"certificate verify failed|root certificate file|does not match host name"),
    ),
    (
        "database.connections_exhausted",
        re.compile(r"too many clients|remaining connection slots|too many connections for"),
    ),
    (
        "database.not_accepting",
        re.compile(
            r"not currently accepting connections|is starting up|is shutting down|not yet accepting|in recovery mode"
            r"|not permitted to log in"
        ),
    ),
)
"""PostgreSQL and libpq texts (field guide section 9, measured with PostgreSQL 15)."""

LOCK_PATIENCE_SECONDS = 5


def login(context: Context, result: SectionResult) -> None:
    denied = [item for item in logins(context) if result_of(item) == "denied"]
    if not denied:
        return
    text = " ".join(str(item.value.get("error", "")) for item in denied)
    result.findings.append(
        Finding(
            "database.login_denied",
            database_object(context),
            f"the database refuses the login of the pods: {text[:160]}",
            keys(denied),
            flow=TO_DATABASE,
            measured=True,
            facts=facts_of(context, error=text),
        )
    )
    identifier = next((name for name, pattern in LOGIN_ERRORS if pattern.search(text)), None)
    if identifier is None:
        return
    fresh = [item for item in logins(context) if item.place == DEBUG_COPY]
    if identifier == "database.password_wrong" and any(result_of(item) == "ok" for item in fresh):
        identifier = "database.credentials_stale"
    secret = secret_of(context)
    user, database = context.target.backend.get("user"), context.target.backend.get("database")
    words = {
        "database.password_wrong": f"the password in {origin(context)} is not the one of database user {user}",
        "database.credentials_stale": f"the pods still use an older password than {origin(context)}, whose login works",
        "database.password_missing": f"{origin(context)} holds no password",
        "database.unknown_database": f"database {database!r} does not exist on {place(context)}",
        "database.tls_required": f"{place(context)} accepts only TLS, the URI in {origin(context)} does not ask for it",
        "database.certificate_rejected": f"the certificate of {place(context)} is not accepted",
        "database.connections_exhausted": f"{place(context)} has no connection left",
        "database.not_accepting": f"{place(context)} does not accept connections now",
    }
    at_database = identifier in ("database.connections_exhausted", "database.not_accepting")
    result.findings.append(
        Finding(
            identifier,
            database_object(context) if at_database else origin(context),
            words[identifier],
            keys([*denied, context.evidence.first("kubernetes.secrets", API)]),
            flow=TO_DATABASE,
            since=None if at_database or secret is None else last_change(secret),
            configured=secret is not None,
            measured=True,
            facts=facts_of(context, error=text[:300], holders=text[:200]),
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


def query(context: Context, result: SectionResult) -> None:
    for item in probes_from_server(context, "probe.query"):
        value = item.value
        if value.get("transaction_read_only") or value.get("in_recovery"):
            result.findings.append(
                Finding(
                    "database.read_only",
                    database_object(context),
                    f"{place(context)} answers read-only: nothing can be logged",
                    keys([item, context.evidence.first("aws.db_instance", CLOUD)]),
                    flow=TO_DATABASE,
                    configured=True,
                    measured=True,
                    facts=facts_of(context),
                )
            )
        writable = value.get("can_write") or {}
        missing = sorted(name.replace("_", " on ", 1) for name, allowed in writable.items() if allowed is False)
        if missing and probed_schema(context):
            result.findings.append(
                Finding(
                    "database.privileges_missing",
                    database_object(context),
                    f"database user {context.target.backend.get('user')} lacks {', '.join(missing)}",
                    (item.key,),
                    flow=TO_DATABASE,
                    configured=True,
                    measured=True,
                    facts=facts_of(context, missing=", ".join(missing)),
                )
            )
        blocking(context, item, result)


def probed_schema(context: Context) -> bool:
    return any(item.value.get("revision") for item in probes_from_server(context, "probe.schema"))


def blocking(context: Context, item: Evidence, result: SectionResult) -> None:
    for blocked in item.value.get("blocked") or []:
        if not isinstance(blocked, dict) or float(blocked.get("seconds") or 0) < LOCK_PATIENCE_SECONDS:
            continue
        blocker = blocked.get("blocker") or {}
        facts = facts_of(
            context,
            pid=blocker.get("pid"),
            application=blocker.get("application") or "unnamed",
            state=blocker.get("state"),
            seconds=blocker.get("seconds"),
        )
        result.findings.append(
            Finding(
                "database.blocked_by_lock",
                f"session {blocker.get('pid')}",
                f"session {blocker.get('pid')} ({blocker.get('state')}) blocks MLflow's queries",
                (item.key,),
                flow=TO_DATABASE,
                measured=True,
                configured=True,
                facts=facts,
            )
        )
        return


def schema(context: Context, result: SectionResult) -> None:
    for item in probes_from_server(context, "probe.schema"):
        revision, head = item.value.get("revision"), item.value.get("image_head")
        if not revision or not head or revision == head:
            continue
        if ready_pods(context) and not behaviour_failed(context) and item.place != DEBUG_COPY:
            continue
        result.findings.append(
            Finding(
                "database.schema_mismatch",
                database_object(context),
                f"the database's schema is at {revision}, the image expects {head}",
                (item.key,),
                flow=TO_DATABASE,
                configured=True,
                measured=True,
                facts=facts_of(context, revision=revision, head=head),
            )
        )
