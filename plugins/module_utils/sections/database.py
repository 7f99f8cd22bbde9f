# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check RDS database, Database connection failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.discovery_stores import SERVERLESS, dialect, shared_endpoint
from ..core.evidence import CLOUD, Evidence, State
from ..core.findings import TO_DATABASE, Context, Finding, SectionResult, Unknown, keys
from ..core.workload import probes_from_server, result_of
from .database_content import query, schema
from .database_facts import (
    STILL_SERVING,
    attempts,
    behaviour_failed,
    database_object,
    facts_of,
    instance_of,
    logins,
    origin,
)
from .database_notes import notes
from .database_session import login
from .database_storage import storage
from .database_transport import transport

TRANSITIONS = frozenset(
    {
        "backing-up",
        "configuring-enhanced-monitoring",
        "configuring-iam-database-auth",
        "configuring-log-exports",
        "converting-to-vpc",
        "creating",
        "maintenance",
        "modifying",
        "moving-to-vpc",
        "rebooting",
        "renaming",
        "resetting-master-credentials",
        "starting",
        "storage-config-upgrade",
        "storage-optimization",
        "storage-initialization",
        "upgrading",
    }
)
DEFAULT_PORT = 5432
RDS_DOMAIN = ".rds.amazonaws.com"
STOPPED = frozenset({"stopped", "stopping"})
STORAGE_FULL = "storage-full"
"""DB instance statuses (Amazon RDS user guide, Viewing DB instance status)."""


def analyze(context: Context) -> SectionResult:
    """Judge the way to the database layer by layer: instance, name, TCP, login, query, schema."""
    result = SectionResult()
    kind = dialect(context.target.backend) or "postgresql"
    if kind in SERVERLESS:
        return result
    instance = instance_of(context)
    if instance is not None:
        judge_instance(context, instance, result)
    elif shared_endpoint(str(context.target.backend.get("host") or ""))[0] == "proxy":
        what = "state, security groups and metrics of the instance behind the RDS Proxy"
        result.unknown.append(Unknown(what, "the targets of a proxy are not read", "mlflow_db_instance_identifier"))
    names(context, instance, result)
    transport(context, instance, result)
    if kind != "postgresql":
        why = f"the backend store is {kind}: only PostgreSQL is asked"
        result.unknown.append(Unknown("login, write permission and schema of the database", why, "a client of its own"))
        return result
    login(context, result)
    query(context, result)
    schema(context, result)
    storage(context, instance, result)
    notes(context, instance, result)
    rule_out(context, result)
    return result


def judge_instance(context: Context, instance: Mapping[str, Any], result: SectionResult) -> None:
    status = instance.get("DBInstanceStatus", "")
    proof = context.evidence.first("aws.db_instance", CLOUD)
    events = context.evidence.first("aws.rds_events", CLOUD)
    failed = behaviour_failed(context)
    identifier = (
        "database.instance_stopped"
        if status in STOPPED
        else "database.storage_full"
        if status == STORAGE_FULL
        else "database.instance_in_transition"
        if status in TRANSITIONS - STILL_SERVING
        else "database.instance_failed"
        if status not in STILL_SERVING
        else ""
    )
    works = not failed and any(result_of(item) == "ok" for item in logins(context))
    if not identifier or (works and identifier in ("database.instance_in_transition", "database.instance_failed")):
        return
    result.findings.append(
        Finding(
            identifier,
            database_object(context),
            f"RDS instance {database_object(context)} is {status}",
            keys([proof, events, *failed]),
            flow=TO_DATABASE,
            since=last_event(context, ("stopped", "stopping", "shutdown"))
            if identifier == "database.instance_stopped"
            else None,
            configured=True,
            measured=bool(failed),
            facts=facts_of(context, status=status),
        )
    )


def last_event(context: Context, words: tuple[str, ...]) -> str | None:
    events = (context.evidence.value("aws.rds_events", CLOUD) or {}).get("items", [])
    moments = [
        str(item.get("Date", ""))
        for item in events
        if any(word in str(item.get("Message", "")).lower() for word in words)
    ]
    return max(moments, default=None)


