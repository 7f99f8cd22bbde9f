# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the cluster, and what becomes of the answers."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Observation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.cluster import ClusterCollector
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.objects import PROBE_LABEL
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.threads import Notebook
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet, State

from .conftest import PASSWORD, FakeCluster, client_pod, secret, server_pod

NAMESPACES = [
    {"metadata": {"name": name, "uid": f"uid-{name}", "labels": {"n": name}}} for name in ("kube-system", "mlflow")
]


def collector(objects: dict[str, object], notebook: Notebook) -> tuple[ClusterCollector, FakeCluster]:
    reader = FakeCluster({"/version": {"gitVersion": "v1.34.4"}, "/api/v1/namespaces": NAMESPACES, **objects})
    return ClusterCollector(reader, notebook, "mlflow", ("argo", "mlflow")), reader  # type: ignore[arg-type]


def test_one_round_of_calls(notebook: Notebook) -> None:
    ended = server_pod("mlflow-runbook-1")
    ended["metadata"]["labels"][PROBE_LABEL] = "debug-copy"
    ended["status"]["phase"] = "Failed"
    dns = "/api/v1/namespaces/kube-system/services/kube-dns"
    slices = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"
    ready = {"endpoints": [{"conditions": {"ready": True}}, {"conditions": {"ready": False}}]}
    cluster, reader = collector(
        {
            "/api/v1/namespaces/mlflow/pods": [server_pod(), ended],
            "/api/v1/namespaces/argo/pods": [client_pod()],
            "/api/v1/nodes": [
                {"metadata": {"name": "node0"}, "spec": {}, "status": {"images": [{"names": ["a", "b"]}]}}
            ],
            dns: {"metadata": {"name": "kube-dns"}},
            slices: [ready],
        },
        notebook,
    )
    evidence = EvidenceSet(cluster.collect())
    assert {item.state for item in evidence} == {State.OK}
    assert evidence.value("kubernetes.cluster") == {"uid": "uid-kube-system", "version": "v1.34.4"}
    assert evidence.value("kubernetes.namespace", subject="mlflow")["metadata"]["uid"] == "uid-mlflow"
    assert [pod["metadata"]["name"] for pod in evidence.objects("kubernetes.pods", "mlflow")] == ["mlflow-1"]
    assert cluster.leftovers == [("mlflow", "mlflow-runbook-1")]
    assert evidence.value("kubernetes.pods", subject="argo")["items"][0]["metadata"]["name"] == "training-1"
    assert evidence.objects("kubernetes.nodes")[0]["status"]["images"] == ["a", "b"]
    assert evidence.value("kubernetes.dns")["endpoints"] == 1
    assert len(reader.asked) == len(set(reader.asked))


def test_an_absent_namespace(notebook: Notebook) -> None:
    cluster, _dummy = collector({"/api/v1/namespaces": NAMESPACES[:1]}, notebook)
    found = EvidenceSet(cluster.collect()).first("kubernetes.namespace")
    assert found is not None
    assert found.state is State.ABSENT


def test_only_named_namespaces_may_be_read(notebook: Notebook) -> None:
    forbidden = Observation(State.FORBIDDEN, detail="list namespaces")
    own = {"metadata": {"name": "mlflow", "uid": "uid-mlflow"}}
    cluster, _dummy = collector({"/api/v1/namespaces": forbidden, "/api/v1/namespaces/mlflow": own}, notebook)
    evidence = EvidenceSet(cluster.collect())
    identity = evidence.first("kubernetes.cluster")
    assert identity is not None
    assert identity.state is State.PARTIAL
    assert evidence.value("kubernetes.namespace")["metadata"]["uid"] == "uid-mlflow"


def test_a_silent_server_is_asked_once(notebook: Notebook) -> None:
    cluster, reader = collector({"/version": Observation(State.UNREACHABLE, detail="timed out")}, notebook)
    evidence = cluster.collect()
    assert len(reader.asked) == 1
    assert {(item.state, item.detail) for item in evidence} == {(State.UNREACHABLE, "timed out")}


@pytest.mark.parametrize("there", [True, False])
def test_secrets_are_read_by_name(notebook: Notebook, there: bool) -> None:
    path = "/api/v1/namespaces/mlflow/secrets/mlflow-db"
    cluster, _dummy = collector({path: secret()} if there else {}, notebook)
    [item] = cluster.secrets(["mlflow-db"], "")
    assert item.subject == "mlflow/mlflow-db"
    assert item.state is (State.OK if there else State.ABSENT)
    assert (PASSWORD in cluster.secret_values) is there
    assert PASSWORD not in str(item)
