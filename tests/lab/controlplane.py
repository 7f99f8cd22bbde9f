# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd, the API server with its audit log, the controller manager and the scheduler."""

from __future__ import annotations

from pathlib import Path

from tests.lab import build, certificates, kube, kubeconfig, network, processes, settings

ETCD = "http://127.0.0.1:2379"
FRONT_PROXY = "front-proxy-client"
API_SANS = (
    "localhost",
    "127.0.0.1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{settings.CLUSTER_DOMAIN}",
    settings.NODE_ADDRESS,
    settings.API_SERVICE_ADDRESS,
)
SERVICE_ACCOUNT_ISSUER = f"https://kubernetes.default.svc.{settings.CLUSTER_DOMAIN}"


def component(name: str) -> str:
    """Path of a Kubernetes component: one program that decides by the name it is called by."""
    folder = settings.state_dir() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / name
    if not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(build.go_binary("node"))
    return str(link)


def component_kubeconfig(user: str) -> str:
    """Path of a kubeconfig for a component inside the namespace."""
    path = settings.state_dir() / "kubeconfigs" / user.replace(":", "-")
    return str(kubeconfig.write(path, user, server=kubeconfig.INSIDE_SERVER))


def start_etcd() -> None:
    """Start etcd without flushing to disk: what it holds does not outlive the lab."""
    processes.start(
        "etcd",
        [
            "etcd",
            f"--data-dir={settings.state_dir() / 'etcd'}",
            f"--listen-client-urls={ETCD}",
            f"--advertise-client-urls={ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ],
    )


def start_api_server() -> None:
    """Start the API server and lead the host's loopback port to it."""
    processes.start("kube-apiserver", [component("kube-apiserver"), *_api_flags()])
    network.forward("kubernetes-api", settings.HOST_API_PORT, address=f"127.0.0.1:{settings.API_PORT}")
    kubeconfig.write(settings.admin_kubeconfig(), "admin", ["system:masters"])


def wait_for_api() -> None:
    """Wait until the API server is ready."""
    kube.wait_until(api_ready, "the Kubernetes API", 90)


def api_ready() -> bool:
    """Whether the API server says of itself that it is ready."""
    url = f"{kubeconfig.HOST_SERVER}/readyz"
    return kube.admin_client().rest_client.request("GET", url, _request_timeout=3).status == 200


def _api_flags() -> list[str]:
    authority = certificates.ca_certificate()
    certificate, key = certificates.issue("kube-apiserver", API_SANS)
    kubelet_certificate, kubelet_key = certificates.issue(
        "kube-apiserver-kubelet-client", client=True, groups=["system:masters"]
    )
    proxy_certificate, proxy_key = certificates.issue(FRONT_PROXY, client=True)
    public, private = certificates.service_account_keys()
    manifests = Path(__file__).parent / "manifests"
    return [
        f"--etcd-servers={ETCD}",
        f"--advertise-address={settings.NODE_ADDRESS}",
        f"--secure-port={settings.API_PORT}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--client-ca-file={authority}",
        f"--service-cluster-ip-range={settings.SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--service-account-issuer={SERVICE_ACCOUNT_ISSUER}",
        f"--service-account-key-file={public}",
        f"--service-account-signing-key-file={private}",
        # The second one is the audience of IRSA tokens.
        "--api-audiences=https://kubernetes.default.svc,sts.amazonaws.com",
        f"--kubelet-certificate-authority={authority}",
        f"--kubelet-client-certificate={kubelet_certificate}",
        f"--kubelet-client-key={kubelet_key}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={authority}",
        f"--requestheader-allowed-names={FRONT_PROXY}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={proxy_certificate}",
        f"--proxy-client-key-file={proxy_key}",
        "--enable-aggregator-routing=true",
        "--feature-gates=MutatingAdmissionPolicy=true",
        "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
        f"--audit-policy-file={manifests / 'audit.yml'}",
        f"--audit-log-path={settings.audit_log()}",
        "--audit-log-maxsize=1000",
        "--audit-log-maxbackup=2",
        "--profiling=false",
    ]


def start_controllers() -> None:
    """Start the controller manager and the scheduler."""
    _, private = certificates.service_account_keys()
    path = component_kubeconfig("system:kube-controller-manager")
    processes.start(
        "kube-controller-manager",
        [
            component("kube-controller-manager"),
            f"--kubeconfig={path}",
            f"--authentication-kubeconfig={path}",
            f"--authorization-kubeconfig={path}",
            f"--service-account-private-key-file={private}",
            f"--root-ca-file={certificates.ca_certificate()}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={settings.POD_NETWORK}",
            f"--cluster-name={settings.CLUSTER_NAME}",
            "--horizontal-pod-autoscaler-sync-period=5s",
            "--profiling=false",
        ],
    )
    path = component_kubeconfig("system:kube-scheduler")
    processes.start(
        "kube-scheduler",
        [
            component("kube-scheduler"),
            f"--kubeconfig={path}",
            f"--authentication-kubeconfig={path}",
            f"--authorization-kubeconfig={path}",
            "--leader-elect=false",
            "--profiling=false",
        ],
    )
