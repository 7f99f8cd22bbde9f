# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IAM policy evaluation: the part of AWS's rules that one account without organizations uses.

Source: "Policy evaluation logic" and "IAM JSON policy elements" of the AWS IAM user guide.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]


class Decision(enum.Enum):
    """Outcome of an evaluation; only ``ALLOW`` lets a request pass."""

    ALLOW = "allow"
    IMPLICIT_DENY = "implicit deny"
    EXPLICIT_DENY = "explicit deny"


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        action: IAM action, for example ``s3:PutObject``.
        resource: ARN, or ``*`` where the action has none.
        principals: every name under which the caller may stand in a resource's policy (its ARN, its role's ARN, its
            account, the federated provider).
        context: condition keys with their values.
    """

    action: str
    resource: str = "*"
    principals: frozenset[str] = frozenset()
    context: Mapping[str, str | Sequence[str]] = field(default_factory=dict)


def as_list(value: Any) -> list[Any]:
    """A policy element may be one value or a list of them."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def authorize(
    request: Request,
    identity: Iterable[Document],
    boundary: Document | None = None,
    resource_policy: Document | None = None,
) -> Decision:
    """Decide on a request within one account.

    Args:
        request: what is asked for.
        identity: policies of the caller (inline and attached).
        boundary: permissions boundary of the caller.
        resource_policy: policy of the resource; a statement that names the caller allows by itself.
    """
    allowed_by_identity = evaluate(identity, request)
    allowed_by_resource = evaluate([resource_policy] if resource_policy else [], request, with_principal=True)
    allowed_by_boundary = evaluate([boundary], request) if boundary else Decision.ALLOW
    decisions = (allowed_by_identity, allowed_by_resource, allowed_by_boundary)
    if Decision.EXPLICIT_DENY in decisions:
        return Decision.EXPLICIT_DENY
    if allowed_by_resource is Decision.ALLOW:
        return Decision.ALLOW
    return allowed_by_identity if allowed_by_boundary is Decision.ALLOW else Decision.IMPLICIT_DENY


def reason(
    request: Request,
    identity: Sequence[Document],
    boundary: Document | None = None,
    resource_policy: Document | None = None,
) -> str:
    """What AWS appends to a refusal, for the same arguments as ``authorize``.

    Source: "Access denied error messages" of the AWS IAM user guide.
    """
    kinds: tuple[tuple[str, Sequence[Document], bool], ...] = (
        ("a resource-based policy", [resource_policy] if resource_policy else [], True),
        ("a permissions boundary", [boundary] if boundary else [], False),
        ("an identity-based policy", identity, False),
    )
    for name, documents, with_principal in kinds:
        if evaluate(documents, request, with_principal) is Decision.EXPLICIT_DENY:
            return f"with an explicit deny in {name}"
    granted = evaluate(identity, request) is Decision.ALLOW
    kind = "permissions boundary" if granted else "identity-based policy"
    return f"because no {kind} allows the {request.action} action"


def evaluate(documents: Iterable[Document], request: Request, with_principal: bool = False) -> Decision:
    """Decision of policies alone; ``with_principal`` for policies of resources and trust policies of roles."""
    decision = Decision.IMPLICIT_DENY
    for document in documents:
        for statement in as_list(document.get("Statement")):
            if not _applies(statement, request, with_principal):
                continue
            if statement.get("Effect") == "Deny":
                return Decision.EXPLICIT_DENY
            decision = Decision.ALLOW
    return decision


def _applies(statement: Document, request: Request, with_principal: bool) -> bool:
    return (
        _listed(statement, "Action", request.action, ignore_case=True)
        and _listed(statement, "Resource", request.resource)
        and (not with_principal or _names_principal(statement, request.principals))
        and all(_condition(operator, keys, request) for operator, keys in statement.get("Condition", {}).items())
    )


def _listed(statement: Document, element: str, value: str, ignore_case: bool = False) -> bool:
    """Whether ``Action``/``Resource`` or its ``Not…`` form covers the value; trust policies have no resource."""
    if f"Not{element}" in statement:
        return not any(matches(pattern, value, ignore_case) for pattern in as_list(statement[f"Not{element}"]))
    if element == "Resource" and element not in statement:
        return True
    return any(matches(pattern, value, ignore_case) for pattern in as_list(statement.get(element)))


def _names_principal(statement: Document, principals: frozenset[str]) -> bool:
    if "NotPrincipal" in statement:
        return not _named(statement["NotPrincipal"], principals)
    return _named(statement.get("Principal"), principals)


def _named(principal: Any, principals: frozenset[str]) -> bool:
    values = principal.values() if isinstance(principal, Mapping) else [principal]
    return any(name == "*" or name in principals for value in values for name in as_list(value))


def matches(pattern: str, value: str, ignore_case: bool = False) -> bool:
    """Whether ``value`` matches a pattern with ``*`` (any text) and ``?`` (any one character)."""
    expression = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(expression, value, re.IGNORECASE | re.DOTALL if ignore_case else re.DOTALL) is not None


_COMPARISONS = {
    "StringEquals": lambda wanted, actual: wanted == actual,
    "StringEqualsIgnoreCase": lambda wanted, actual: wanted.lower() == actual.lower(),
    "StringLike": matches,
    "ArnEquals": matches,
    "ArnLike": matches,
    "Bool": lambda wanted, actual: wanted.lower() == actual.lower(),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def _condition(operator: str, keys: Mapping[str, Any], request: Request) -> bool:
    """One operator of a condition block; an operator that is not known here is not fulfilled."""
    name = operator.rpartition(":")[2]
    optional = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    context = {key.lower(): as_list(value) for key, value in request.context.items()}
    for key, wanted in keys.items():
        actual = context.get(key.lower())
        if name == "Null":
            fulfilled = (actual is None) == (str(as_list(wanted)[0]).lower() == "true")
        elif actual is None:
            fulfilled = optional or name in _NEGATED
        else:
            fulfilled = _compare(name, [str(value) for value in as_list(wanted)], actual)
        if not fulfilled:
            return False
    return True


def _compare(name: str, wanted: Sequence[str], actual: Sequence[str]) -> bool:
    if name in _NEGATED:
        return not _compare(_NEGATED[name], wanted, actual)
    if name not in _COMPARISONS:
        return False
    return any(_COMPARISONS[name](one, other) for one in wanted for other in actual)
