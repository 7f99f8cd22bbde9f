# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the Kubernetes API tells about one server, in one round of parallel calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..clients import certificates
from ..clients.calls import Observation
from ..clients.kubernetes import ClusterReader
from ..core.attempts import MANAGED_BY, OURS
from ..core.evidence import API, Evidence, State
from .objects import is_ours, secret_facts, secret_values, slim, slim_source_pod, tls_facts
from .threads import Job, Notebook, together

NAMESPACED = (
    ("pods", "/api/v1"),
    ("events", "/api/v1"),
    ("deployments", "/apis/apps/v1"),
    ("replicasets", "/apis/apps/v1"),
    ("statefulsets", "/apis/apps/v1"),
    ("services", "/api/v1"),
    ("endpointslices", "/apis/discovery.k8s.io/v1"),
    ("ingresses", "/apis/networking.k8s.io/v1"),
    ("networkpolicies", "/apis/networking.k8s.io/v1"),
    ("serviceaccounts", "/api/v1"),
    ("configmaps", "/api/v1"),
    ("resourcequotas", "/api/v1"),
    ("limitranges", "/api/v1"),
    ("horizontalpodautoscalers", "/apis/autoscaling/v2"),
    ("poddisruptionbudgets", "/apis/policy/v1"),
)
OF_THE_WORKLOAD = frozenset({"pods", "events", "deployments", "replicasets", "statefulsets", "endpointslices"})
LEASES = "/apis/coordination.k8s.io/v1/leases"
METRICS = "/apis/metrics.k8s.io/v1beta1"
NODE_IMAGE_LIMIT = 100
MOST_CERTIFICATES = 10


