# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What IAM policy documents allow."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.iam_policy import Effect, evaluate, trust_allows

ALLOWED, DENIED, IMPLICIT, UNKNOWN = Effect.ALLOWED, Effect.DENIED, Effect.IMPLICIT, Effect.UNKNOWN
BUCKET = "arn:aws:s3:::artifacts"
OBJECT = f"{BUCKET}/0/run/artifacts/model.pkl"
ROLE = "arn:aws:iam::123456789012:role/mlflow"


def statement(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    named = {"Action": "s3:*"} if "NotAction" not in elements else {}
    about = {"Resource": "*"} if "NotResource" not in elements else {}
    return {"Effect": effect, **named, **about, **elements}


def allow(**elements: Any) -> dict[str, Any]:
    return statement("Allow", **elements)


def deny(**elements: Any) -> dict[str, Any]:
    return statement("Deny", **elements)


def put(*statements: dict[str, Any], known: dict[str, str] | None = None) -> Effect:
    return evaluate([{"Statement": list(statements)}], "s3:PutObject", OBJECT, known)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"Action": "s3:PutObject"}, ALLOWED),
        ({"Action": ["s3:GetObject", "s3:PutObject"]}, ALLOWED),
        ({"Action": "S3:putobject"}, ALLOWED),
        ({"Action": "s3:Put*"}, ALLOWED),
        ({"Action": "s3:PutObjec?"}, ALLOWED),
        ({"Action": "s3:PutObject?"}, IMPLICIT),
        ({"Action": "*"}, ALLOWED),
        ({"Action": "s3:PutObjectAcl"}, IMPLICIT),
        ({"Action": "s3.PutObject"}, IMPLICIT),
        ({"Action": "s3:GetObject"}, IMPLICIT),
        ({"Action": []}, IMPLICIT),
        ({"NotAction": "s3:DeleteObject"}, ALLOWED),
        ({"NotAction": ["s3:DeleteObject", "s3:put*"]}, IMPLICIT),
        ({"Resource": f"{BUCKET}/*"}, ALLOWED),
        ({"Resource": BUCKET}, IMPLICIT),
        ({"Resource": f"{BUCKET}*"}, ALLOWED),
        ({"Resource": f"{BUCKET}/0/*/model.pkl"}, ALLOWED),
        ({"Resource": f"{BUCKET}/0/*/model.pk?"}, ALLOWED),
        ({"Resource": f"{BUCKET}/1/*"}, IMPLICIT),
        ({"Resource": "arn:aws:s3:::Artifacts/*"}, IMPLICIT),
        ({"Resource": [BUCKET, f"{BUCKET}/*"]}, ALLOWED),
        ({"NotResource": "arn:aws:s3:::other/*"}, ALLOWED),
        ({"NotResource": ["arn:aws:s3:::other/*", f"{BUCKET}/*"]}, IMPLICIT),
    ],
)
def test_actions_and_resources(elements: dict[str, Any], expected: Effect) -> None:
    assert put(allow(**elements)) is expected


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ((), IMPLICIT),
        ((allow(), deny(Action="s3:PutObject")), DENIED),
        ((deny(Action="s3:PutObject"), allow()), DENIED),
        ((deny(Action="s3:PutObject"),), DENIED),
        ((allow(), deny(Action="s3:DeleteObject")), ALLOWED),
        ((allow(), deny(NotAction="s3:GetObject")), DENIED),
        ((allow(), deny(NotResource=f"{BUCKET}/*")), ALLOWED),
        ((allow(), deny(NotResource="arn:aws:s3:::other/*")), DENIED),
    ],
)
def test_an_explicit_deny_wins(statements: tuple[dict[str, Any], ...], expected: Effect) -> None:
    assert put(*statements) is expected


def test_documents_add_up_and_one_statement_needs_no_list() -> None:
    single = {"Statement": allow(Action="s3:PutObject")}
    assert evaluate([{"Statement": []}, single], "s3:PutObject", OBJECT) is ALLOWED
    assert evaluate([{}, {"Statement": []}], "s3:PutObject", OBJECT) is IMPLICIT


