# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify S3 bucket access, S3 artifact storage issues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.evidence import API, CLOUD, Evidence, State
from ..core.findings import TO_IDENTITY, TO_OBJECT_STORAGE, Context, Finding, SectionResult, Unknown, keys, parse_time
from ..core.iam_policy import Effect, evaluate, trust_allows
from ..core.workload import probes_from_server, ready_pods, result_of
from .logs import matches_in_logs

NEEDED = (("s3:ListBucket", "bucket"), ("s3:GetObject", "object"), ("s3:PutObject", "object"))
"""What MLflow's artifact proxy calls: ListObjectsV2, GetObject and PutObject (field guide section 3.11)."""

AUDIENCE = "sts.amazonaws.com"


def analyze(context: Context) -> SectionResult:
    """Judge identity, trust, policies and bucket, and hold them against what the pods experienced."""
    result = SectionResult()
    if not context.target.bucket:
        return result
    symptoms(context, result)
    identity(context, result)
    trust(context, result)
    role_policies(context, result)
    bucket(context, result)
    unreachable(context, result)
    return result


def listings(context: Context) -> list[Evidence]:
    return probes_from_server(context, "probe.s3_list")


def denied_listings(context: Context) -> list[Evidence]:
    return [item for item in listings(context) if result_of(item) == "denied"]


def symptoms(context: Context, result: SectionResult) -> None:
    denied = denied_listings(context)
    if denied:
        result.findings.append(
            Finding(
                "artifact_store.access_denied",
                context.target.bucket,
                f"S3 refuses the pods: {denied[0].value.get('error', '')[:200]}",
                keys(denied),
                flow=TO_OBJECT_STORAGE,
                measured=True,
            )
        )
    failing = [
        item
        for item in context.evidence.all("probe.http")
        if item.seen
        and "mlflow-artifacts/artifacts" in item.subject
        and int(item.value.get("status") or 0) in (403, 401, 500)
        and not host_rejected(item)
    ]
    failing = [item for item in failing if api_works(context, item.place)]
    if failing:
        result.findings.append(
            Finding(
                "artifact_store.list_failing",
                context.target.bucket,
                f"listing artifacts through MLflow fails with {failing[0].value.get('status')}",
                keys(failing),
                flow=TO_OBJECT_STORAGE,
                measured=True,
            )
        )


def host_rejected(item: Evidence) -> bool:
    return "Invalid Host header" in str(item.value.get("body", ""))


def api_works(context: Context, place: str) -> bool:
    return any(
        item.seen and item.value.get("status") == 200 and "experiments/search" in item.subject
        for item in context.evidence.all("probe.http", place)
    )


def service_account(context: Context) -> dict[str, Any] | None:
    for item in context.evidence.objects("kubernetes.serviceaccounts", context.target.namespace):
        if item["metadata"]["name"] == context.target.service_account:
            return item
    return None


def identity(context: Context, result: SectionResult) -> None:
    """Hold the pods' environment against the ServiceAccount's annotation."""
    account = service_account(context)
    seen = probes_from_server(context, "probe.identity")
    without = [item for item in seen if not item.value.get("role_arn") and not item.value.get("static_keys")]
    failing = [
        item for item in [*probes_from_server(context, "probe.sts"), *listings(context)] if result_of(item) != "ok"
    ]
    no_credentials = matches_in_logs(context, "s3_nocred")
    behaviour = keys([*without, *failing, *no_credentials])
    if account is None or not (without or no_credentials) or not (failing or no_credentials):
        return
    name = f"serviceaccount/{context.target.service_account}"
    proof = context.evidence.first("kubernetes.serviceaccounts", API)
    if not context.target.role_arn:
        summary = f"{name} has no IRSA annotation, so the pods have no AWS identity"
        result.findings.append(
            Finding(
                "artifact_store.identity_missing",
                name,
                summary,
                (*keys([proof]), *behaviour),
                flow=TO_IDENTITY,
                configured=True,
                measured=True,
            )
        )
    elif any(annotated_after(account, pod) for pod in ready_pods(context)):
        summary = f"{name} was annotated after the pods started, so they have no AWS identity yet"
        result.findings.append(
            Finding(
                "artifact_store.identity_stale",
                name,
                summary,
                (*keys([proof]), *behaviour),
                flow=TO_IDENTITY,
                configured=True,
                measured=True,
            )
        )


