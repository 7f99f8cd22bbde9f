# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, addresses, ports, versions and folders of the lab: every other module takes them from here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# Network: everything lives in one namespace, nothing in it has a route to the outside.
NETWORK_NAMESPACE = "mlflow-lab"
NODE_INTERFACE = "node0"
NODE_NAME = "node0"
NODE_ADDRESS = "10.90.0.1"
GATEWAY_ADDRESS = "10.90.0.254"
NODE_NETWORK = "10.90.0.0/24"
POD_NETWORK = "10.91.0.0/24"
SERVICE_NETWORK = "10.92.0.0/16"
API_SERVICE_ADDRESS = "10.92.0.1"
DNS_SERVICE_ADDRESS = "10.92.0.10"
REGISTRY_ADDRESS = "10.90.0.40"
METADATA_ADDRESS = "169.254.169.254"
AWS_ADDRESSES = {
    "s3": "10.90.0.30",
    "sts": "10.90.0.31",
    "rds": "10.90.0.32",
    "iam": "10.90.0.33",
    "ec2": "10.90.0.34",
    "monitoring": "10.90.0.35",
    "logs": "10.90.0.36",
}
AWS_OTHER_ADDRESS = "10.90.0.39"
DATABASE_ADDRESS_BASE = "10.90.0."
DATABASE_ADDRESS_FIRST = 100

# Loopback ports of the host that lead into the namespace.
API_PORT = 6443
HOST_API_PORT = 16443
HOST_AWS_PORT = 14566

# AWS: what the runbooks use.
AWS_REGION = "us-west-2"
AWS_ACCOUNT_ID = "123456789012"

# Kubernetes 1.34 is the last line whose kubelet runs on cgroup v1 with containerd 1.6.
KUBERNETES_VERSION = "1.34.4"
GO_VERSION = "1.26.6"
MLFLOW_VERSION = "3.17.2"
CLUSTER_NAME = "mlflow-lab"
CLUSTER_DOMAIN = "cluster.local"
SERVER_IMAGE = f"{AWS_ACCOUNT_ID}.dkr.ecr.{AWS_REGION}.amazonaws.com/mlflow:{MLFLOW_VERSION}"
# The last line of MLflow 2, which many servers still run: gunicorn only, no check of Host headers, another schema.
OLDER_MLFLOW_VERSION = "2.22.5"
OLDER_SERVER_IMAGE = f"{AWS_ACCOUNT_ID}.dkr.ecr.{AWS_REGION}.amazonaws.com/mlflow:{OLDER_MLFLOW_VERSION}"
PAUSE_IMAGE = "docker.io/lab/pause:1"
COREDNS_IMAGE = "docker.io/lab/coredns:1.14.4"
METRICS_SERVER_IMAGE = "docker.io/lab/metrics-server:0.9.0"

DEBIAN_SUITE = "bookworm"


class LabError(Exception):
    """Something the person at the keyboard has to know; its text is one plain sentence."""


def cache_dir() -> Path:
    """Folder of everything that is built once and shared by all checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mlops-mlflow-runbook"


def state_dir() -> Path:
    """Folder of the running lab; it is deleted by ``down``."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "mlops-mlflow-runbook" / "lab"


@contextmanager
def state_at(path: Path) -> Iterator[None]:
    """Let ``state_dir`` be ``path``, which is one of some other XDG folder, for a while."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(path.parent.parent)
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before


def _folder(name: str) -> Path:
    path = state_dir() / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def logs_dir() -> Path:
    """Folder of one log file per daemon."""
    return _folder("logs")


def run_dir() -> Path:
    """Folder of process records."""
    return _folder("run")


def socket_dir() -> Path:
    """Folder of unix sockets whose paths may not exceed 104 characters; one lab runs per machine."""
    path = Path("/run") / NETWORK_NAMESPACE
    path.mkdir(mode=0o711, parents=True, exist_ok=True)
    return path


def pki_dir() -> Path:
    """Folder of issued certificates and keys."""
    return _folder("pki")


def audit_log() -> Path:
    """The API server's audit log, JSON lines."""
    return state_dir() / "audit.log"


def admin_kubeconfig() -> Path:
    """Kubeconfig of the cluster administrator, for the lab itself; works on the host."""
    return state_dir() / "admin.kubeconfig"


def operator_kubeconfig() -> Path:
    """Kubeconfig of the least-privilege operator, for the collection; works on the host."""
    return state_dir() / "operator.kubeconfig"


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