def test_a_boundary_is_an_evaluation_of_its_own() -> None:
    identity, boundary = {"Statement": [allow()]}, {"Statement": [allow(Action="s3:Get*")]}
    assert evaluate([identity], "s3:PutObject", OBJECT) is ALLOWED
    assert evaluate([boundary], "s3:PutObject", OBJECT) is IMPLICIT
    assert evaluate([boundary], "s3:GetObject", OBJECT) is ALLOWED


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"StringEquals": {"s3:prefix": "mlflow"}}, ALLOWED),
        ({"StringEquals": {"S3:Prefix": ["other", "mlflow"]}}, ALLOWED),
        ({"StringEquals": {"s3:prefix": "MLflow"}}, IMPLICIT),
        ({"StringEquals": {"s3:prefix": "mlf*"}}, IMPLICIT),
        ({"StringLike": {"s3:prefix": "mlf*"}}, ALLOWED),
        ({"StringLike": {"s3:prefix": ["x*", "y*"]}}, IMPLICIT),
        ({"StringNotEquals": {"s3:prefix": "mlflow"}}, IMPLICIT),
        ({"StringNotEquals": {"s3:prefix": "other"}}, ALLOWED),
        ({"Bool": {"aws:SecureTransport": "true"}}, ALLOWED),
        ({"Bool": {"aws:SecureTransport": True}}, ALLOWED),
        ({"Bool": {"aws:SecureTransport": "false"}}, IMPLICIT),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/ml*"}}, ALLOWED),
        ({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::*:role/other"}}, IMPLICIT),
        ({"StringEqualsIfExists": {"s3:prefix": "mlflow"}}, ALLOWED),
        ({"StringEqualsIfExists": {"s3:prefix": "other"}}, IMPLICIT),
        ({"StringEqualsIfExists": {"aws:SourceVpce": "vpce-1"}}, UNKNOWN),
        ({"StringEquals": {"aws:SourceVpce": "vpce-1"}}, UNKNOWN),
        ({"StringEquals": {"aws:SourceVpce": "vpce-1", "s3:prefix": "other"}}, IMPLICIT),
        ({"StringEquals": {"aws:SourceVpce": "vpce-1"}, "StringLike": {"s3:prefix": "mlf*"}}, UNKNOWN),
        ({"DateGreaterThan": {"s3:prefix": "2026-01-01T00:00:00Z"}}, UNKNOWN),
        ({"StringLike": {"s3:prefix": "${aws:PrincipalTag/team}/*"}}, UNKNOWN),
    ],
)
def test_conditions_of_an_allow(condition: dict[str, Any], expected: Effect) -> None:
    known = {"s3:prefix": "mlflow", "aws:SecureTransport": "true", "aws:PrincipalArn": ROLE}
    assert put(allow(Condition=condition), known=known) is expected


UNSEEN = {"StringEquals": {"aws:SourceVpce": "vpce-1"}}


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ((allow(), allow(Condition=UNSEEN)), ALLOWED),
        ((allow(), deny(Condition=UNSEEN)), UNKNOWN),
        ((deny(Condition=UNSEEN), allow()), UNKNOWN),
        ((allow(Condition=UNSEEN), deny()), DENIED),
        ((deny(Condition=UNSEEN),), IMPLICIT),
        ((allow(), deny(Condition={"Bool": {"aws:SecureTransport": "false"}})), ALLOWED),
    ],
)
def test_an_unknown_condition_never_decides(statements: tuple[dict[str, Any], ...], expected: Effect) -> None:
    assert put(*statements, known={"aws:SecureTransport": "true"}) is expected


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ((allow(Resource=f"{BUCKET}/${{aws:PrincipalTag/experiment}}/*"),), UNKNOWN),
        ((allow(Resource="arn:aws:s3:::other/${aws:userid}/*"),), IMPLICIT),
        ((allow(Resource=["arn:aws:s3:::other/${aws:userid}/*", f"{BUCKET}/*"]),), ALLOWED),
        ((allow(), deny(Resource=f"{BUCKET}/${{aws:userid}}/*")), UNKNOWN),
        ((allow(NotResource=f"{BUCKET}/${{aws:userid}}/*"),), UNKNOWN),
        ((allow(NotResource="arn:aws:s3:::other/${aws:userid}/*"),), ALLOWED),
        ((allow(NotResource=["arn:aws:s3:::other/${aws:userid}/*", f"{BUCKET}/*"]),), IMPLICIT),
    ],
)
def test_policy_variables_are_not_guessed(statements: tuple[dict[str, Any], ...], expected: Effect) -> None:
    assert put(*statements) is expected


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"Principal": "*"}, DENIED),
        ({"Principal": {"AWS": "*"}}, DENIED),
        ({"Principal": {"AWS": ROLE}}, DENIED),
        ({"Principal": {"AWS": ["arn:aws:iam::123456789012:role/other", ROLE]}}, DENIED),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:role/other"}}, IMPLICIT),
        ({"Principal": {"Service": "logging.s3.amazonaws.com"}}, IMPLICIT),
        ({"NotPrincipal": {"AWS": ROLE}}, IMPLICIT),
        ({"NotPrincipal": {"AWS": "arn:aws:iam::123456789012:role/other"}}, DENIED),
    ],
)
def test_principals_of_a_bucket_policy(elements: dict[str, Any], expected: Effect) -> None:
    document = {"Statement": [deny(**elements)]}
    assert evaluate([document], "s3:PutObject", OBJECT, principals=[ROLE]) is expected