def names(context: Context, instance: Mapping[str, Any] | None, result: SectionResult) -> None:
    """Compare the URI with the endpoint that RDS describes, and look at the name as the pods resolve it."""
    backend, endpoint = context.target.backend, (instance or {}).get("Endpoint") or {}
    host, port = str(backend.get("host") or ""), int(backend.get("port") or DEFAULT_PORT)
    proof = context.evidence.first("aws.db_instance", CLOUD)
    unresolved = [item for item in probes_from_server(context, "probe.dns", host) if result_of(item) == "not_found"]
    unreached = [item for item in attempts(context) if result_of(item) != "ok"]
    if unescaped(context, result):
        return
    # An alias or an address of the instance is no fault by itself: only a name that leads nowhere is, or one that looks
    # like an RDS endpoint and is not this instance's.
    address = "" if shared_endpoint(host)[0] else str(endpoint.get("Address") or "")
    misspelt = bool(unresolved) or (bool(unreached) and host.endswith(RDS_DOMAIN))
    if address and host and address != host and misspelt:
        words = f"the backend store URI names {host}, RDS describes {address}"
        seen = [*unresolved, *unreached]
        result.findings.append(blame(context, "database.wrong_endpoint", words, [proof, *seen], endpoint=address))
    listens = endpoint.get("Port")
    if listens and host and listens != port and unreached:
        words = f"the backend store URI says port {port}, RDS listens on {listens}"
        result.findings.append(blame(context, "database.wrong_port", words, [proof, *unreached], endpoint_port=listens))
    absent = proof is not None and proof.state is State.ABSENT and bool(context.target.db_instance_identifier)
    if absent and unresolved and last_event(context, ("deleted",)):
        words = f"RDS instance {database_object(context)} was deleted"
        result.findings.append(blame(context, "database.instance_missing", words, [proof, *unresolved]))
    if unresolved:
        known = f", and RDS has no instance {database_object(context)}" if absent else ""
        words = f"the pods cannot resolve {host}: the name does not exist{known}"
        result.findings.append(blame(context, "database.name_not_found", words, [proof, *unresolved]))


def unescaped(context: Context, result: SectionResult) -> bool:
    """Find a password whose end SQLAlchemy takes for the host: the first ``@`` ends the password."""
    written = [
        item
        for item in probes_from_server(context, "probe.environment")
        if "@" in str((item.value.get("backend") or {}).get("host"))
    ]
    if written:
        unresolved = [item for item in probes_from_server(context, "probe.dns") if "@" in item.subject]
        words = f"the password in the URI in {origin(context)} holds an @ that is not escaped: its end is read as host"
        result.findings.append(blame(context, "database.uri_unescaped", words, [*written, *unresolved]))
    return bool(written)


def blame(context: Context, identifier: str, words: str, seen: Iterable[Evidence | None], **facts: Any) -> Finding:
    """Build a finding about the address of the database."""
    of_rds = identifier == "database.instance_missing"
    return Finding(
        identifier,
        database_object(context) if of_rds else origin(context),
        words,
        keys(seen),
        flow=TO_DATABASE,
        configured=identifier != "database.name_not_found",
        measured=True,
        facts=facts_of(context, **facts),
    )


def rule_out(context: Context, result: SectionResult) -> None:
    connected = [item for item in attempts(context) if result_of(item) == "ok"]
    logged_in = [item for item in logins(context) if result_of(item) == "ok"]
    instance = context.evidence.first("aws.db_instance", CLOUD)
    available = instance is not None and instance.seen and instance.value.get("DBInstanceStatus") in STILL_SERVING
    if connected:
        result.rule_out("database.security_group_closed", *connected)
        result.rule_out("database.not_listening", *connected)
    if logged_in:
        result.rule_out("database.password_wrong", *logged_in)
        result.rule_out("database.connections_exhausted", *logged_in)
    if available and instance is not None:
        result.rule_out("database.instance_stopped", instance)
    queried = [
        item for item in probes_from_server(context, "probe.query") if item.value.get("transaction_read_only") is False
    ]
    if queried:
        result.rule_out("database.read_only", *queried)
