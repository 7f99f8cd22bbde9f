# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe that runs inside a pod: a specification in, one JSON document out."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.parse
from functools import partial
from typing import Any, Callable

from . import container, database, disk, network, repairs, storage, web
from .common import Record, redact_data, run_together

OTHER_PORTS = {"mysql": 3306, "mariadb": 3306, "mssql": 1433}
HANG_SECONDS = 10.0
"""A call that hangs this long while the database cannot be reached either hangs because of it."""


def secrets_of(backend: dict[str, Any], given: list[str]) -> tuple[str, ...]:
    """Return every spelling of a secret that our own output could contain."""
    parts = [backend["password"], urllib.parse.unquote(backend["password"]), backend["host"].rpartition("@")[0]]
    names = {backend["user"], backend["database"]}
    return tuple({value for value in (*parts, *given) if len(value) > 3 and value not in names})


def database_job(record: Record, backend: dict[str, Any], name: str, settle_seconds: float) -> Callable[[], None]:
    """Measure name, port, TLS, login and content of the backend store, each only when the one before it worked."""

    def job() -> None:
        host, port = backend["host"], int(backend["port"]) if backend["port"].isdigit() else 5432
        shown = container.shown_host(host)
        subject = f"{name or shown}:{port}/{backend['database']}"
        if not backend["scheme"].startswith("postgres"):
            other_database(record, backend, settle_seconds)
            record.skip(
                "probe.login", subject, f"the backend store is {backend['scheme'] or 'not set'}, not PostgreSQL"
            )
            return
        if host and record.measure("probe.dns", shown, lambda: network.resolve(host)) is None:
            record.skip("probe.tcp", f"{shown}:{port}", "the name does not resolve")
            return
        if host and not network.postgresql_port(record, host, port, settle_seconds):
            record.skip("probe.login", subject, "the port does not answer")
            return
        record.measure("probe.own_connections", f"{host}:{port}", lambda: held_by_us(port))
        database.probe(record, backend, subject)

    return job


def other_database(record: Record, backend: dict[str, Any], settle_seconds: float) -> None:
    """Measure name and port of a database server that is not PostgreSQL."""
    kind = backend["scheme"].partition("+")[0]
    port = int(backend["port"]) if backend["port"].isdigit() else OTHER_PORTS.get(kind)
    host = backend["host"]
    if host and port and record.measure("probe.dns", host, lambda: network.resolve(host)) is not None:
        network.tcp(record, host, port, settle_seconds)


def held_by_us(port: int) -> dict[str, Any]:
    """Count the connections that this pod already holds: when no login is left, only they tell who took them."""
    texts = [container.read_text(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    return {"count": sum(network.own_connections(text, port) for text in texts)}


def reach_job(record: Record, target: dict[str, Any]) -> Callable[[], None]:
    """Measure name and port of one HTTP target, then its requests side by side."""

    def job() -> None:
        host, requests = target["host"], target["requests"]
        is_name = not host.replace(".", "").isdigit()
        if is_name and record.measure("probe.dns", host, lambda: network.resolve(host)) is None:
            return
        settling = target["settle_seconds"], target["tries"], target["through"]
        if network.tcp(record, host, target["port"], *settling):
            jobs = [partial(web.probe, record, item) for item in requests]
            run_together(jobs, max((item["seconds"] for item in requests), default=0.0) + 1)

    return job


def storage_job(record: Record, wanted: dict[str, Any], environment: dict[str, str]) -> Callable[[], None]:
    return lambda: storage.probe(record, wanted, environment, container.has_room(container.memory()))


def run(wanted: dict[str, Any]) -> dict[str, Any]:
    """Carry out a specification.

    Args:
        wanted: see ``collect.probe_spec``, which builds it.

    Returns:
        ``rows`` (kind, subject, state, value or detail of each probe) and ``seconds``.
    """
    begun = time.monotonic()
    before = container.throttling()
    record = Record()
    found = container.processes()
    words = container.server_words(found) or wanted["words"]
    environment = container.server_environment(found)
    backend = container.split_uri(container.backend_uri(words, environment), environment)
    secrets = secrets_of(backend, wanted["secrets"])
    jobs: list[Callable[[], None]] = []
    if wanted["server"]:
        record.measure("probe.environment", "", lambda: container.describe(found, words, environment, backend))
        record.measure("probe.identity", "", lambda: storage.identity(environment))
        if wanted["cache"] is not None:
            record.measure("probe.disk", "", lambda: disk.measure(wanted["cache"], environment))
        if wanted["database"] is not None:
            jobs.append(database_job(record, backend, wanted["database"], wanted["settle_seconds"]))
        if wanted["storage"]:
            jobs.append(storage_job(record, wanted["storage"], environment))
    for target in wanted["targets"]:
        jobs.append(reach_job(record, target))
    for client in wanted["clients"]:
        jobs.append(partial(web.probe_client, record, client))

    def enough() -> bool:
        late = time.monotonic() - begun > HANG_SECONDS
        return late and wanted["server"] and record.failed("probe.dns", "probe.tcp", "probe.login")

    run_together(jobs, wanted["seconds"], enough)
    if wanted["server"]:
        record.measure("probe.throttling", "", lambda: container.throttled_since(before))
    return {"rows": redact_data(record.rows(), secrets), "seconds": round(time.monotonic() - begun, 3)}


def main(wanted: dict[str, Any]) -> None:
    """Print the results and end at once, whatever still hangs."""
    answer = repairs.OPERATIONS[wanted["operation"]](wanted) if "operation" in wanted else run(wanted)
    sys.stdout.write(json.dumps(answer, default=str))
    sys.stdout.flush()
    os._exit(0)
