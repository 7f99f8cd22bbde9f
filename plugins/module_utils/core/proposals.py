# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ready patches for what only its owner may change: text to copy, never a write."""

from __future__ import annotations

from .step import Situation, Step, StepClass, proven
from .verdict import Cause, fill

TEMPLATES: dict[str, tuple[str, str]] = {
    "artifact_store.role_policy_denies": (
        "propose_role_policy",
        "aws iam put-role-policy --role-name {role} --policy-name mlflow-artifacts --policy-document "
        '\'{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": ["s3:ListBucket", '
        '"s3:GetObject", "s3:PutObject", "s3:DeleteObject"], "Resource": ["arn:aws:s3:::{bucket}", '
        '"arn:aws:s3:::{bucket}/*"]}}]}}\'',
    ),
    "artifact_store.identity_missing": (
        "propose_irsa_annotation",
        "kubectl -n {namespace} annotate serviceaccount {service_account} eks.amazonaws.com/role-arn=<role-arn>",
    ),
    "artifact_store.trust_policy_denies": (
        "propose_trust_policy",
        "let the trust policy of role {role} admit sts:AssumeRoleWithWebIdentity for the subject {subject}",
    ),
    "artifact_store.wrong_region": (
        "propose_region",
        "kubectl -n {namespace} set env {kind}/{deployment} -c {container} AWS_REGION={region} "
        "AWS_DEFAULT_REGION={region}",
    ),
    "artifact_store.endpoint_wrong": (
        "propose_endpoint",
        "kubectl -n {namespace} set env {kind}/{deployment} -c {container} MLFLOW_S3_ENDPOINT_URL-",
    ),
    "database.network_acl_closed": (
        "propose_network_acl",
        "aws ec2 describe-network-acls --network-acl-ids {acl}: then let an entry with a lower number allow TCP {port} "
        "from the pods, and TCP 1024-65535 back",
    ),
    "database.schema_mismatch": (
        "propose_migration",
        "ansible-playbook mlops.mlflow_runbook.migrate_database -e mlflow_namespace={namespace}",
    ),
    "network_policy.ingress_denied": (
        "propose_network_policy",
        "kubectl -n {namespace} apply -f - <<'YAML'\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: "
        "{{name: {deployment}-from-{source}}}\nspec:\n  podSelector: {{matchLabels: {selector}}}\n"
        "  policyTypes: [Ingress]\n  ingress:\n"
        "  - from: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {source}}}}}}}]\n"
        "    ports: [{{protocol: TCP, port: {port}}}]\nYAML",
    ),
    "network_policy.egress_denied": (
        "propose_network_policy",
        "let the owner of {policies} add an egress rule to {destination} for the pods of {kind}/{deployment}",
    ),
    "service.missing": (
        "propose_service",
        "kubectl -n {namespace} expose {kind}/{deployment} --name=<name> --port=80 --target-port={port}",
    ),
    "pods.scaled_to_zero": ("propose_scale", "kubectl -n {namespace} scale {kind}/{deployment} --replicas=1"),
}
"""Per kind of cause: the proposal's name and its text over the finding's facts."""


def propose(cause: Cause, situation: Situation) -> list[Step]:
    """Return the ready patch for the owner of a cause's object, if there is one."""
    if cause.finding.id not in TEMPLATES or not cause.finding.facts.get("upgradable", True):
        return []
    name, template = TEMPLATES[cause.finding.id]
    (text,) = fill((template,), cause.finding, situation.target)
    return [
        Step(
            step=name,
            section=cause.finding.section,
            cause=cause.finding.id,
            object=cause.finding.object,
            step_class=StepClass.PROPOSED,
            change={},
            proven=proven(cause),
            proposal=text,
        )
    ]
