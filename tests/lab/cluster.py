# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole Kubernetes: started part by part, and what runs in it from the beginning."""

from __future__ import annotations

from tests.lab import controlplane, dns, kube, node, operator, settings
from tests.lab.progress import step


def start() -> None:
    """Start the control plane and the node on a fresh state; returns when the API answers and the node is ready."""
    with step("start Kubernetes"):
        dns.set_records("lab", {})
        controlplane.start_etcd()
        node.start_registry()
        node.start_containerd()
        controlplane.start_api_server()
        controlplane.wait_for_api()
        controlplane.start_controllers()
        node.start_kubelet()
        node.start_network_daemons()
        _apply_system()
        operator.up()
        kube.wait_ready("Node", settings.NODE_NAME, timeout=90)


def wait_for_system_pods() -> None:
    """Wait for the cluster's DNS and the metrics API."""
    with step("wait for DNS and metrics"):
        kube.wait_ready("Deployment", "coredns", "kube-system")
        kube.wait_ready("APIService", "v1beta1.metrics.k8s.io")


def _apply_system() -> None:
    variables = {
        "domain": settings.CLUSTER_DOMAIN,
        "coredns_image": settings.COREDNS_IMAGE,
        "metrics_server_image": settings.METRICS_SERVER_IMAGE,
        "node_address": settings.NODE_ADDRESS,
        "api_port": settings.API_PORT,
        "zone_dir": dns.folder(),
        "dns_address": settings.DNS_SERVICE_ADDRESS,
    }
    kube.apply(kube.manifest("system.yml.j2", **variables))
    kube.apply(kube.manifest("irsa.yml.j2", region=settings.AWS_REGION))