ISSUER = "oidc.eks.us-west-2.amazonaws.com/id/ABC"
PROVIDER = f"arn:aws:iam::123456789012:oidc-provider/{ISSUER}"
SUBJECT = "system:serviceaccount:mlflow:mlflow"
AUDIENCE = "sts.amazonaws.com"


def trust(condition: dict[str, Any] | None = None, **elements: Any) -> dict[str, Any]:
    base = {"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": {"Federated": PROVIDER}}
    return {**base, "Condition": condition or {}, **elements}


def pair(subject: Any = SUBJECT, audience: Any = AUDIENCE, issuer: str = ISSUER) -> dict[str, Any]:
    return {f"{issuer}:sub": subject, f"{issuer}:aud": audience}


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([trust({"StringEquals": pair()})], ALLOWED),
        ([trust({"StringEquals": pair(audience=["other", AUDIENCE])})], ALLOWED),
        ([trust({"StringLike": pair("system:serviceaccount:mlflow:*")})], ALLOWED),
        ([trust({"StringEquals": pair("system:serviceaccount:mlflow:*")})], IMPLICIT),
        ([trust({"StringEquals": pair("system:serviceaccount:other:mlflow")})], IMPLICIT),
        ([trust({"StringEquals": pair(audience="api://other")})], IMPLICIT),
        ([trust()], ALLOWED),
        ([trust(Action="sts:*")], ALLOWED),
        ([trust(Action="sts:AssumeRole")], IMPLICIT),
        ([trust(Principal={"Service": "ec2.amazonaws.com"})], IMPLICIT),
        ([trust(Principal={"Federated": "cognito-identity.amazonaws.com"})], IMPLICIT),
        ([trust(Principal={"Federated": PROVIDER.replace("ABC", "OLD")})], IMPLICIT),
        ([trust(Principal={"Federated": [PROVIDER.replace("ABC", "OLD"), PROVIDER]})], ALLOWED),
        ([trust(Principal="arn:aws:iam::123456789012:root")], IMPLICIT),
        ([trust(), trust(Effect="Deny", Principal="*", Action="*")], DENIED),
        ([trust(Effect="Deny"), trust()], DENIED),
        ([trust({"StringEquals": {"aws:SourceIp": "10.0.0.1"}})], UNKNOWN),
        ([trust({"StringEquals": {"aws:SourceIp": "10.0.0.1"}}), trust()], ALLOWED),
        ([trust(), trust({"StringEquals": {"aws:SourceIp": "10.0.0.1"}}, Effect="Deny")], UNKNOWN),
        ([], IMPLICIT),
    ],
)
def test_trust(statements: list[dict[str, Any]], expected: Effect) -> None:
    assert trust_allows({"Statement": statements}, ISSUER, SUBJECT, AUDIENCE) is expected


def test_an_issuer_that_is_not_known_is_taken_from_the_policy() -> None:
    document = {"Statement": [trust({"StringEquals": pair()})]}
    assert trust_allows(document, "", SUBJECT, AUDIENCE) is ALLOWED
    assert trust_allows(document, "", "system:serviceaccount:mlflow:default", AUDIENCE) is IMPLICIT
