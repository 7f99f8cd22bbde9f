# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and measurements of the database that its analyzers share."""

from __future__ import annotations

from typing import Any

from ..core.evidence import CLOUD, Evidence
from ..core.findings import Context
from ..core.workload import probes_from_server, result_of, server_pods

STILL_SERVING = frozenset(
    {
        "available",
        "backing-up",
        "configuring-enhanced-monitoring",
        "configuring-log-exports",
        "storage-optimization",
        "storage-initialization",
        "storage-config-upgrade",
    }
)
"""DB instance statuses in which connections work (Amazon RDS user guide, Viewing DB instance status)."""


def place(context: Context) -> str:
    backend = context.target.backend
    return f"{backend.get('host') or 'the database'}:{backend.get('port') or 5432}"


def origin(context: Context) -> str:
    backend = context.target.backend
    return (
        f"secret/{backend['secret']}"
        if backend.get("secret")
        else f"{context.target.kind.lower()}/{context.target.deployment}"
    )


def database_object(context: Context) -> str:
    return context.target.db_instance_identifier or str(context.target.backend.get("host") or "database")


def facts_of(context: Context, **more: Any) -> dict[str, Any]:
    backend = context.target.backend
    return {
        "instance": context.target.db_instance_identifier,
        "host": backend.get("host"),
        "port": backend.get("port"),
        "user": backend.get("user"),
        "database": backend.get("database"),
        "origin": origin(context),
        **more,
    }


def instance_of(context: Context) -> dict[str, Any] | None:
    return context.evidence.value("aws.db_instance", CLOUD)


def attempts(context: Context) -> list[Evidence]:
    host = str(context.target.backend.get("host") or "")
    return [item for item in probes_from_server(context, "probe.tcp") if host and item.subject.startswith(f"{host}:")]


def logins(context: Context) -> list[Evidence]:
    return probes_from_server(context, "probe.login")


def behaviour_failed(context: Context) -> list[Evidence]:
    """Return the measurements that show that new connections to the database fail."""
    return [item for item in [*attempts(context), *logins(context)] if result_of(item) != "ok"]


def client_addresses(context: Context) -> list[str]:
    """Return the addresses that the database sees: the pods', which the VPC CNI does not translate inside the VPC."""
    return [pod["status"]["podIP"] for pod in server_pods(context) if pod.get("status", {}).get("podIP")]
