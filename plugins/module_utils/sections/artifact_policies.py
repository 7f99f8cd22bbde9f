# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server's role may do: its policies, its boundary, the bucket's policy, and what only AWS's words tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.evidence import CLOUD, Evidence, State
from ..core.findings import TO_OBJECT_STORAGE, Context, Finding, SectionResult, Unknown, keys
from ..core.iam_policy import Effect, evaluate
from .artifact_facts import Refusal, bucket_of, identity_of, refusals, succeeded

NEEDED = (("s3:ListBucket", "bucket"), ("s3:GetObject", "object"), ("s3:PutObject", "object"))
"""What MLflow's artifact proxy calls: ListObjectsV2, GetObject and PutObject (field guide section 3.11)."""

OPERATIONS = {
    "s3:ListBucket": ("ListObjectsV2", "ListObjects", "HeadBucket"),
    "s3:GetObject": ("GetObject", "HeadObject"),
    "s3:PutObject": ("PutObject", "CreateMultipartUpload", "UploadPart"),
}
PROVEN_BY = {"s3:ListBucket": "probe.s3_list", "s3:GetObject": "probe.s3_get", "s3:PutObject": "probe.s3_canary"}
EVERYTHING = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}
KEY = "0/run/artifacts/file"
OUTER = re.compile(
    r"(?:explicit deny in an? |no )(?P<kind>VPC endpoint policy|service control policy|resource control policy"
    r"|session policy)",
    re.IGNORECASE,
)
BY_RESOURCE = re.compile(r"explicit deny in a resource-based policy", re.IGNORECASE)
BY_KEY = re.compile(r"\bkms:(?:GenerateDataKey|Decrypt|Encrypt|DescribeKey)\b|\bKMS\.\w+")
"""AWS's own words for what our reads do not show (IAM user guide, "Access denied error messages")."""


@dataclass(frozen=True)
class Judged:
    """One needed action: what the role's policies, its boundary, and the bucket's policy (two ways) say about it."""

    action: str
    resource: str
    role: Effect
    boundary: Effect
    grant: Effect
    veto: Effect


def analyze(context: Context, result: SectionResult) -> None:
    """Judge policies that can be read, then what AWS says of those that cannot."""
    refused = refusals(context)
    evidence = context.evidence.first("aws.role_policies", CLOUD, context.target.role_name)
    judged = judge(context, evidence)
    bucket_policy(context, judged, refused, result)
    role_policies(context, evidence, judged, refused, result)
    outer_policies(context, refused, result)
    encryption_key(context, refused, result)


def resource_of(context: Context, scope: str) -> str:
    base = f"arn:aws:s3:::{context.target.bucket}"
    return base if scope == "bucket" else f"{base}/{folder(context)}{KEY}"


def folder(context: Context) -> str:
    prefix = context.target.artifact_prefix.strip("/")
    return f"{prefix}/" if prefix else ""


def judge(context: Context, evidence: Evidence | None) -> list[Judged]:
    """Evaluate every needed action; what could not be read is unknown."""
    value: Mapping[str, Any] = evidence.value if evidence is not None and evidence.seen else {}
    documents = [*(value.get("inline") or {}).values(), *(value.get("attached") or {}).values()]
    whole = evidence is not None and evidence.state is State.OK
    seen = bucket_of(context)
    arn = context.target.role_arn
    known = {
        "s3:prefix": f"{folder(context)}0/run/artifacts",
        "aws:PrincipalArn": arn,
        "aws:SecureTransport": "true",
        "aws:PrincipalAccount": arn.split(":")[4] if arn.count(":") > 4 else "",
    }
    found = []
    for action, scope in NEEDED:
        resource = resource_of(context, scope)
        role = evaluate(documents, action, resource, known) if value else Effect.UNKNOWN
        boundary = value.get("boundary")
        inside = evaluate([boundary], action, resource, known) if boundary else Effect.ALLOWED
        if not whole and role is Effect.IMPLICIT:
            role = Effect.UNKNOWN
        found.append(Judged(action, resource, role, inside, *bucket_effects(seen, action, resource, known)))
    return found


