# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's role: what it may do beyond its bucket, and who else may take it."""

from __future__ import annotations

import json
from typing import Any

from ..core.evidence import API, CLOUD, Evidence, State
from ..core.findings import Context
from ..core.iam_policy import Effect, as_list, evaluate, trust_allows
from .items import Item, Patch, lines, missing, ok, unknown, unseen, weak
from .server import command_of, container_of

STATIC_KEYS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"})
AUDIENCE = "sts.amazonaws.com"
STRANGER = "system:serviceaccount:somebody-elses-namespace:somebody-elses-account"
EXCESS = (
    ("s3:GetObject", "arn:aws:s3:::somebody-elses-bucket/file", "read other buckets"),
    ("s3:PutObject", "arn:aws:s3:::somebody-elses-bucket/file", "write to other buckets"),
    ("s3:DeleteBucket", "{bucket}", "delete its bucket"),
    ("s3:PutBucketPolicy", "{bucket}", "change its bucket's policy"),
    ("s3:PutBucketVersioning", "{bucket}", "switch its bucket's versioning off"),
    ("s3:DeleteObjectVersion", "{bucket}/file", "delete old versions for good"),
    ("iam:PassRole", "arn:aws:iam::{account}:role/administrator", "pass roles on"),
    ("iam:CreateAccessKey", "arn:aws:iam::{account}:user/somebody", "make access keys"),
    ("sts:AssumeRole", "arn:aws:iam::{account}:role/administrator", "take other roles"),
    ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:{region}:{account}:secret:other-AbCdEf", "read secrets"),
    ("rds:DeleteDBInstance", "arn:aws:rds:{region}:{account}:db:{instance}", "delete the database"),
    ("ec2:RunInstances", "arn:aws:ec2:{region}:{account}:instance/*", "start machines"),
)
"""What a tracking server never needs (field guide section 3.11: it lists, gets, puts and deletes its own objects)."""
OBJECT_ACTIONS = (
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)
"""GetObject and PutObject serve artifacts, DeleteObject ``mlflow gc``, the others large uploads in parts."""


def judge(context: Context) -> list[Item]:
    """Judge the role's policies and its trust policy."""
    return [least_privilege(context), trust(context)]


def no_role(context: Context, id_: str) -> Item:
    """Say why there is no role to judge: none is named, or the service account could not be read."""
    namespace = context.target.namespace
    look = context.evidence.first("kubernetes.serviceaccounts", API, namespace)
    if look is None or not look.conclusive:
        return unseen(id_, look, f"list serviceaccounts in namespace {namespace}")
    if context.target.artifact_endpoint or not context.target.bucket:
        return unknown(id_, "no S3 bucket of AWS is known to be used", "mlflow_artifact_bucket")
    command = command_of(context)
    names = {*(command.environment if command else ()), *(command.references if command else ())}
    names |= {str(row.get("name")) for row in container_of(context).get("env") or []}
    what = "a static access key in the environment" if names & STATIC_KEYS else "whatever role the node has"
    summary = f"serviceaccount {context.target.service_account} names no role; the server uses {what}"
    return missing(id_, summary, (annotation(context), Patch("terraform", policy_block(context))), look)


def annotation(context: Context) -> Patch:
    target = context.target
    arn = "arn:aws:iam::<account>:role/<the role of this server>"
    command = f"kubectl -n {target.namespace} annotate serviceaccount {target.service_account}"
    restart = f"kubectl -n {target.namespace} rollout restart {target.kind.lower()}/{target.deployment}"
    return Patch("kubectl", f"{command} eks.amazonaws.com/role-arn='{arn}'\n{restart}")


def policy_document(context: Context) -> dict[str, Any]:
    """Return the least policy with which the server works."""
    bucket, prefix = f"arn:aws:s3:::{context.target.bucket}", context.target.artifact_prefix.strip("/")
    objects = f"{bucket}/{prefix}/*" if prefix else f"{bucket}/*"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": bucket},
            {"Effect": "Allow", "Action": list(OBJECT_ACTIONS), "Resource": objects},
        ],
    }


def policy_block(context: Context) -> str:
    role = context.target.role_name or "<the role of this server>"
    document = json.dumps(policy_document(context), indent=2)
    head = f'resource "aws_iam_role_policy" "artifacts" {{\n  name   = "mlflow-artifacts"\n  role   = "{role}"\n'
    return f"{head}  policy = <<-JSON\n{document}\n  JSON\n}}"


