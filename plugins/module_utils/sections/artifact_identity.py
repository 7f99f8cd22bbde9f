# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the pods are to AWS: annotation, injection, trust, identity provider, and the node's role as silent fallback."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..core.evidence import API, CLOUD, DEBUG_COPY, Evidence, State
from ..core.findings import TO_IDENTITY, Context, Finding, SectionResult, Unknown, keys, parse_time
from ..core.iam_policy import Effect, as_list, trust_allows
from ..core.workload import container_spec, ready_pods, result_of
from .artifact_facts import (
    ROLE_VARIABLE,
    identity_of,
    listings,
    observed,
    of_new_pod,
    refusals,
    seen_at,
    serving_roles,
    template_variables,
    variables,
)
from .logs import matches_in_logs

AUDIENCE = "sts.amazonaws.com"
DENIED = (Effect.IMPLICIT, Effect.DENIED)
SOURCES = frozenset({ROLE_VARIABLE, "AWS_ACCESS_KEY_ID", "AWS_CONTAINER_CREDENTIALS_FULL_URI"})
ASSUMED = re.compile(r":assumed-role/(?P<role>[\w+=,.@-]+)/")


def analyze(context: Context, result: SectionResult) -> None:
    """Judge where the identity comes from, then whether STS gives it."""
    source(context, result)
    trust(context, result)


def service_account(context: Context) -> dict[str, Any] | None:
    for item in context.evidence.objects("kubernetes.serviceaccounts", context.target.namespace):
        if item["metadata"]["name"] == context.target.service_account:
            return item
    return None


def anonymous(item: Evidence) -> bool:
    """Tell whether a pod was given no identity of its own."""
    return not any(item.value.get(key) for key in ("role_arn", "static_keys", "pod_identity"))


def refused(items: Iterable[Evidence]) -> list[Evidence]:
    return [item for item in items if result_of(item) == "denied"]


def source(context: Context, result: SectionResult) -> None:
    """Hold the pods' identity against the ServiceAccount's annotation."""
    account = service_account(context)
    if account is None:
        return
    bare = without_any(context)
    failing = refused([*observed(context, "probe.sts"), *listings(context)])
    failing += [item.evidence for item in refusals(context)] if bare else []
    logged = matches_in_logs(context, "s3_nocred")
    proof = [context.evidence.first("kubernetes.serviceaccounts", API), *bare, *failing, *logged]
    if bare and (failing or logged):
        identifier, summary = without_identity(context, account)
        if identifier:
            result.findings.append(finding(context, identifier, summary + fallback(context), proof))
        else:
            why = f"serviceaccount/{context.target.service_account} is annotated, and no date tells since when"
            result.unknown.append(Unknown("why the pods have no AWS identity", why, "a probe pod (mlflow_probe_pods)"))
    elif not context.target.role_arn and not bare:
        at_next_start(context, result)
    elif outdated(context) and failing:
        summary = "was changed after the pods started, which still use role " + ", ".join(
            sorted(serving_roles(context))
        )
        result.findings.append(finding(context, "artifact_store.identity_stale", summary, proof))


def without_any(context: Context) -> list[Evidence]:
    """Return the proof that the serving pods have no identity of their own: from inside, or from their definition."""
    inside = observed(context, "probe.identity")
    if inside:
        return [item for item in inside if anonymous(item)]
    pods = context.evidence.first("kubernetes.pods", API, context.target.namespace)
    known = [variables(pod, context) for pod in ready_pods(context)]
    named = any(entry["name"] in SOURCES for entries in known for entry in entries)
    hidden = any(container_spec(pod, context.target.container).get("envFrom") for pod in ready_pods(context))
    return [pods] if pods is not None and known and not named and not hidden else []


def finding(
    context: Context, identifier: str, summary: str, proof: Iterable[Evidence | None], later: bool = False
) -> Finding:
    name = f"serviceaccount/{context.target.service_account}"
    return Finding(
        identifier,
        name,
        f"{name} {summary}",
        keys(proof),
        flow=TO_IDENTITY,
        configured=True,
        measured=True,
        facts={"later": later},
    )


def without_identity(context: Context, account: Mapping[str, Any]) -> tuple[str, str]:
    """Say why pods have no identity: never asked for, asked for too late, or asked for in vain."""
    if not context.target.role_arn:
        return "artifact_store.identity_missing", "has no IRSA annotation, so the pods have no AWS identity"
    new = of_new_pod(context, "probe.identity") or seen_at(context, "probe.identity", DEBUG_COPY)
    late = any(annotated_after(account, pod) for pod in ready_pods(context))
    if any(not anonymous(item) for item in new) or (late and not new):
        return "artifact_store.identity_stale", "was annotated after the pods started, so they have no AWS identity yet"
    if new:
        summary = f"names role {context.target.role_name}, but nothing gives new pods that identity"
        return "artifact_store.identity_not_injected", summary
    return "", ""


def fallback(context: Context) -> str:
    """Name the role that answers for pods without an identity of their own, which is the node's."""
    words = [str(item.value.get("arn", "")) for item in observed(context, "probe.sts") if result_of(item) == "ok"]
    for text in [*words, *(item.text for item in refusals(context))]:
        match = ASSUMED.search(text)
        if match and match["role"] != context.target.role_name:
            return f"; they silently use the node's role {match['role']}"
    return ""


