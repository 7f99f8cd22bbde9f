# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IAM policy evaluation of the AWS emulation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.emulation.policies import Decision, Request, authorize, evaluate, matches, reason

BUCKET = "arn:aws:s3:::runs"
NOT_IAM = {"Statement": [{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}]}
NOT_HERE = {"Statement": [{"Effect": "Deny", "Action": "*", "NotResource": BUCKET}]}
ROLE = "arn:aws:iam::123456789012:role/mlflow"


def allow(action: Any, resource: Any = "*", **rest: Any) -> dict[str, Any]:
    return {"Statement": {"Effect": "Allow", "Action": action, "Resource": resource, **rest}}


def deny(action: Any, resource: Any = "*", **rest: Any) -> dict[str, Any]:
    return {"Statement": [{"Effect": "Deny", "Action": action, "Resource": resource, **rest}]}


@pytest.mark.parametrize(
    ("identity", "action", "resource", "expected"),
    [
        ([], "s3:PutObject", f"{BUCKET}/a", Decision.IMPLICIT_DENY),
        ([allow("s3:*", f"{BUCKET}/*")], "s3:PutObject", f"{BUCKET}/a/b", Decision.ALLOW),
        ([allow("S3:putobject", f"{BUCKET}/*")], "s3:PutObject", f"{BUCKET}/a", Decision.ALLOW),
        (
            [allow(["s3:GetObject", "s3:ListBucket"], [BUCKET, f"{BUCKET}/*"])],
            "s3:PutObject",
            f"{BUCKET}/a",
            Decision.IMPLICIT_DENY,
        ),
        ([allow("s3:ListBucket", f"{BUCKET}/*")], "s3:ListBucket", BUCKET, Decision.IMPLICIT_DENY),
        ([allow("s3:*"), deny("s3:Put*")], "s3:PutObject", f"{BUCKET}/a", Decision.EXPLICIT_DENY),
        ([deny("s3:Put*"), allow("s3:*")], "s3:GetObject", f"{BUCKET}/a", Decision.ALLOW),
        ([NOT_IAM], "s3:PutObject", "*", Decision.ALLOW),
        ([NOT_IAM], "iam:GetRole", "*", Decision.IMPLICIT_DENY),
        ([NOT_HERE], "s3:ListBucket", "*", Decision.EXPLICIT_DENY),
    ],
)
def test_identity_policies(identity: list[Any], action: str, resource: str, expected: Decision) -> None:
    assert authorize(Request(action, resource), identity) is expected


def test_boundary_limits_what_the_identity_policy_allows() -> None:
    request = Request("s3:PutObject", f"{BUCKET}/a")
    assert authorize(request, [allow("s3:*")], boundary=allow("s3:Get*")) is Decision.IMPLICIT_DENY
    assert authorize(request, [allow("s3:*")], boundary=allow("s3:*")) is Decision.ALLOW


@pytest.mark.parametrize(
    ("resource_policy", "expected"),
    [
        (allow("s3:*", Principal={"AWS": ROLE}), Decision.ALLOW),
        (allow("s3:*", Principal={"AWS": "arn:aws:iam::123456789012:role/other"}), Decision.IMPLICIT_DENY),
        (deny("s3:*", Principal="*"), Decision.EXPLICIT_DENY),
        (deny("s3:*", NotPrincipal={"AWS": ROLE}), Decision.IMPLICIT_DENY),
    ],
)
def test_policy_of_the_bucket(resource_policy: dict[str, Any], expected: Decision) -> None:
    request = Request("s3:PutObject", f"{BUCKET}/a", frozenset({ROLE}))
    assert authorize(request, [], resource_policy=resource_policy) is expected


@pytest.mark.parametrize(
    ("condition", "context", "fulfilled"),
    [
        ({"StringEquals": {"issuer:aud": "sts.amazonaws.com"}}, {"issuer:aud": ["sts.amazonaws.com"]}, True),
        ({"StringEquals": {"ISSUER:aud": "sts.amazonaws.com"}}, {"issuer:aud": "other"}, False),
        ({"StringEquals": {"issuer:aud": "sts.amazonaws.com"}}, {}, False),
        ({"StringEqualsIfExists": {"issuer:aud": "sts.amazonaws.com"}}, {}, True),
        (
            {"StringLike": {"issuer:sub": "system:serviceaccount:ml*:?"}},
            {"issuer:sub": "system:serviceaccount:mlflow:x"},
            True,
        ),
        ({"StringNotEquals": {"a": ["x", "y"]}}, {"a": "y"}, False),
        ({"StringNotEquals": {"a": ["x", "y"]}}, {}, True),
        ({"Null": {"a": "true"}}, {}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws:SecureTransport": "true"}, False),
        ({"NobodyKnows": {"a": "x"}}, {"a": "x"}, False),
        ({"StringEquals": {"a": "x"}, "StringLike": {"b": "y*"}}, {"a": "x", "b": "z"}, False),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, Any], fulfilled: bool) -> None:
    policy = allow("a:B", Condition=condition)
    decision = evaluate([policy], Request("a:B", context=context))
    assert decision is (Decision.ALLOW if fulfilled else Decision.IMPLICIT_DENY)


def test_patterns_are_not_regular_expressions() -> None:
    assert not matches("arn:aws:s3:::a.b", "arn:aws:s3:::axb")
    assert matches("arn:aws:s3:::a?b", "arn:aws:s3:::axb")
    assert matches("*", "")


@pytest.mark.parametrize(
    ("identity", "boundary", "resource_policy", "text"),
    [
        ([], None, None, "because no identity-based policy allows the s3:PutObject action"),
        ([allow("s3:*")], allow("s3:Get*"), None, "because no permissions boundary allows the s3:PutObject action"),
        ([allow("s3:*"), deny("s3:Put*")], None, None, "with an explicit deny in an identity-based policy"),
        ([allow("s3:*")], deny("s3:Put*"), None, "with an explicit deny in a permissions boundary"),
        ([allow("s3:*")], None, deny("s3:*", Principal="*"), "with an explicit deny in a resource-based policy"),
    ],
)
def test_a_refusal_says_which_kind_of_policy_it_is(
    identity: list[dict[str, Any]],
    boundary: dict[str, Any] | None,
    resource_policy: dict[str, Any] | None,
    text: str,
) -> None:
    assert reason(Request("s3:PutObject", f"{BUCKET}/a"), identity, boundary, resource_policy) == text
