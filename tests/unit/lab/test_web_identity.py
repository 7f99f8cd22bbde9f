# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which service account tokens give a role session in the AWS emulation."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.lab import identity
from tests.lab.emulation import web_identity
from tests.lab.emulation.web_identity import Provider, Refused

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_KEY = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PROVIDER = Provider(
    f"arn:aws:iam::123456789012:oidc-provider/{identity.ISSUER}", identity.ISSUER, ["sts.amazonaws.com"]
)
TRUST = json.loads(identity.trust_policy("mlflow", "mlflow"))


def token(key: rsa.RSAPrivateKey = KEY, **claims: Any) -> str:
    content = {
        "iss": f"https://{identity.ISSUER}",
        "aud": ["sts.amazonaws.com"],
        "sub": "system:serviceaccount:mlflow:mlflow",
        "exp": int(time.time()) + 3600,
    }
    return jwt.encode(content | claims, key, "RS256")


def check(text: str, trust: dict[str, Any] | None = TRUST) -> Any:
    return web_identity.check(text, public_key=PUBLIC_KEY, providers=[PROVIDER], trust_policy=trust)


def test_token_of_the_service_account_is_accepted() -> None:
    assert check(token())["sub"] == "system:serviceaccount:mlflow:mlflow"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no token", "InvalidIdentityToken"),
        (token(iss="https://elsewhere"), "InvalidIdentityToken"),
        (token(aud=["https://kubernetes.default.svc"]), "InvalidIdentityToken"),
        (token(key=OTHER_KEY), "InvalidIdentityToken"),
        (token(exp=1), "ExpiredTokenException"),
        (token(sub="system:serviceaccount:other:mlflow"), "AccessDenied"),
    ],
)
def test_other_tokens_are_refused(text: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        check(text)
    assert refused.value.code == code


def test_trust_of_another_provider_or_no_role_is_access_denied() -> None:
    elsewhere = json.loads(json.dumps(TRUST).replace("oidc-provider/", "oidc-provider/x"))
    for trust in (elsewhere, None):
        with pytest.raises(Refused) as refused:
            check(token(), trust)
        assert (refused.value.code, refused.value.status) == ("AccessDenied", 403)
