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
VARIABLE = re.compile(r"\$\{[^}]*\}")


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


def covers(statement: Mapping[str, Any], resource: str) -> bool | None:
    """Tell whether a statement is about a resource; ``None`` when only a policy variable's value would tell."""
    patterns = as_list(statement.get("Resource", statement.get("NotResource", "*")))
    plain = [item for item in patterns if not VARIABLE.search(item)]
    element = "NotResource" if "NotResource" in statement else "Resource"
    if len(plain) == len(patterns) or any(like(item, resource) for item in plain):
        return names({element: plain}, "Resource", resource)
    possible = any(like(VARIABLE.sub("*", item), resource) for item in patterns)
    return UNSUPPORTED if possible else element == "NotResource"


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
    if value is None or any(VARIABLE.search(str(item)) for item in values):
        return UNSUPPORTED
    operator = operator.removesuffix("IfExists")
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
    """Tell whether a resource policy's statement (by ``Principal`` or ``NotPrincipal``) is about given principals."""
    element = "NotPrincipal" if "NotPrincipal" in statement else "Principal"
    wanted = statement.get(element, "*")
    patterns = [wanted] if isinstance(wanted, str) else [item for value in wanted.values() for item in as_list(value)]
    return any(pattern == "*" or pattern in principals for pattern in patterns) == (element == "Principal")


def outcome(statements: Iterable[tuple[bool, bool | None]]) -> Effect:
    """Join statements: for each whether it denies, and whether it applies (``None`` when we cannot tell)."""
    judged = list(statements)
    denies = {applies for denying, applies in judged if denying}
    allows = {applies for denying, applies in judged if not denying and applies is not False}
    if True in denies:
        return Effect.DENIED
    if not allows:
        return Effect.IMPLICIT
    return Effect.ALLOWED if True in allows and UNSUPPORTED not in denies else Effect.UNKNOWN


def applies_both(one: bool | None, other: bool | None) -> bool | None:
    if one is False or other is False:
        return False
    return UNSUPPORTED if UNSUPPORTED in (one, other) else True


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
    return outcome(
        (
            statement.get("Effect") == "Deny",
            applies_both(covers(statement, resource), condition_holds(statement.get("Condition") or {}, known or {})),
        )
        for document in documents
        for statement in as_list(document.get("Statement"))
        if names(statement, "Action", action, ignore_case=True)
        and (principals is None or principal_matches(statement, principals))
    )


def trust_allows(document: Mapping[str, Any], issuer: str, subject: str, audience: str) -> Effect:
    """Evaluate a role's trust policy for a web identity token.

    Args:
        document: the role's ``AssumeRolePolicyDocument``.
        issuer: the token issuer's host and path without ``https://``; empty when it is not known.
        subject: ``system:serviceaccount:<namespace>:<name>``.
        audience: the token's audience.
    """
    return outcome(
        (
            statement.get("Effect") == "Deny",
            condition_holds(statement.get("Condition") or {}, {f"{trusted}:sub": subject, f"{trusted}:aud": audience}),
        )
        for statement in as_list(document.get("Statement"))
        if names(statement, "Action", "sts:AssumeRoleWithWebIdentity", ignore_case=True)
        for trusted in issuers(statement, issuer)
    )


def issuers(statement: Mapping[str, Any], issuer: str) -> list[str]:
    """Return the token issuers that a trust statement is about, of all or of the one that is known."""
    principal = statement.get("Principal") or {}
    if isinstance(principal, str):
        return [issuer] if principal == "*" else []
    trusted = [str(item).partition(":oidc-provider/")[2] for item in as_list(principal.get("Federated"))]
    return [item for item in trusted if item and (not issuer or item == issuer)]
