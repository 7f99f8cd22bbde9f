# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rights of the operator in one namespace, taken away and given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kubernetes import client

from tests.lab import kube, operator

RBAC = "rbac.authorization.k8s.io"
USUAL, KEPT = "mlflow-operator-repair", "mlflow-operator-kept"
WITHIN = 30.0


def may(namespace: str, verb: str, resource: str, group: str = "") -> bool:
    """Whether the operator has a right now."""
    attributes = client.V1ResourceAttributes(namespace=namespace, verb=verb, resource=resource, group=group)
    spec = client.V1SubjectAccessReviewSpec(
        user=operator.FULL.user, groups=list(operator.FULL.groups), resource_attributes=attributes
    )
    review = client.V1SubjectAccessReview(spec=spec)
    api = client.AuthorizationV1Api(kube.admin_client())
    return bool(api.create_subject_access_review(review, _request_timeout=kube.REQUEST_TIMEOUT).status.allowed)


def nothing(rule: Mapping[str, Any]) -> bool:
    """Keep no rule."""
    return False


def take(namespace: str, keep: Callable[[Mapping[str, Any]], bool] = nothing) -> None:
    """Take away what the operator may do in a namespace beyond reading, but for the rules that are kept."""
    usual = kube.get(f"{RBAC}/v1", "ClusterRole", USUAL) or {}
    rules = [rule for rule in usual["rules"] if keep(rule)]
    if rules:
        kube.apply([role(namespace, rules), binding(namespace)])
    kube.delete(f"{RBAC}/v1", "RoleBinding", USUAL, namespace)
    kube.wait_until(lambda: not may(namespace, "patch", "services"), "the right to be gone", WITHIN)


def give_back(namespace: str) -> None:
    """Give the operator its usual rights in a namespace."""
    operator.grant(namespace)
    for kind in ("RoleBinding", "Role"):
        kube.delete(f"{RBAC}/v1", kind, KEPT, namespace)
    kube.wait_until(lambda: may(namespace, "patch", "services"), "the right to be back", WITHIN)


def role(namespace: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    metadata = {"name": KEPT, "namespace": namespace}
    return {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules}


def binding(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": KEPT, "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": KEPT},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group} for group in operator.FULL.groups],
    }
