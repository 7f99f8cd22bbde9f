# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator: the identity that the collection works with, which may do no more than a person on call."""

from __future__ import annotations

import importlib

from tests.lab import kube, kubeconfig, settings

USER = "mlflow-operator"
GROUP = "mlflow-operators"


def up() -> None:
    """Write the operator's kubeconfig and give it its read permissions."""
    kubeconfig.write(settings.operator_kubeconfig(), USER, [GROUP])
    kube.apply(kube.manifest("operator.yml.j2", group=GROUP))


def grant(namespace: str) -> None:
    """Let the operator repair in ``namespace``: pods, exec, and patches of what a repair changes."""
    role_group = "rbac.authorization.k8s.io"
    kube.apply(
        [
            {
                "apiVersion": f"{role_group}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "mlflow-operator-repair", "namespace": namespace},
                "roleRef": {"apiGroup": role_group, "kind": "ClusterRole", "name": "mlflow-operator-repair"},
                "subjects": [{"apiGroup": role_group, "kind": "Group", "name": GROUP}],
            }
        ]
    )


def environment() -> dict[str, str]:
    """Environment variables of a shell of the operator: Kubernetes and AWS."""
    cloud = importlib.import_module("tests.lab.cloud")
    return {"KUBECONFIG": str(settings.operator_kubeconfig()), **cloud.environment()}
