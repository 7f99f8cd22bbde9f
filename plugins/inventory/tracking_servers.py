# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow tracking servers of one or many clusters as hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: tracking_servers
short_description: MLflow tracking servers of Kubernetes clusters as hosts
version_added: 0.1.0
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
description:
  - Lists Deployments and StatefulSets, and makes a host of each that runs an MLflow tracking server.
  - A host is named C(<deployment>.<namespace>.<cluster>) and has the variables C(mlflow_namespace),
    C(mlflow_deployment), C(mlflow_context) and the connection options that its cluster was given, so that every
    playbook of this collection runs on it as it is, with C(-e mlflow_hosts=all).
  - All hosts are in the group C(tracking_servers), those of one cluster in C(cluster_<name>).
  - The file's name ends with C(tracking_servers.yml) or C(tracking_servers.yaml).
extends_documentation_fragment:
  - ansible.builtin.constructed
options:
  plugin:
    description: Always C(mlops.mlflow_runbook.tracking_servers).
    type: str
    required: true
    choices: [mlops.mlflow_runbook.tracking_servers]
  clusters:
    description:
      - Connections, one for each cluster; the options are those of C(kubernetes.core).
      - Without any, the cluster of the environment (C(KUBECONFIG), C(K8S_AUTH_*)) and its current context.
    type: list
    elements: dict
    default: []
    suboptions:
      kubeconfig:
        description: Path of the kubeconfig.
        type: str
      context:
        description: Context of the kubeconfig.
        type: str
      host:
        description: Address of the API server.
        type: str
      ca_cert:
        description: Path of the authority's certificate.
        type: str
      validate_certs:
        description: Whether the API server's certificate is verified.
        type: bool
      proxy:
        description: Proxy on the way to the API server.
        type: str
  namespaces:
    description:
      - Namespaces to look into; all of them when empty, which needs the right to list workloads of the whole cluster.
    type: list
    elements: str
    default: []
  label_selectors:
    description: Labels (C(key=value)) that a server's workload must carry.
    type: list
    elements: str
    default: []
  timeout_seconds:
    description: How long one cluster may take.
    type: int
    default: 20
  skip_unreachable:
    description: Warn about a cluster that cannot be read, and go on, instead of failing.
    type: bool
    default: false
"""

EXAMPLES = r"""
# all servers of the current context: inventory.tracking_servers.yml
plugin: mlops.mlflow_runbook.tracking_servers
---
# two clusters, only what the platform team owns, grouped by stage
plugin: mlops.mlflow_runbook.tracking_servers
clusters:
  - context: production
  - kubeconfig: ~/.kube/staging
    context: staging
label_selectors: [team=ml-platform]
keyed_groups:
  - key: mlflow_labels.stage | default('unknown')
    prefix: stage
"""

from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import CallFailed, Deadline
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.kubernetes import ClusterReader
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.tracking_servers import (
    KINDS,
    Server,
    find_servers,
    host_name,
    short_name,
)

CONNECTION = ("kubeconfig", "context", "host", "ca_cert", "validate_certs", "proxy")
SUFFIXES = ("tracking_servers.yml", "tracking_servers.yaml")


class Unreadable(Exception):
    """A cluster whose workloads cannot be listed."""


class InventoryModule(BaseInventoryPlugin, Constructable):
    """The inventory plugin ``tracking_servers``."""

    NAME = "mlops.mlflow_runbook.tracking_servers"

    def verify_file(self, path: str) -> bool:
        """Tell whether a file is meant for this plugin."""
        return super().verify_file(path) and path.endswith(SUFFIXES)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory.

        Raises:
            AnsibleParserError: an option is wrong or a cluster cannot be read.
        """
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self.inventory.add_group("tracking_servers")
        for options in self.get_option("clusters") or [{}]:
            given = known_options(options)
            try:
                self._add_cluster(given)
            except Unreadable as problem:
                if not self.get_option("skip_unreachable"):
                    raise AnsibleParserError(str(problem)) from None
                self.display.warning(f"left out: {problem}")

    def _add_cluster(self, options: dict[str, Any]) -> None:
        try:
            reader = ClusterReader(options, Deadline(self.get_option("timeout_seconds")))
        except CallFailed as failure:
            raise Unreadable(f"cluster {options.get('context') or 'of the environment'}: {failure}") from failure
        cluster = reader.cluster_name()
        group = self.inventory.add_group(self._sanitize_group_name(f"cluster_{short_name(cluster)}"))
        workloads = {resource: self._listed(reader, resource, cluster) for resource in KINDS}
        shared = {f"mlflow_{name}": value for name, value in options.items()}
        if reader.context_name():
            shared["mlflow_context"] = reader.context_name()
        for server in find_servers(workloads, self.get_option("label_selectors")):
            self._add_server(server, host_name(server, cluster), group, shared)

    def _listed(self, reader: ClusterReader, resource: str, cluster: str) -> list[dict[str, Any]]:
        """List workloads of all namespaces, or of each that is named."""
        namespaces = self.get_option("namespaces")
        paths = [(f"/apis/apps/v1/namespaces/{name}/{resource}", name) for name in namespaces]
        found: list[dict[str, Any]] = []
        for path, namespace in paths or [(f"/apis/apps/v1/{resource}", "")]:
            seen = reader.list(path, resource, namespace)
            if not seen.seen:
                hint = "" if namespaces else "; or name namespaces"
                raise Unreadable(f"cluster {cluster} cannot be read: {seen.detail}{hint}")
            if seen.detail:
                self.display.warning(f"cluster {cluster}: {seen.detail}; some servers may be missing")
            found += [with_namespace(item, namespace) for item in seen.value["items"]]
        return found

    def _add_server(self, server: Server, host: str, group: str, shared: dict[str, Any]) -> None:
        self.inventory.add_host(host, group="tracking_servers")
        self.inventory.add_host(host, group=group)
        facts = {"mlflow_namespace": server.namespace, "mlflow_deployment": server.deployment, **shared}
        for name, value in facts.items():
            self.inventory.set_variable(host, name, value)
        variables = {**facts, "mlflow_labels": dict(server.labels), "mlflow_image": server.image}
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)


def with_namespace(item: dict[str, Any], namespace: str) -> dict[str, Any]:
    metadata = {**item["metadata"], "namespace": item["metadata"].get("namespace") or namespace}
    return {**item, "metadata": metadata}


def known_options(options: Any) -> dict[str, Any]:
    """Return a cluster's connection options.

    Raises:
        AnsibleParserError: names the option, its value and what was expected.
    """
    if not isinstance(options, dict):
        raise AnsibleParserError(f"clusters has {options!r}, expected options such as context")
    unknown = sorted(set(options) - set(CONNECTION))
    if unknown:
        raise AnsibleParserError(f"clusters has the option {unknown[0]!r}, expected any of {', '.join(CONNECTION)}")
    return {name: value for name, value in options.items() if value not in (None, "")}