def listed(seen: Observation, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Observation:
    """Return a list answer with each object changed and our own probes left out."""
    if not seen.seen:
        return seen
    items = [change(item) for item in seen.value["items"] if not is_ours(item)]
    return Observation(seen.state, {"items": items}, seen.detail)


def node_facts(node: dict[str, Any]) -> dict[str, Any]:
    """Keep of a node what scheduling, its health and its stored images tell."""
    status = node.get("status") or {}
    kept = ("conditions", "addresses", "allocatable", "capacity", "nodeInfo")
    images = [name for image in status.get("images") or [] for name in image.get("names") or []][:NODE_IMAGE_LIMIT]
    return {
        "metadata": {key: node["metadata"].get(key) for key in ("name", "labels", "creationTimestamp")},
        "spec": {
            key: node["spec"][key]
            for key in ("taints", "unschedulable", "podCIDR", "providerID")
            if key in node["spec"]
        },
        "status": {**{key: status[key] for key in kept if key in status}, "images": images},
    }


def namespace_labels(namespace: dict[str, Any]) -> dict[str, Any]:
    metadata = namespace["metadata"]
    return {
        "metadata": {"name": metadata["name"], "uid": metadata.get("uid", ""), "labels": metadata.get("labels") or {}},
        "status": namespace.get("status") or {},
    }


class ClusterCollector:
    """Lists what one server's namespace, its clients' namespaces and the cluster hold.

    Args:
        reader: the API.
        notebook: where times come from.
        namespace: the server's namespace.
        sources: the clients' namespaces.
        leases: whether to read who repairs which server now, and how much was repaired lately.
    """

    def __init__(
        self,
        reader: ClusterReader,
        notebook: Notebook,
        namespace: str,
        sources: Iterable[str],
        *,
        leases: bool = False,
    ) -> None:
        self.reader = reader
        self.notebook = notebook
        self.namespace = namespace
        self.sources = [name for name in sources if name != namespace]
        self.leases = leases
        self.secret_values: set[str] = set()
        self.leftovers: list[tuple[str, str]] = []

    def collect(self) -> list[Evidence]:
        """Return all of it; an API server that does not answer is asked only once."""
        version = self.reader.get("/version", "version")
        if version.state is State.UNREACHABLE:
            whats = ["cluster", "namespace", *(resource for resource, dummy in NAMESPACED), "pod_metrics"]
            return [
                self.notebook.unreachable(f"kubernetes.{what}", API, self._subject(what), version.detail)
                for what in whats
            ]
        jobs: list[Job] = [partial(self._namespaced, *item) for item in NAMESPACED]
        jobs += [partial(self._namespaces, version), self._pod_metrics, self._nodes, self._dns]
        jobs += [self._leases] if self.leases else []
        jobs += [partial(self._source_pods, name) for name in self.sources]
        jobs += [partial(self._source_policies, name) for name in self.sources]
        return together(jobs, self.reader.deadline)

    def workload(self) -> list[Evidence]:
        """Return what changes while pods are made."""
        jobs: list[Job] = [partial(self._namespaced, *item) for item in NAMESPACED if item[0] in OF_THE_WORKLOAD]
        return together(jobs, self.reader.deadline)

    def secrets(self, names: Iterable[str], public: str, others: Iterable[str] = ()) -> list[Evidence]:
        """Read Secrets by name; their values stay in ``secret_values``.

        Args:
            names: the Secrets that the server uses.
            public: text of everything that is no secret.
            others: further Secrets of its pods: no evidence, but their values may stand in logs.
        """
        jobs: list[Job] = [partial(self._secret, name, public) for name in names]
        jobs += [partial(self._learn, name, public) for name in sorted(set(others) - set(names))]
        return together(jobs, self.reader.deadline)

    def ingresses(self, found: list[dict[str, Any]]) -> list[Evidence]:
        """Read what the namespace's ingresses name: the cluster's classes, and their certificates.

        Args:
            found: the ingresses; without any nothing is asked.
        """
        names = {entry.get("secretName") for item in found for entry in item["spec"].get("tls") or []}
        jobs: list[Job] = [partial(self._tls_secret, name) for name in sorted(filter(None, names))[:MOST_CERTIFICATES]]
        return together([self._ingress_classes, *jobs], self.reader.deadline) if found else []

    def _ingress_classes(self) -> list[Evidence]:
        path = "/apis/networking.k8s.io/v1/ingressclasses"
        seen = self.reader.list(path, "ingressclasses.networking.k8s.io")
        return [self._note("ingressclasses", "", listed(seen, partial(slim, "ingressclasses")))]

    def _tls_secret(self, name: str) -> list[Evidence]:
        seen = self.reader.get(f"/api/v1/namespaces/{self.namespace}/secrets/{name}", "secrets", self.namespace)
        if seen.seen:
            facts, der = tls_facts(seen.value)
            seen = Observation(State.OK, {**facts, "certificate": certificates.describe(der)})
        return [self._note("tls_secrets", f"{self.namespace}/{name}", seen)]

    def _subject(self, what: str) -> str:
        return "" if what == "cluster" else self.namespace

    def _note(self, what: str, subject: str, seen: Observation) -> Evidence:
        return self.notebook.note(f"kubernetes.{what}", API, subject, seen)

    def _namespaced(self, resource: str, group: str) -> list[Evidence]:
        path = f"{group}/namespaces/{self.namespace}/{resource}"
        seen = self.reader.list(path, resource, self.namespace)
        if resource == "pods" and seen.seen:
            self._remember_leftovers(self.namespace, seen.value["items"])
        return [self._note(resource, self.namespace, listed(seen, partial(slim, resource)))]

    def _remember_leftovers(self, namespace: str, pods: list[dict[str, Any]]) -> None:
        """Note probe pods of ours that have ended and that nobody removed."""
        ended = [pod for pod in pods if is_ours(pod) and pod["status"].get("phase") in ("Succeeded", "Failed")]
        self.leftovers.extend((namespace, pod["metadata"]["name"]) for pod in ended)

    def _namespaces(self, version: Observation) -> list[Evidence]:
        """Read the cluster's identity and all namespaces in one call, or in two when only named ones may be read."""
        seen = self.reader.list("/api/v1/namespaces", "namespaces")
        if seen.seen:
            by_name = {item["metadata"]["name"]: item for item in seen.value["items"]}
            system = self._one(by_name, "kube-system")
            own = self._one(by_name, self.namespace)
        else:
            system = self.reader.get("/api/v1/namespaces/kube-system", "namespaces")
            own = self.reader.get(f"/api/v1/namespaces/{self.namespace}", "namespaces")
        number = version.value["gitVersion"] if version.seen else ""
        uid = system.value["metadata"]["uid"] if system.seen else ""
        state = State.OK if uid else State.PARTIAL
        cluster = Observation(state, {"uid": uid, "version": number}, system.detail)
        own = Observation(own.state, slim("namespaces", own.value), own.detail) if own.seen else own
        return [
            self._note("cluster", "", cluster),
            self._note("namespace", self.namespace, own),
            self._note("namespaces", "", listed(seen, namespace_labels)),
        ]

    @staticmethod
    def _one(by_name: dict[str, dict[str, Any]], name: str) -> Observation:
        if name in by_name:
            return Observation(State.OK, by_name[name])
        return Observation(State.ABSENT, detail=f'namespaces "{name}" not found')

    def _pod_metrics(self) -> list[Evidence]:
        path = f"{METRICS}/namespaces/{self.namespace}/pods"
        seen = self.reader.list(path, "pods.metrics.k8s.io", self.namespace)
        return [self._note("pod_metrics", self.namespace, listed(seen, partial(slim, "pod_metrics")))]

    def _nodes(self) -> list[Evidence]:
        return [self._note("nodes", "", listed(self.reader.list("/api/v1/nodes", "nodes"), node_facts))]

    def _leases(self) -> list[Evidence]:
        seen = self.reader.list(LEASES, "leases", "", {"labelSelector": f"{MANAGED_BY}={OURS}"})
        return [self._note("leases", "", listed(seen, partial(slim, "leases")))]

    def _dns(self) -> list[Evidence]:
        service = self.reader.get("/api/v1/namespaces/kube-system/services/kube-dns", "services", "kube-system")
        if not service.seen:
            return [self._note("dns", "", service)]
        path = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"
        selector = {"labelSelector": "kubernetes.io/service-name=kube-dns"}
        slices = self.reader.list(path, "endpointslices", "kube-system", selector)
        if not slices.seen:
            return [self._note("dns", "", slices)]
        endpoints = [entry for item in slices.value["items"] for entry in item.get("endpoints") or []]
        ready = [entry for entry in endpoints if (entry.get("conditions") or {}).get("ready") is not False]
        addresses = sorted(address for entry in ready for address in entry.get("addresses") or [])
        value = {"service": slim("services", service.value), "endpoints": len(ready), "addresses": addresses}
        return [self._note("dns", "", Observation(State.OK, value))]

    def _source_pods(self, namespace: str) -> list[Evidence]:
        path = f"/api/v1/namespaces/{namespace}/pods"
        seen = self.reader.list(path, "pods", namespace, {"fieldSelector": "status.phase=Running"})
        return [self._note("pods", namespace, listed(seen, slim_source_pod))]

    def _source_policies(self, namespace: str) -> list[Evidence]:
        path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
        seen = self.reader.list(path, "networkpolicies", namespace)
        return [self._note("networkpolicies", namespace, listed(seen, partial(slim, "networkpolicies")))]

    def _learn(self, name: str, public: str) -> list[Evidence]:
        self._secret(name, public)
        return []

    def _secret(self, name: str, public: str) -> list[Evidence]:
        path = f"/api/v1/namespaces/{self.namespace}/secrets/{name}"
        seen = self.reader.get(path, "secrets", self.namespace)
        if seen.seen:
            self.secret_values |= secret_values(seen.value, public)
            seen = Observation(State.OK, {"items": [secret_facts(seen.value)]})
        return [self._note("secrets", f"{self.namespace}/{name}", seen)]