def bucket_effects(
    seen: Evidence | None, action: str, resource: str, known: Mapping[str, str]
) -> tuple[Effect, Effect]:
    """Return whether the bucket's policy grants, and whether it forbids.

    A statement about the whole account forbids the role, but leaves what it grants to IAM.
    """
    policy = seen.value.get("policy") if seen is not None and seen.seen else None
    if not isinstance(policy, dict) or "Statement" not in policy:
        return (Effect.IMPLICIT, Effect.ALLOWED) if policy is None else (Effect.UNKNOWN, Effect.UNKNOWN)
    arn, account = known["aws:PrincipalArn"], known["aws:PrincipalAccount"]
    everybody = [arn, account, f"arn:aws:iam::{account}:root"]
    return (
        evaluate([policy], action, resource, known, [arn]),
        evaluate([policy, EVERYTHING], action, resource, known, everybody),
    )


def behaviour(refused: list[Refusal], actions: list[str]) -> list[Evidence]:
    """Return the refusals of the operations that need these actions."""
    operations = {name for action in actions for name in OPERATIONS[action]}
    return [item.evidence for item in refused if item.operation in operations]


def works(context: Context, action: str) -> bool:
    """Tell whether the serving pod itself just did what a policy seems to forbid."""
    return succeeded(context, PROVEN_BY[action])


def role_policies(
    context: Context,
    evidence: Evidence | None,
    judged: list[Judged],
    refused: list[Refusal],
    result: SectionResult,
) -> None:
    """Name the role's policies, or its boundary, when they leave out what MLflow calls."""
    if evidence is None or not evidence.seen:
        if evidence is not None and evidence.state is State.FORBIDDEN:
            result.unknown.append(
                Unknown("whether the role's policies allow what MLflow needs", "not permitted", evidence.detail)
            )
        return
    by_role = [item for item in judged if not granted(item) and item.role in (Effect.IMPLICIT, Effect.DENIED)]
    by_boundary = [item for item in judged if item not in by_role and item.boundary in (Effect.IMPLICIT, Effect.DENIED)]
    role = context.target.role_name
    for identifier, missing, words in (
        ("artifact_store.role_policy_denies", by_role, f"the policies of role {role} do"),
        ("artifact_store.permissions_boundary_denies", by_boundary, f"the permissions boundary of role {role} does"),
    ):
        at_odds = [item.action for item in missing if works(context, item.action)]
        if at_odds:
            result.unknown.append(
                Unknown(
                    f"{words} not allow {', '.join(at_odds)}, and the pod could do it a moment ago",
                    "a change of policies takes effect late, or a condition was read wrongly",
                    "another run in a minute",
                )
            )
        wrong = [item for item in missing if item.action not in at_odds]
        if wrong:
            summary = f"{words} not allow {spell(wrong)} on bucket {context.target.bucket}{by_whom(evidence, wrong)}"
            result.findings.append(denial(context, identifier, role, summary, evidence, wrong, refused))
    if not by_role and not by_boundary and succeeded(context, "probe.s3_list"):
        result.rule_out("artifact_store.role_policy_denies", evidence)


def by_whom(evidence: Evidence, missing: list[Judged]) -> str:
    """Name the role's policies that forbid an action by themselves, whatever others grant."""
    named = {**(evidence.value.get("inline") or {}), **(evidence.value.get("attached") or {})}
    found = sorted(
        name
        for name, document in named.items()
        if any(evaluate([document], item.action, item.resource) is Effect.DENIED for item in missing)
    )
    return f": {', '.join(found)} denies it" if found else ""