def at_next_start(context: Context, result: SectionResult) -> None:
    """The pods still have the identity of an annotation that is gone; new ones would have none."""
    new = [item for item in of_new_pod(context, "probe.identity") if anonymous(item)]
    failing = refused([*of_new_pod(context, "probe.sts"), *of_new_pod(context, "probe.s3_list")])
    if not new or not failing or own_variable(context):
        return
    proof = [context.evidence.first("kubernetes.serviceaccounts", API), *new, *failing]
    summary = "has lost its IRSA annotation: the running pods still have their identity, a new pod would have none"
    result.findings.append(finding(context, "artifact_store.identity_missing", summary, proof, later=True))


def own_variable(context: Context) -> bool:
    """Tell whether the pod template names a role itself, so that no annotation is needed."""
    return any(item["name"] == ROLE_VARIABLE for item in template_variables(context))


def annotated_after(account: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    moments = [item["time"] for item in account["metadata"].get("lastChanged") or [] if item.get("time")]
    started = pod["metadata"]["creationTimestamp"]
    return any(parse_time(moment) > parse_time(started) for moment in moments)


def outdated(context: Context) -> bool:
    """Tell whether the pods use another role than the one that the annotation names now."""
    used = serving_roles(context) - {""}
    return bool(used and context.target.role_arn) and used != {context.target.role_arn} and not own_variable(context)


def trust(context: Context, result: SectionResult) -> None:
    """Find why STS does not give the role: the role, its trust policy, the identity provider or the token."""
    asked = [*observed(context, "probe.sts"), *of_new_pod(context, "probe.sts")]
    denied = refused(asked)
    logged = matches_in_logs(context, "sts_error")
    if not context.target.role_name or not (denied or logged):
        return
    role = context.evidence.first("aws.role", CLOUD, context.target.role_name)
    if role is None or (outdated(context) and not refused(of_new_pod(context, "probe.sts"))):
        return
    behaviour = [*denied, *logged]
    if role.state is State.ABSENT:
        summary = f"IAM role {context.target.role_name} does not exist"
        result.findings.append(about_role(context, "artifact_store.role_missing", summary, [role, *behaviour]))
    elif role.seen:
        untrusted(context, role, behaviour, result)


def about_role(
    context: Context,
    identifier: str,
    summary: str,
    proof: Iterable[Evidence | None],
    facts: Mapping[str, Any] | None = None,
    name: str = "",
) -> Finding:
    return Finding(
        identifier,
        name or context.target.role_name,
        summary,
        keys(proof),
        flow=TO_IDENTITY,
        configured=True,
        measured=True,
        facts={"role": context.target.role_name, **(facts or {})},
    )


def untrusted(context: Context, role: Evidence, behaviour: list[Evidence], result: SectionResult) -> None:
    """Hold the token's own words against the trust policy and against the provider that it names."""
    claims = identity_of(context).get("claims") or {}
    issuer = str(claims.get("issuer") or "").removeprefix("https://")
    expected = f"system:serviceaccount:{context.target.namespace}:{context.target.service_account}"
    subject = str(claims.get("subject") or expected)
    audience = next(iter(claims.get("audience") or []), AUDIENCE)
    document = role.value.get("AssumeRolePolicyDocument") or {}
    name = context.target.role_name
    if trust_allows(document, issuer, subject, audience) in DENIED:
        why = why_denied(document, issuer, subject, audience)
        summary = f"the trust policy of role {name} does not let {subject} assume it: {why}"
        facts = {"subject": f"{subject} of {issuer or 'the cluster'} with audience {audience}"}
        result.findings.append(
            about_role(context, "artifact_store.trust_policy_denies", summary, [role, *behaviour], facts)
        )
        return
    for provider in context.evidence.all("aws.identity_provider", CLOUD):
        if not issuer or not provider.subject.endswith(f"oidc-provider/{issuer}"):
            continue
        facts = {"provider": provider.subject, "audience": audience}
        if provider.state is State.ABSENT:
            summary = f"role {name} trusts {provider.subject}, which does not exist in the account"
            identifier = "artifact_store.identity_provider_missing"
        elif provider.seen and audience not in provider.value["audiences"]:
            known = ", ".join(provider.value["audiences"]) or "none"
            summary = f"the pods' token is for {audience}, the identity provider accepts {known}"
            identifier = "artifact_store.token_audience_wrong"
        else:
            continue
        proof = [role, provider, *behaviour]
        result.findings.append(about_role(context, identifier, summary, proof, facts, provider.subject))


def why_denied(document: Mapping[str, Any], issuer: str, subject: str, audience: str) -> str:
    """Say which part of a trust policy does not fit: issuer, subject or audience."""
    providers = [
        str(item).partition(":oidc-provider/")[2]
        for statement in as_list(document.get("Statement"))
        for item in as_list((statement.get("Principal") or {}).get("Federated"))
        if isinstance(statement.get("Principal"), dict)
    ]
    if issuer and issuer not in providers:
        return f"it trusts {', '.join(providers) or 'no identity provider'}, the tokens come from {issuer}"
    named = {
        key.rpartition(":")[2]: ", ".join(map(str, as_list(value)))
        for statement in as_list(document.get("Statement"))
        for block in (statement.get("Condition") or {}).values()
        for key, value in block.items()
    }
    differing = [
        f"{word} is {ours}, it wants {named[key]}"
        for key, word, ours in (("sub", "the subject", subject), ("aud", "the audience", audience))
        if key in named and ours not in named[key].split(", ")
    ]
    return "; ".join(differing) or "a condition does not hold"