def annotated_after(account: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    moments = [item["time"] for item in account["metadata"].get("lastChanged") or [] if item.get("time")]
    started = pod["metadata"]["creationTimestamp"]
    return any(parse_time(moment) > parse_time(started) for moment in moments)


def role_of(context: Context) -> Evidence | None:
    return context.evidence.first("aws.role", CLOUD, context.target.role_name) if context.target.role_name else None


def trust(context: Context, result: SectionResult) -> None:
    evidence = role_of(context)
    refused = [item for item in probes_from_server(context, "probe.sts") if result_of(item) in ("denied", "error")]
    logged = matches_in_logs(context, "sts_error")
    if evidence is None or not (refused or logged):
        return
    role, flow = context.target.role_name, TO_IDENTITY
    subject = f"system:serviceaccount:{context.target.namespace}:{context.target.service_account}"
    if evidence.state is State.ABSENT:
        result.findings.append(
            Finding(
                "artifact_store.role_missing",
                role,
                f"IAM role {role} does not exist",
                keys([evidence, *refused, *logged]),
                flow=flow,
                configured=True,
                measured=True,
                facts={"role": role},
            )
        )
    elif evidence.seen and trust_allows(document_of(evidence.value), "", subject, AUDIENCE) in (
        Effect.IMPLICIT,
        Effect.DENIED,
    ):
        result.findings.append(
            Finding(
                "artifact_store.trust_policy_denies",
                role,
                f"the trust policy of role {role} does not let {subject} assume it",
                keys([evidence, *refused, *logged]),
                flow=flow,
                configured=True,
                measured=True,
                facts={"role": role, "subject": subject},
            )
        )


def document_of(role: Mapping[str, Any]) -> Mapping[str, Any]:
    return role.get("AssumeRolePolicyDocument") or (role.get("Role") or {}).get("AssumeRolePolicyDocument") or {}


def resource_of(context: Context, scope: str) -> str:
    base = f"arn:aws:s3:::{context.target.bucket}"
    if scope == "bucket":
        return base
    prefix = context.target.artifact_prefix.strip("/")
    return f"{base}/{prefix + '/' if prefix else ''}0/run/artifacts/file"


def role_policies(context: Context, result: SectionResult) -> None:
    """Evaluate the role's own policies for the calls that MLflow makes."""
    evidence = (
        context.evidence.first("aws.role_policies", CLOUD, context.target.role_name)
        if context.target.role_name
        else None
    )
    if evidence is None or not evidence.seen:
        if evidence is not None and evidence.state is State.FORBIDDEN:
            result.unknown.append(
                Unknown("whether the role's policies allow what MLflow needs", "not permitted", evidence.detail)
            )
        return
    value = evidence.value
    documents = [*value.get("inline", {}).values(), *value.get("attached", {}).values()]
    boundary = value.get("boundary")
    known = {"s3:prefix": context.target.artifact_prefix}
    missing = []
    for action, scope in NEEDED:
        resource = resource_of(context, scope)
        effects = [evaluate(documents, action, resource, known)] + (
            [evaluate([boundary], action, resource, known)] if boundary else []
        )
        if any(effect in (Effect.IMPLICIT, Effect.DENIED) for effect in effects):
            missing.append((action, resource))
    logged = [item for item in matches_in_logs(context, "s3_error") if denied_in(item, context)]
    behaviour = [*denied_listings(context), *logged]
    if not missing:
        if not denied_listings(context):
            result.rule_out("artifact_store.role_policy_denies", evidence)
        return
    actions = ", ".join(action for action, _ in missing)
    result.findings.append(
        Finding(
            "artifact_store.role_policy_denies",
            context.target.role_name,
            f"the policies of role {context.target.role_name} do not allow {actions} on bucket {context.target.bucket}",
            keys([evidence, *behaviour]),
            flow=TO_OBJECT_STORAGE,
            configured=True,
            measured=bool(behaviour),
            facts={
                "role": context.target.role_name,
                "actions": actions,
                "resource": f"arn:aws:s3:::{context.target.bucket}/*",
                "denied": [action for action, _ in missing],
            },
        )
    )


def denied_in(item: Evidence, context: Context) -> bool:
    return any("AccessDenied" in line["text"] for line in item.value["lines"])


def bucket(context: Context, result: SectionResult) -> None:
    evidence = context.evidence.first("aws.bucket", CLOUD, context.target.bucket)
    gone = [item for item in listings(context) if item.value.get("code") in ("NoSuchBucket", "404")]
    if (evidence is not None and evidence.state is State.ABSENT) or gone:
        result.findings.append(
            Finding(
                "artifact_store.bucket_missing",
                context.target.bucket,
                f"bucket {context.target.bucket} does not exist",
                keys([evidence, *gone]),
                flow=TO_OBJECT_STORAGE,
                configured=evidence is not None and evidence.state is State.ABSENT,
                measured=bool(gone),
                facts={"bucket": context.target.bucket},
            )
        )
        return
    if evidence is None or not evidence.seen:
        return
    denied = [
        action
        for action, scope in NEEDED
        if bucket_denies(evidence.value, action, resource_of(context, scope), context.target.role_arn)
    ]
    if denied:
        result.findings.append(
            Finding(
                "artifact_store.bucket_policy_denies",
                context.target.bucket,
                f"the policy of bucket {context.target.bucket} denies {', '.join(denied)} to the server's role",
                keys([evidence, *denied_listings(context)]),
                flow=TO_OBJECT_STORAGE,
                configured=True,
                measured=bool(denied_listings(context)),
                facts={"actions": ", ".join(denied), "bucket": context.target.bucket},
            )
        )
    region(context, evidence, result)


def bucket_denies(value: Mapping[str, Any], action: str, resource: str, role_arn: str) -> bool:
    policy = value.get("policy")
    if not isinstance(policy, dict) or "Statement" not in policy:
        return False
    return (
        evaluate([policy], action, resource, {"aws:PrincipalArn": role_arn, "aws:SecureTransport": "true"}, [role_arn])
        is Effect.DENIED
    )


def region(context: Context, evidence: Evidence, result: SectionResult) -> None:
    wrong = [
        item
        for item in listings(context)
        if item.value.get("code")
        in ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException")
    ]
    if wrong:
        result.findings.append(
            Finding(
                "artifact_store.wrong_region",
                context.target.bucket,
                f"bucket {context.target.bucket} is in {evidence.value.get('region')}, the pods ask another region",
                keys([evidence, *wrong]),
                flow=TO_OBJECT_STORAGE,
                configured=True,
                measured=True,
                facts={"region": evidence.value.get("region")},
            )
        )


def unreachable(context: Context, result: SectionResult) -> None:
    lost = [
        item
        for item in [*listings(context), *probes_from_server(context, "probe.sts")]
        if result_of(item) in ("timeout", "refused", "not_found", "try_again")
    ]
    if lost:
        result.findings.append(
            Finding(
                "artifact_store.unreachable",
                context.target.bucket,
                f"the pods cannot reach {'S3' if lost[0].what == 'probe.s3_list' else 'STS'}: {result_of(lost[0])}",
                keys(lost),
                flow=TO_OBJECT_STORAGE,
                measured=True,
            )
        )
    listed = [item for item in listings(context) if result_of(item) == "ok"]
    if listed:
        for what in (
            "artifact_store.identity_missing",
            "artifact_store.trust_policy_denies",
            "artifact_store.bucket_missing",
            "artifact_store.unreachable",
        ):
            result.rule_out(what, *listed)