def granted(item: Judged) -> bool:
    """Within one account the bucket's policy may grant what the role's own do not."""
    return item.role is Effect.IMPLICIT and item.grant in (Effect.ALLOWED, Effect.UNKNOWN)


def spell(missing: list[Judged]) -> str:
    return ", ".join(item.action for item in missing)


def denial(
    context: Context,
    identifier: str,
    name: str,
    summary: str,
    evidence: Evidence,
    missing: list[Judged],
    refused: list[Refusal],
) -> Finding:
    seen = behaviour(refused, [item.action for item in missing])
    role = context.evidence.value("aws.role", CLOUD, context.target.role_name, default={})
    boundary = (role.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn", "")
    return Finding(
        identifier,
        name,
        summary,
        keys([evidence, *seen]),
        flow=TO_OBJECT_STORAGE,
        configured=True,
        measured=bool(seen),
        facts={
            "role": context.target.role_name,
            "bucket": context.target.bucket,
            "boundary": boundary,
            "actions": spell(missing),
            "resource": " and ".join(sorted({item.resource.replace(KEY, "*") for item in missing})),
            "denied": [item.action for item in missing],
        },
    )


def bucket_policy(context: Context, judged: list[Judged], refused: list[Refusal], result: SectionResult) -> None:
    """Name the bucket's policy when it denies, surely or, on a condition that we cannot see, by AWS's own words."""
    evidence = bucket_of(context)
    if evidence is None or not evidence.seen:
        return
    said = [item for item in refused if BY_RESOURCE.search(item.text)]
    told = {action for action in OPERATIONS if behaviour(said, [action])}
    denied = [
        item for item in judged if item.veto is Effect.DENIED or (item.veto is Effect.UNKNOWN and item.action in told)
    ]
    denied = [item for item in denied if not works(context, item.action)]
    if denied:
        name = context.target.bucket
        summary = f"the policy of bucket {name} denies {spell(denied)} to the server's role"
        result.findings.append(
            denial(context, "artifact_store.bucket_policy_denies", name, summary, evidence, denied, refused)
        )


def outer_policies(context: Context, refused: list[Refusal], result: SectionResult) -> None:
    """An organization's or a VPC endpoint's policy is out of our sight; AWS names its kind in the refusal."""
    for item in refused:
        match = OUTER.search(item.text)
        if match is None:
            continue
        kind = match["kind"]
        result.findings.append(
            Finding(
                "artifact_store.guardrail_denies",
                context.target.bucket,
                f"a {kind} forbids {item.operation} on bucket {context.target.bucket}",
                keys([item.evidence]),
                flow=TO_OBJECT_STORAGE,
                configured=True,
                measured=True,
                facts={"policy": kind, "actions": item.operation, "role": context.target.role_name},
            )
        )


def encryption_key(context: Context, refused: list[Refusal], result: SectionResult) -> None:
    """A bucket encrypted with a key of one's own needs that key for every object (field guide A-08)."""
    said = [item for item in refused if BY_KEY.search(f"{item.code} {item.text}")]
    if not said:
        return
    bucket = bucket_of(context)
    rules = ((bucket.value.get("encryption") or {}).get("Rules") or []) if bucket is not None and bucket.seen else []
    wanted = [rule.get("ApplyServerSideEncryptionByDefault") or {} for rule in rules]
    key = next((str(item["KMSMasterKeyID"]) for item in wanted if item.get("KMSMasterKeyID")), "")
    role = context.target.role_name or str(identity_of(context).get("role_arn") or "the server's role")
    result.findings.append(
        Finding(
            "artifact_store.encryption_key_denied",
            key or context.target.bucket,
            f"the encryption key of bucket {context.target.bucket} cannot be used: {said[0].text[:200]}",
            keys([bucket, *(item.evidence for item in said)]),
            flow=TO_OBJECT_STORAGE,
            configured=bool(key),
            measured=True,
            facts={"key": key or "the bucket's key", "role": role},
        )
    )
