# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWS STS checks before AssumeRoleWithWebIdentity: token, issuer, audience and the role's trust policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from tests.lab.emulation.policies import Decision, Request, as_list, evaluate

ACTION = "sts:AssumeRoleWithWebIdentity"


class Refused(Exception):
    """The token does not give the role; ``code``, ``status`` and text are those of AWS STS."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class Provider:
    """OpenID Connect identity provider registered in IAM: ARN, issuer without scheme, accepted audiences."""

    arn: str
    issuer: str
    audiences: Sequence[str]


def check(
    token: str, *, public_key: str, providers: Sequence[Provider], trust_policy: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Return the claims of a token that may assume the role.

    Args:
        token: the projected service account token.
        public_key: PEM of the key that signs the cluster's tokens.
        providers: identity providers registered in IAM.
        trust_policy: the role's trust policy, None when there is no such role.

    Raises:
        Refused: as AWS STS refuses it.
    """
    try:
        issuer = str(jwt.decode(token, options={"verify_signature": False}).get("iss", ""))
    except jwt.PyJWTError as error:
        raise Refused("InvalidIdentityToken", "The ID Token provided is not a valid JWT.") from error
    provider = next((entry for entry in providers if entry.issuer == issuer.removeprefix("https://")), None)
    if provider is None:
        raise Refused("InvalidIdentityToken", f"No OpenIDConnect provider found in your account for {issuer}")
    claims = _verified(token, public_key, provider)
    key = provider.issuer
    context = {f"{key}:aud": as_list(claims["aud"]), f"{key}:sub": str(claims["sub"])}
    request = Request(ACTION, principals=frozenset({provider.arn}), context=context)
    if trust_policy is None or evaluate([trust_policy], request, with_principal=True) is not Decision.ALLOW:
        raise Refused("AccessDenied", f"Not authorized to perform {ACTION}", 403)
    return claims


def _verified(token: str, public_key: str, provider: Provider) -> Mapping[str, Any]:
    try:
        return jwt.decode(
            token, public_key, ["RS256"], audience=list(provider.audiences), options={"require": ["exp", "sub", "aud"]}
        )
    except jwt.ExpiredSignatureError as error:
        raise Refused("ExpiredTokenException", "Token expired: it is past the expiration date/time") from error
    except jwt.InvalidAudienceError as error:
        raise Refused("InvalidIdentityToken", "Incorrect token audience") from error
    except jwt.PyJWTError as error:
        raise Refused("InvalidIdentityToken", "Couldn't verify the token with the provider's keys") from error
