# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfig files with a client certificate of the lab's authority."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.lab import certificates, settings

HOST_SERVER = f"https://127.0.0.1:{settings.HOST_API_PORT}"
INSIDE_SERVER = f"https://{settings.NODE_ADDRESS}:{settings.API_PORT}"


def write(path: Path, user: str, groups: Sequence[str] = (), server: str = HOST_SERVER) -> Path:
    """Issue a client certificate for ``user`` in ``groups`` and write a kubeconfig with it to ``path``."""
    name = f"client-{user.replace(':', '-')}"
    certificate, key = certificates.issue(name, client=True, groups=groups, common_name=user)
    authority = _encoded(certificates.ca_certificate())
    cluster = settings.CLUSTER_NAME
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster, "cluster": {"server": server, "certificate-authority-data": authority}},
        ],
        "users": [
            {"name": user, "user": {"client-certificate-data": _encoded(certificate), "client-key-data": _encoded(key)}}
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
    }
    settings.write_text(path, yaml.safe_dump(document, sort_keys=False), mode=0o600)
    return path


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
