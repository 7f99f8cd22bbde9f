# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators: identities that the collection works with, which may do no more than a person on call."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from tests.lab import aws, kube, kubeconfig, settings
from tests.lab.settings import LabError

USER = "mlflow-operator"
GROUP = "mlflow-operators"
WITHOUT_SECRETS = "mlflow-operators-without-secrets"
READERS = "mlflow-operators-reading"
IAM_USER = aws.OPERATOR


@dataclass(frozen=True)
class Operator:
    """One identity in the cluster and in AWS.

    Attributes:
        name: how the command line calls it.
        user: user name in the cluster, and so in the audit log.
        groups: groups of ``manifests/operator.yml.j2``; without any it may do nothing but ask who it is.
        iam_user: user in AWS; None has no credentials.
        iam_allowed: whether that user may read anything.
    """

    name: str
    user: str
    groups: tuple[str, ...] = (GROUP,)
    iam_user: str | None = IAM_USER
    iam_allowed: bool = True


FULL = Operator("full", USER)
BENCH = Operator("bench", f"{USER}-bench", iam_user=f"{IAM_USER}-bench")
RESTRICTED = (
    Operator("no-secrets", f"{USER}-no-secrets", (WITHOUT_SECRETS,)),
    Operator("no-exec", f"{USER}-no-exec", (READERS,)),
    Operator("no-aws", f"{USER}-no-aws", iam_user=None),
    Operator("forbidden", f"{USER}-forbidden", (), iam_user=f"{IAM_USER}-forbidden", iam_allowed=False),
)
BY_NAME = {operator.name: operator for operator in (FULL, *RESTRICTED)}


def named(name: str) -> Operator:
    """The operator that ``--operator`` names; LabError for another name."""
    if name not in BY_NAME:
        raise LabError(f"there is no operator {name!r}; known: {', '.join(BY_NAME)}")
    return BY_NAME[name]


def chosen(names: str) -> tuple[Operator, ...]:
    """The operators that a list with commas names, ``all`` for every one; LabError for an unknown name."""
    return tuple(BY_NAME.values()) if names == "all" else tuple(named(name) for name in names.split(","))


def up() -> None:
    """Write the operator's kubeconfig and give it its read permissions."""
    kubeconfig.write(settings.operator_kubeconfig(), USER, [GROUP])
    kube.apply(kube.manifest("operator.yml.j2", group=GROUP, without_secrets=WITHOUT_SECRETS, readers=READERS))


def prepare(operator: Operator) -> None:
    """Make an identity other than the usual one in a lab that is up; nothing happens when it is there."""
    if operator == FULL:
        return
    up()
    kubeconfig.write(kubeconfig_of(operator), operator.user, operator.groups)
    if operator.iam_user not in (None, IAM_USER):
        identity = importlib.import_module("tests.lab.identity")
        identity.create_operator(operator.iam_user, allowed=operator.iam_allowed)


def grant(namespace: str) -> None:
    """Let the operators that may repair do so in ``namespace``: pods, exec, and patches of what a repair changes."""
    role_group = "rbac.authorization.k8s.io"
    kube.apply(
        [
            {
                "apiVersion": f"{role_group}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "mlflow-operator-repair", "namespace": namespace},
                "roleRef": {"apiGroup": role_group, "kind": "ClusterRole", "name": "mlflow-operator-repair"},
                "subjects": [
                    {"apiGroup": role_group, "kind": "Group", "name": group} for group in (GROUP, WITHOUT_SECRETS)
                ],
            }
        ]
    )


def kubeconfig_of(operator: Operator) -> Path:
    """Kubeconfig of an operator, for the host."""
    usual = settings.operator_kubeconfig()
    return usual if operator == FULL else usual.with_name(f"operator-{operator.name}.kubeconfig")


def environment(operator: Operator = FULL) -> dict[str, str]:
    """Environment variables of a shell of the operator: Kubernetes and AWS."""
    key = None if operator.iam_user is None else aws.operator_file(operator.iam_user)
    return {"KUBECONFIG": str(kubeconfig_of(operator)), **aws.environment(key)}
