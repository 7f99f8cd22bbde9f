# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin, over a fake API that never leaves the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from ansible import constants
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.doc_fragments import constructed
from ansible_collections.mlops.mlflow_runbook.plugins.inventory import tracking_servers
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Observation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import State

PLUGIN = "plugin: mlops.mlflow_runbook.tracking_servers\n"


def server(name: str, namespace: str, **labels: str) -> dict[str, Any]:
    container = {"name": "c", "image": "mlflow:3", "command": ["mlflow", "server"]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


class FakeReader:
    """Stands for ClusterReader; ``workloads`` are by context, then by path."""

    workloads: ClassVar[dict[str, dict[str, list[dict[str, Any]]]]] = {}

    def __init__(self, options: dict[str, Any], deadline: Any) -> None:
        self.context = str(options.get("context") or "here")

    def context_name(self) -> str:
        return self.context

    def cluster_name(self) -> str:
        return self.context

    def list(self, path: str, resource: str, namespace: str = "") -> Observation:
        known = self.workloads.get(self.context)
        if known is None:
            return Observation(State.FORBIDDEN, detail=f"list {resource}")
        return Observation(State.OK, {"items": known.get(path, [])})


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_servers, "ClusterReader", FakeReader)
    everywhere = "/apis/apps/v1/deployments"
    monkeypatch.setattr(
        FakeReader,
        "workloads",
        {
            "here": {
                everywhere: [server("mlflow", "ml", team="a"), server("mlflow", "ai", team="b")],
                "/apis/apps/v1/namespaces/ai/deployments": [server("mlflow", "ai", team="b")],
            },
            "there": {"/apis/apps/v1/statefulsets": [server("registry", "ml", team="a")]},
        },
    )


def parse(folder: Path, text: str = "") -> InventoryData:
    path = folder / "some.tracking_servers.yml"
    path.write_text(PLUGIN + text, encoding="utf-8")
    options = yaml.safe_load(constructed.ModuleDocFragment.DOCUMENTATION)["options"]
    options |= yaml.safe_load(tracking_servers.DOCUMENTATION)["options"]
    constants.config.initialize_plugin_configuration_definitions(
        "inventory", tracking_servers.InventoryModule.NAME, options
    )
    plugin = tracking_servers.InventoryModule()
    plugin._load_name = tracking_servers.InventoryModule.NAME
    plugin._redirected_names = [tracking_servers.InventoryModule.NAME]  # the loader of ansible-core 2.18 sets it
    inventory = InventoryData()
    assert plugin.verify_file(str(path))
    plugin.parse(inventory, DataLoader(), str(path))
    return inventory


def variables(inventory: InventoryData, host: str) -> dict[str, Any]:
    return {key: value for key, value in inventory.hosts[host].vars.items() if key.startswith("mlflow_")}


def test_servers_of_the_current_context_of_a_fake_api(tmp_path: Path) -> None:
    inventory = parse(tmp_path)
    assert sorted(inventory.hosts) == ["mlflow.ai.here", "mlflow.ml.here"]
    assert variables(inventory, "mlflow.ai.here") == {
        "mlflow_namespace": "ai",
        "mlflow_deployment": "mlflow",
        "mlflow_context": "here",
    }
    assert len(inventory.groups["tracking_servers"].hosts) == 2
    assert len(inventory.groups["cluster_here"].hosts) == 2


def test_two_clusters_with_their_own_connections_of_a_fake_api(tmp_path: Path) -> None:
    inventory = parse(tmp_path, "clusters: [{context: here}, {context: there, kubeconfig: /k}]\n")
    assert sorted(inventory.hosts) == ["mlflow.ai.here", "mlflow.ml.here", "registry.ml.there"]
    assert variables(inventory, "registry.ml.there") == {
        "mlflow_namespace": "ml",
        "mlflow_deployment": "registry",
        "mlflow_context": "there",
        "mlflow_kubeconfig": "/k",
    }


def test_namespaces_and_labels_narrow_the_choice_of_a_fake_api(tmp_path: Path) -> None:
    assert list(parse(tmp_path, "namespaces: [ai]\n").hosts) == ["mlflow.ai.here"]
    assert list(parse(tmp_path, "label_selectors: [team=a]\n").hosts) == ["mlflow.ml.here"]


def test_groups_by_label_of_a_fake_api(tmp_path: Path) -> None:
    inventory = parse(tmp_path, "keyed_groups: [{key: mlflow_labels.team, prefix: team}]\n")
    assert [host.name for host in inventory.groups["team_b"].hosts] == ["mlflow.ai.here"]


def test_a_cluster_that_cannot_be_read_is_an_error_or_a_warning_of_a_fake_api(tmp_path: Path) -> None:
    text = "clusters: [{context: gone}, {context: there}]\n"
    with pytest.raises(AnsibleParserError, match="cluster gone cannot be read: list deployments; or name namespaces"):
        parse(tmp_path, text)
    assert list(parse(tmp_path, text + "skip_unreachable: true\n").hosts) == ["registry.ml.there"]


def test_an_unknown_connection_option_is_named_before_a_fake_api_is_asked(tmp_path: Path) -> None:
    with pytest.raises(AnsibleParserError, match="clusters has the option 'token', expected any of kubeconfig"):
        parse(tmp_path, "clusters: [{token: x}]\n")


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text(PLUGIN, encoding="utf-8")
    assert not tracking_servers.InventoryModule().verify_file(str(path))
