# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which workloads of a cluster are tracking servers, told by discovery's own rules, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .discovery import commands_of, discover, main_container
from .evidence import API, Evidence, EvidenceSet, State
from .server_command import ServerCommand
from .settings import Settings

UNSAFE = re.compile(r"[^a-z0-9-]+")
SERVER_VARIABLES = frozenset({"MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"})
KINDS = {"deployments": "Deployment", "statefulsets": "StatefulSet"}
Workload = Mapping[str, Any]


@dataclass(frozen=True)
class Server:
    """One tracking server of one cluster."""

    namespace: str
    deployment: str
    labels: Mapping[str, str]
    image: str


def find_servers(workloads: Mapping[str, Iterable[Workload]], label_selectors: Iterable[str] = ()) -> list[Server]:
    """Find the tracking servers among the workloads of many namespaces.

    Args:
        workloads: lists of objects by resource, ``deployments`` and ``statefulsets``.
        label_selectors: labels (``key=value``) that a server must carry.

    Returns:
        every server by namespace and name. A workload that only looks a little like one is none: nobody chose it.
    """
    by_namespace: dict[str, dict[str, list[Workload]]] = {}
    for resource, items in workloads.items():
        for item in items:
            lists = by_namespace.setdefault(item["metadata"]["namespace"], {name: [] for name in KINDS})
            lists[resource].append(item)
    return [
        server
        for namespace, lists in sorted(by_namespace.items())
        for server in servers_of(namespace, lists, tuple(label_selectors))
    ]


def servers_of(namespace: str, lists: Mapping[str, list[Workload]], label_selectors: tuple[str, ...]) -> list[Server]:
    """Find the tracking servers of one namespace as a diagnosis would, which asks when there are several."""
    evidence = EvidenceSet(
        [
            Evidence(f"kubernetes.{name}", API, namespace, "", State.OK, {"items": list(items)})
            for name, items in lists.items()
        ]
    )
    found = discover(evidence, Settings(namespace=namespace, label_selectors=label_selectors))
    names = set(found.candidates) | ({found.target.deployment} if found.target else set())
    servers = []
    for item in sorted((row for rows in lists.values() for row in rows), key=lambda row: row["metadata"]["name"]):
        commands = commands_of(item, evidence)
        container = main_container(item, commands)
        if item["metadata"]["name"] in names and runs_server(commands[container["name"]]):
            image = str(container.get("image", ""))
            labels = item["metadata"].get("labels") or {}
            servers.append(Server(namespace, item["metadata"]["name"], labels, image))
    return servers


def runs_server(command: ServerCommand) -> bool:
    """Tell whether a container says itself that it serves: by its command line, or by what only a server is told."""
    return command.is_server or not SERVER_VARIABLES.isdisjoint({*command.environment, *command.references})


def short_name(cluster: str) -> str:
    """Return a cluster's name as a part of a host name; of an ARN of EKS that is its last part."""
    return UNSAFE.sub("-", cluster.rpartition("/")[2].lower()).strip("-") or "cluster"


def host_name(server: Server, cluster: str) -> str:
    """Name a server as a host: ``<deployment>.<namespace>.<cluster>``."""
    return f"{server.deployment}.{server.namespace}.{short_name(cluster)}"
