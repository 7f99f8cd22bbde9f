# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the database: time-outs in its address, and the age of the password."""

from __future__ import annotations

import re
import urllib.parse
from datetime import timedelta
from typing import Any

from ..core.discovery_stores import dialect
from ..core.evidence import API, Evidence
from ..core.findings import Context, parse_time
from ..core.server_command import driver_settings, session_settings
from .items import ENTRY, Item, Patch, missing, ok, unknown, unseen, weak
from .server import command_of, database_look

OLDEST = timedelta(days=90)
RECOMMENDED = "connect_timeout=5&keepalives_idle=30&options=-c%20statement_timeout%3D60s%20-c%20" + (
    "idle_in_transaction_session_timeout%3D60s"
)
"""Field guide section 2.7."""
WANTED = {
    "connect_timeout": "connect_timeout=5",
    "keepalives_idle": "keepalives_idle=30",
    "statement_timeout": "options=-c%20statement_timeout%3D60s",
}
OFF = re.compile(r"^0+[a-z]*$")
"""A time-out of nothing is none."""


def judge(context: Context) -> list[Item]:
    """Judge the address of the database and the Secret that holds it."""
    return [uri_timeouts(context), secret_age(context)]


def secret_look(context: Context) -> Evidence | None:
    target = context.target
    return context.evidence.first("kubernetes.secrets", API, f"{target.namespace}/{target.backend.get('secret')}")


def secret_key(context: Context) -> dict[str, Any] | None:
    """Return what is known of the Secret's key that the address, or a part of it, comes from."""
    look = secret_look(context)
    if look is None or not look.seen:
        return None
    return (look.value["items"][0].get("keys") or {}).get(str(context.target.backend.get("key")))


def settings_of(context: Context) -> dict[str, str] | None:
    """Return the time-outs that hold for the server's connections; ``None`` when the address is not known.

    They stand in the address, in libpq's variables, or in the role's and database's own settings.
    """
    command = command_of(context)
    if command is None:
        return None
    text, found = command.setting("backend-store-uri"), secret_key(context)
    uri = (found or {}).get("uri") or {}
    settings = dict(uri.get("settings") or {}) | driver_settings(urllib.parse.urlsplit(text.replace("$", "")).query)
    if not text and not uri:
        return None
    environment = command.environment
    settings = session_settings(environment.get("PGOPTIONS", "")) | settings
    if environment.get("PGCONNECT_TIMEOUT"):
        settings.setdefault("connect_timeout", environment["PGCONNECT_TIMEOUT"])
    look = database_look(context)
    for row in (look.value.get("settings") or []) if look is not None and look.seen else []:
        name, dummy, value = str(row).partition("=")
        settings.setdefault(name, value)
    return {name: value for name, value in settings.items() if not OFF.match(value)}


def uri_timeouts(context: Context) -> Item:
    """Without time-outs of its own the server waits as long as the kernel does, and for a lock for ever."""
    id_, kind = "connections.uri_timeouts", dialect(context.target.backend)
    settings, look = settings_of(context), secret_look(context)
    if kind and kind != "postgresql":
        return unknown(id_, f"the backend store is {kind}, not PostgreSQL", "a PostgreSQL database")
    if settings is None and look is not None and look.seen:
        backend = context.target.backend
        return unknown(id_, f"Secret {backend.get('secret')} has no address under {backend.get('key')}", ENTRY, look)
    if settings is None or not kind:
        return unseen(id_, look, f"get secrets in namespace {context.target.namespace}")
    lacking = [name for name in WANTED if name not in settings]
    if not lacking:
        values = ", ".join(f"{name} {settings[name]}" for name in WANTED)
        return ok(id_, values, look)
    summary = f"the address sets no {', no '.join(lacking)}"
    grade = missing if len(lacking) == len(WANTED) else weak
    return grade(id_, summary, address_patch(context, settings, lacking), look)


def address_patch(context: Context, settings: dict[str, str], lacking: list[str]) -> tuple[Patch, ...]:
    """Add the time-outs to the address where it stands; the password passes through a pipe and is never shown."""
    backend, found = context.target.backend, secret_key(context)
    uri = (found or {}).get("uri")
    addition = RECOMMENDED if lacking == list(WANTED) else "&".join(WANTED[name] for name in lacking)
    if uri is None:
        return (Patch("kubectl", f"# add to the query of --backend-store-uri in the pod template:\n{addition}"),)
    if "options" in (uri.get("query_keys") or []) and "statement_timeout" in lacking:
        option = WANTED["statement_timeout"].partition("=")[2]
        return (Patch("kubectl", f"# the address has options already; add to them: {option}"),)
    sign = "&" if uri.get("query_keys") else "?"
    name, key, namespace = backend["secret"], backend["key"], context.target.namespace
    kind = f"{context.target.kind.lower()}/{context.target.deployment}"
    more = (sign + addition).replace("&", "\\&")
    text = (
        f"kubectl -n {namespace} get secret {name} -o go-template='{{{{index .data \"{key}\" | base64decode}}}}' \\\n"
        f"  | tr -d '\\n' | sed 's/$/{more}/' \\\n"
        f"  | kubectl -n {namespace} create secret generic {name} --from-file={key}=/dev/stdin --dry-run=client -o yaml"
        f" \\\n  | kubectl -n {namespace} patch secret {name} --patch-file=/dev/stdin\n"
        f"kubectl -n {namespace} rollout restart {kind}"
    )
    return (Patch("kubectl", text),)


def secret_age(context: Context) -> Item:
    """Date a Secret by its last change, which is its creation where nobody changed it since."""
    id_, look = "connections.secret_age", secret_look(context)
    name = context.target.backend.get("secret")
    if not name:
        why = "the password stands in the pod template" if has_literal(context) else "no Secret is known to hold it"
        return unknown(id_, why, "a Secret that the pod template names")
    if look is None or not look.seen:
        return unseen(id_, look, f"get secrets in namespace {context.target.namespace}")
    metadata = look.value["items"][0]["metadata"]
    moments = [row["time"] for row in metadata.get("lastChanged") or [] if row.get("time")]
    changed = max([*moments, str(metadata.get("creationTimestamp") or "")])
    if not changed:
        return unknown(id_, f"Secret {name} has no date", f"get secrets in namespace {context.target.namespace}", look)
    days = (context.now - parse_time(changed)).days
    summary = f"Secret {name} was changed {days} day{'' if days == 1 else 's'} ago"
    if context.now - parse_time(changed) <= OLDEST:
        return ok(id_, summary, look)
    return weak(id_, summary, (rotation(context, str(name)),), look)


def has_literal(context: Context) -> bool:
    command = command_of(context)
    return bool(command and "://" in command.setting("backend-store-uri"))


def rotation(context: Context, name: str) -> Patch:
    """Rotate in the order in which nothing fails: the database first, the Secret at once after it, then the pods."""
    namespace, backend = context.target.namespace, context.target.backend
    kind = f"{context.target.kind.lower()}/{context.target.deployment}"
    return Patch(
        "kubectl",
        f"# 1. in psql as the master user, which asks for the new password:  \\password {backend.get('user')}\n"
        f"# 2. the same password into the Secret (the file has the whole address and is removed at once)\n"
        f"kubectl -n {namespace} create secret generic {name} --from-file={backend.get('key')}=./address "
        f"--dry-run=client -o yaml | kubectl -n {namespace} patch secret {name} --patch-file=/dev/stdin\n"
        f"# 3. pods that run keep their connections; new ones take the new password\n"
        f"kubectl -n {namespace} rollout restart {kind}",
    )
