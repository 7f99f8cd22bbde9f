# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node: containerd, kubelet, kube-proxy, the NetworkPolicy enforcer, and the registry it pulls from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jinja2
import yaml

from tests.lab import build, certificates, controlplane, image, kubeconfig, network, processes, settings

CGROUP = "mlflow-lab"
CPU_SHARES = 8192
"""Processor share of all pods together (control groups v1): the usual 1024 is that of one process of the host, so that
servers would starve, and time-outs be met, wherever a few checks run beside the lab."""
CNI_NAME = "mlflow-lab"
LABELS = {
    "topology.kubernetes.io/region": settings.AWS_REGION,
    "topology.kubernetes.io/zone": f"{settings.AWS_REGION}a",
    "node.kubernetes.io/instance-type": "m5.large",
    "eks.amazonaws.com/nodegroup": "default",
}
PROVIDER_ID = f"aws:///{settings.AWS_REGION}a/i-0a1b2c3d4e5f60718"


def containerd_socket() -> Path:
    """Socket of the node's containerd."""
    return settings.socket_dir() / "containerd.sock"


def cgroups() -> list[Path]:
    """The lab's control group in each hierarchy: one per controller (v1) or one for all (v2)."""
    base = Path("/sys/fs/cgroup")
    if (base / "cgroup.controllers").exists():
        return [base / CGROUP]
    roots = {path.resolve() for path in base.iterdir() if (path / "cgroup.procs").exists()}
    return [root / CGROUP for root in sorted(roots)]


def start_registry() -> None:
    """Start the registry that has nothing, at an address of its own."""
    network.add_address(settings.REGISTRY_ADDRESS)
    certificate, key = certificates.issue("registry", [settings.REGISTRY_ADDRESS])
    module = [sys.executable, "-m", "tests.lab.registry"]
    processes.start("registry", [*module, settings.REGISTRY_ADDRESS, str(certificate), str(key)])


def start_containerd() -> None:
    """Start containerd on the store of images."""
    state = settings.state_dir()
    plugin = {
        "cniVersion": "1.0.0",
        "name": CNI_NAME,
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": settings.POD_NETWORK}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(state / "cni-addresses"),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    settings.write_text(state / "cni" / "10-lab.conflist", json.dumps(plugin, indent=1))
    # A mirror's 404 is followed by a question to the server itself, so both are the same and trust the same.
    registry, authority = f"https://{settings.REGISTRY_ADDRESS}", certificates.ca_certificate()
    trust = f'capabilities = ["pull", "resolve"]\nca = "{authority}"\n'
    hosts = f'server = "{registry}"\n{trust}\n[host."{registry}"]\n{trust}'
    settings.write_text(state / "registries" / "_default" / "hosts.toml", hosts)
    template = jinja2.Template(_manifest("containerd.toml.j2"), undefined=jinja2.StrictUndefined)
    config = template.render(
        root=image.store(),
        socket=containerd_socket(),
        runtime_state=settings.socket_dir() / "containerd",
        runc_root=settings.socket_dir() / "runc",
        state=state,
        pause_image=settings.PAUSE_IMAGE,
    )
    settings.write_text(state / "containerd.toml", config)
    processes.start("containerd", ["containerd", "--config", str(state / "containerd.toml")])


def _manifest(name: str) -> str:
    return (Path(__file__).parent / "manifests" / name).read_text(encoding="utf-8")


def _kubelet_config() -> dict[str, Any]:
    state = settings.state_dir()
    certificate, key = certificates.issue("kubelet", [settings.NODE_NAME, settings.NODE_ADDRESS])
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certificates.ca_certificate())},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "clusterDNS": [settings.DNS_SERVICE_ADDRESS],
        "clusterDomain": settings.CLUSTER_DOMAIN,
        "containerRuntimeEndpoint": f"unix://{containerd_socket()}",
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        # The store is shared by every run of the lab, so nothing may be collected out of it.
        "imageGCHighThresholdPercent": 100,
        "oomScoreAdj": 0,
        "podLogsDir": str(state / "pods"),
        "providerID": PROVIDER_ID,
        "registerNode": True,
        "resolvConf": "/dev/null",
        "rotateCertificates": False,
        "serializeImagePulls": False,
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "volumePluginDir": str(state / "volume-plugins"),
        # An overflowing volume is measured, and its pod evicted, within seconds instead of minutes.
        "volumeStatsAggPeriod": "10s",
    }


def start_kubelet() -> None:
    """Start the kubelet, with its pods under a control group of the lab's own."""
    for group in cgroups():
        group.mkdir(exist_ok=True)
        share = group / "cpu.shares"
        if share.exists():
            share.write_text(str(CPU_SHARES), encoding="ascii")
    state = settings.state_dir()
    settings.write_text(state / "kubelet.yml", yaml.safe_dump(_kubelet_config()))
    path = state / "kubeconfigs" / "kubelet"
    kubeconfig.write(path, f"system:node:{settings.NODE_NAME}", ["system:nodes"], kubeconfig.INSIDE_SERVER)
    processes.start(
        "kubelet",
        [
            controlplane.component("kubelet"),
            f"--config={state / 'kubelet.yml'}",
            f"--kubeconfig={path}",
            f"--root-dir={state / 'kubelet'}",
            f"--hostname-override={settings.NODE_NAME}",
            f"--node-ip={settings.NODE_ADDRESS}",
            "--node-labels=" + ",".join(f"{name}={value}" for name, value in LABELS.items()),
        ],
    )


def start_network_daemons() -> None:
    """Start kube-proxy, and kube-router as the NetworkPolicy enforcer only."""
    state = settings.state_dir()
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": controlplane.component_kubeconfig("system:kube-proxy")},
        "clusterCIDR": settings.POD_NETWORK,
        "conntrack": {"maxPerCore": 0, "min": 0},
        "hostnameOverride": settings.NODE_NAME,
        "oomScoreAdj": 0,
    }
    settings.write_text(state / "kube-proxy.yml", yaml.safe_dump(config))
    processes.start("kube-proxy", [controlplane.component("kube-proxy"), f"--config={state / 'kube-proxy.yml'}"])
    path = state / "kubeconfigs" / "kube-router"
    kubeconfig.write(path, "kube-router", ["mlflow-lab:network"], kubeconfig.INSIDE_SERVER)
    processes.start(
        "kube-router",
        [
            str(build.go_binary("kube-router")),
            f"--kubeconfig={path}",
            f"--hostname-override={settings.NODE_NAME}",
            f"--service-cluster-ip-range={settings.SERVICE_NETWORK}",
            "--run-router=false",
            "--run-service-proxy=false",
            "--run-loadbalancer=false",
            "--run-firewall=true",
        ],
        env={"NODE_NAME": settings.NODE_NAME},
    )