def least_privilege(context: Context) -> Item:
    """Try what a tracking server never needs against the role's policies and its boundary."""
    id_, target = "identity.least_privilege", context.target
    if not target.role_arn:
        return no_role(context, id_)
    look = context.evidence.first("aws.role_policies", CLOUD, target.role_name)
    if look is None or not look.seen:
        return unseen(id_, look, "iam:ListRolePolicies")
    documents = [*look.value["inline"].values(), *look.value["attached"].values()]
    boundary = look.value.get("boundary")
    parts = target.role_arn.split(":")
    names = {
        "bucket": f"arn:aws:s3:::{target.bucket or 'its-bucket'}",
        "account": parts[4] if len(parts) > 4 else "",
        "region": target.region,
        "instance": target.db_instance_identifier or "its-instance",
    }
    excess = []
    for action, resource, words in EXCESS:
        arn = resource.format(**names)
        allowed = evaluate(documents, action, arn) is Effect.ALLOWED
        if allowed and (not boundary or evaluate([boundary], action, arn) is Effect.ALLOWED):
            excess.append(f"{words} ({action})")
    if excess:
        what = f"role {target.role_name} may {', '.join(excess)}"
        return weak(id_, what, replacement(context, look), look)
    if look.state is not State.OK:
        return unknown(id_, f"not all of its policies could be read: {look.detail}", look.detail, look)
    return ok(id_, f"role {target.role_name} may do nothing of {len(EXCESS)} things that a server never needs", look)


def replacement(context: Context, look: Evidence) -> tuple[Patch, ...]:
    """Put the least policy in the place of what the role has; the new one first, so that nothing fails between."""
    role, document = context.target.role_name, json.dumps(policy_document(context))
    inline = sorted(name for name in look.value["inline"] if name != "mlflow-artifacts")
    commands = [
        f"aws iam put-role-policy --role-name {role} --policy-name mlflow-artifacts --policy-document '{document}'",
        *(f"aws iam delete-role-policy --role-name {role} --policy-name {name}" for name in inline),
        *(
            f"aws iam detach-role-policy --role-name {role} --policy-arn {arn}"
            for arn in sorted(look.value["attached"])
        ),
    ]
    note = "# what else uses this role loses the rest: see who took it last (aws iam get-role, RoleLastUsed)\n"
    return Patch("terraform", policy_block(context)), Patch("aws", note + "\n".join(commands))


def trust(context: Context) -> Item:
    """Try a stranger's service account, and a token for another audience, against the role's trust policy."""
    id_, target = "identity.trust", context.target
    if not target.role_arn:
        return no_role(context, id_)
    look = context.evidence.first("aws.role", CLOUD, target.role_name)
    if look is None or not look.seen:
        return unseen(id_, look, "iam:GetRole")
    document = look.value.get("AssumeRolePolicyDocument") or {}
    own = f"system:serviceaccount:{target.namespace}:{target.service_account}"
    problems = []
    for subject, audience, words in (
        (STRANGER, AUDIENCE, "any service account of the cluster may take it"),
        (
            own.rpartition(":")[0] + ":somebody-elses-account",
            AUDIENCE,
            "any service account of its namespace may take it",
        ),
        (own, "somebody-elses-audience", "a token for any audience may take it"),
    ):
        if may_be_allowed(document, subject, audience):
            problems.append(words)
    if anybody(document):
        problems.insert(0, "any AWS account may take it")
    if not problems:
        return ok(id_, f"role {target.role_name} trusts {target.namespace}/{target.service_account} alone", look)
    summary = f"role {target.role_name}: {problems[0]}"
    return weak(id_, summary, trust_patch(context, document, own), look)


def may_be_allowed(document: dict[str, Any], subject: str, audience: str) -> bool:
    """Tell whether a token is let in; a condition that is not about the token does not make it safe."""
    return trust_allows(document, "", subject, audience) is Effect.ALLOWED


def anybody(document: dict[str, Any]) -> bool:
    return any(
        statement.get("Effect") == "Allow"
        and not statement.get("Condition")
        and (statement.get("Principal") == "*" or "*" in as_list((statement.get("Principal") or {}).get("AWS")))
        for statement in as_list(document.get("Statement"))
        if not isinstance(statement.get("Principal"), str) or statement.get("Principal") == "*"
    )


def trust_patch(context: Context, document: dict[str, Any], own: str) -> tuple[Patch, ...]:
    """Bind every web identity of the policy to the server's own service account."""
    role = context.target.role_name
    providers = [
        str(arn)
        for statement in as_list(document.get("Statement"))
        if isinstance(statement.get("Principal"), dict)
        for arn in as_list(statement["Principal"].get("Federated"))
    ]
    arn = providers[0] if providers else "arn:aws:iam::<account>:oidc-provider/<issuer of the cluster>"
    issuer = arn.partition(":oidc-provider/")[2]
    wanted = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": arn},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": {f"{issuer}:sub": own, f"{issuer}:aud": AUDIENCE}},
            }
        ],
    }
    block = lines(f"""
        # in the aws_iam_role {role}
        assume_role_policy = <<-JSON
        """)
    text = json.dumps(wanted)
    return (
        Patch("terraform", f"{block}\n{json.dumps(wanted, indent=2)}\nJSON"),
        Patch("aws", f"aws iam update-assume-role-policy --role-name {role} --policy-document '{text}'"),
    )
