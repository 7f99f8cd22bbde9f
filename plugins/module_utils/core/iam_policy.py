# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What IAM policy documents allow (IAM user guide, policy evaluation logic and policy elements)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

UNSUPPORTED = None


class Effect(StrEnum):
    """Outcome of an evaluation; ``UNKNOWN`` when a condition cannot be judged from what we know."""

    ALLOWED = "allowed"
    DENIED = "explicitly denied"
    IMPLICIT = "not allowed"
    UNKNOWN = "unknown"


def as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def like(pattern: str, text: str, *, ignore_case: bool = False) -> bool:
    """Match with the wildcards ``*`` and ``?`` of policy documents."""
    expression = "".join(".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    return re.fullmatch(expression, text, re.IGNORECASE if ignore_case else 0) is not None


def names(statement: Mapping[str, Any], element: str, text: str, *, ignore_case: bool = False) -> bool:
    """Tell whether a statement's ``Action`` or ``Resource`` (or its ``Not`` form) covers a name."""
    if element in statement:
        return any(like(item, text, ignore_case=ignore_case) for item in as_list(statement[element]))
    if "Not" + element in statement:
        return not any(like(item, text, ignore_case=ignore_case) for item in as_list(statement["Not" + element]))
    return element == "Resource"


def condition_holds(conditions: Mapping[str, Mapping[str, Any]], known: Mapping[str, str]) -> bool | None:
    """Evaluate a condition block; ``None`` when it depends on something that we do not know."""
    verdicts = [
        one_condition(operator, key, as_list(values), known)
        for operator, block in conditions.items()
        for key, values in block.items()
    ]
    if False in verdicts:
        return False
    return UNSUPPORTED if UNSUPPORTED in verdicts else True


def one_condition(operator: str, key: str, values: list[Any], known: Mapping[str, str]) -> bool | None:
    lowered = {name.lower(): value for name, value in known.items()}
    value = lowered.get(key.lower())
    if value is None:
        return UNSUPPORTED
    if operator in ("StringEquals", "ArnEquals"):
        return value in values if operator == "StringEquals" else any(like(item, value) for item in values)
    if operator in ("StringLike", "ArnLike"):
        return any(like(item, value) for item in values)
    if operator == "StringNotEquals":
        return value not in values
    if operator == "Bool":
        return value.lower() in [str(item).lower() for item in values]
    return UNSUPPORTED


def principal_matches(statement: Mapping[str, Any], principals: Iterable[str]) -> bool:
    """Tell whether a resource policy's statement is about one of the given principals."""
    wanted = statement.get("Principal", "*")
    patterns = [wanted] if isinstance(wanted, str) else [item for value in wanted.values() for item in as_list(value)]
    return any(pattern == "*" or pattern in principals for pattern in patterns)


def evaluate(
    documents: Iterable[Mapping[str, Any]],
    action: str,
    resource: str,
    known: Mapping[str, str] | None = None,
    principals: Iterable[str] | None = None,
) -> Effect:
    """Evaluate policy documents for one request.

    Args:
        documents: identity policies, or one resource policy when ``principals`` is given.
        action: such as ``s3:PutObject``.
        resource: ARN.
        known: condition keys whose value in the request is known.
        principals: ARNs and ids that stand for the caller.
    """
    allowed = unsure_of_allow = unsure_of_deny = False
    for statement in (item for document in documents for item in as_list(document.get("Statement"))):
        if not names(statement, "Action", action, ignore_case=True) or not names(statement, "Resource", resource):
            continue
        if principals is not None and not principal_matches(statement, principals):
            continue
        holds = condition_holds(statement.get("Condition") or {}, known or {})
        if holds is False:
            continue
        denies = statement.get("Effect") == "Deny"
        if holds is UNSUPPORTED:
            unsure_of_deny, unsure_of_allow = unsure_of_deny or denies, unsure_of_allow or not denies
        elif denies:
            return Effect.DENIED
        else:
            allowed = True
    if unsure_of_deny or (unsure_of_allow and not allowed):
        return Effect.UNKNOWN
    return Effect.ALLOWED if allowed else Effect.IMPLICIT


def trust_allows(document: Mapping[str, Any], issuer: str, subject: str, audience: str) -> Effect:
    """Evaluate a role's trust policy for a web identity token.

    Args:
        document: the role's ``AssumeRolePolicyDocument``.
        issuer: the token issuer's host and path without ``https://``; empty when it is not known.
        subject: ``system:serviceaccount:<namespace>:<name>``.
        audience: the token's audience.
    """
    outcome = Effect.IMPLICIT
    for statement in as_list(document.get("Statement")):
        if not names(statement, "Action", "sts:AssumeRoleWithWebIdentity", ignore_case=True):
            continue
        provider = next(iter(as_list((statement.get("Principal") or {}).get("Federated"))), "")
        trusted = provider.partition(":oidc-provider/")[2]
        if not trusted or (issuer and trusted != issuer):
            continue
        holds = condition_holds(
            statement.get("Condition") or {}, {f"{trusted}:sub": subject, f"{trusted}:aud": audience}
        )
        if holds and statement.get("Effect") == "Deny":
            return Effect.DENIED
        if holds:
            outcome = Effect.ALLOWED
        elif holds is UNSUPPORTED and outcome is Effect.IMPLICIT:
            outcome = Effect.UNKNOWN
    return outcome
