# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors in the words and the format of each AWS service, so that every SDK reads them as the real ones."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape


class Failure(Exception):
    """A refusal by the gateway: AWS error code, text, HTTP status."""

    def __init__(self, code: str, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def access_denied(service: str, principal: str, action: str, resource: str, reason: str) -> Failure:
    """The refusal of an action that the caller's policies do not allow.

    ``reason`` is what AWS appends, for example ``because no identity-based policy allows the rds:StopDBInstance
    action``.
    """
    if service == "ec2":
        code = "UnauthorizedOperation"
    else:
        code = "AccessDeniedException" if family(service) == "json" else "AccessDenied"
    text = f"User: {principal} is not authorized to perform: {action}"
    if service == "ec2":
        text = f"You are not authorized to perform this operation. {text}"
    where = f" on resource: {resource}" if resource != "*" else ""
    return Failure(code, f"{text}{where} {reason}", 400 if code == "AccessDeniedException" else 403)


# (signature wrong, key unknown, token wrong or session over, not signed) per family of services.
_CODES = {
    "s3": ("SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "AccessDenied"),
    "ec2": ("AuthFailure", "AuthFailure", "RequestExpired", "MissingAuthenticationToken"),
    "json": (
        "InvalidSignatureException",
        "UnrecognizedClientException",
        "ExpiredTokenException",
        "MissingAuthenticationTokenException",
    ),
    "query": ("SignatureDoesNotMatch", "InvalidClientTokenId", "ExpiredToken", "MissingAuthenticationToken"),
}
# Services that answer in XML; CloudWatch and everything newer answers in JSON.
_QUERY_SERVICES = {"rds", "iam", "sts", "autoscaling", "cloudformation", "elasticache", "elasticloadbalancing", "sns"}
_KINDS = ("signature", "key", "expired", "unsigned")
_TEXTS = {
    "signature": "The request signature we calculated does not match the signature you provided. "
    "Check your key and signing method.",
    "key": "The security token included in the request is invalid.",
    "expired": "The security token included in the request is expired",
    "unsigned": "Request is missing Authentication Token",
}


def family(service: str) -> str:
    """Wire format of a service's errors: ``s3``, ``ec2``, ``json`` or ``query``."""
    if service in ("s3", "ec2"):
        return service
    return "query" if service in _QUERY_SERVICES else "json"


def credentials_failure(service: str, kind: str) -> Failure:
    """The refusal of credentials; ``kind`` is ``signature``, ``key``, ``expired`` or ``unsigned``."""
    group = family(service)
    text = _TEXTS[kind]
    if group == "s3" and kind == "key":
        text = "The AWS Access Key Id you provided does not exist in our records."
    if group == "s3" and kind == "unsigned":
        text = "Access Denied"
    status = {"s3": 400 if kind == "expired" else 403, "ec2": 401, "json": 400, "query": 403}[group]
    return Failure(_CODES[group][_KINDS.index(kind)], text, status)


def render(service: str, failure: Failure, request_id: str) -> tuple[str, bytes]:
    """Content type and body of an error answer."""
    code, message = escape(failure.code), escape(failure.message)
    group = family(service)
    if group == "json":
        return "application/x-amz-json-1.1", json.dumps({"__type": failure.code, "message": failure.message}).encode()
    if group == "s3":
        inner = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{request_id}</RequestId></Error>"
    elif group == "ec2":
        inner = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        )
    else:
        inner = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    return "text/xml", f'<?xml version="1.0" encoding="UTF-8"?>\n{inner}'.encode()
