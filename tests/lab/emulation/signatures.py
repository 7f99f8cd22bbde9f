# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS Signature Version 4 as the server sees it: in the Authorization header or in the query of a presigned URL."""

from __future__ import annotations

import datetime
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ALGORITHM = "AWS4-HMAC-SHA256"
TIME_FORMAT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Signature:
    """What a request claims about its signature.

    Attributes:
        access_key_id, region, service: of the credential scope.
        signed_headers: lower-case names.
        token: session token of a role session, empty for a user's key.
        expires: seconds for which a presigned URL is good, None for a signature in the header.
    """

    access_key_id: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    value: str
    timestamp: str
    token: str
    expires: int | None

    @property
    def signed_at(self) -> datetime.datetime:
        """When the request was signed."""
        return datetime.datetime.strptime(self.timestamp, TIME_FORMAT).replace(tzinfo=datetime.timezone.utc)


def read(headers: Mapping[str, str], query: str) -> Signature | None:
    """The signature of a request, None for an unsigned one. ``headers`` has lower-case keys."""
    authorization = headers.get("authorization", "")
    if authorization.startswith(ALGORITHM):
        parts = dict(part.strip().split("=", 1) for part in authorization.removeprefix(ALGORITHM).split(","))
        fields = {
            "credential": parts["Credential"],
            "headers": parts["SignedHeaders"],
            "signature": parts["Signature"],
            "date": headers.get("x-amz-date", ""),
            "token": headers.get("x-amz-security-token", ""),
        }
        return _signature(fields, None)
    presigned = {name: values[0] for name, values in parse_qs(query).items() if name.startswith("X-Amz-")}
    if presigned.get("X-Amz-Algorithm") != ALGORITHM:
        return None
    fields = {
        "credential": presigned["X-Amz-Credential"],
        "headers": presigned["X-Amz-SignedHeaders"],
        "signature": presigned["X-Amz-Signature"],
        "date": presigned["X-Amz-Date"],
        "token": presigned.get("X-Amz-Security-Token", ""),
    }
    return _signature(fields, int(presigned.get("X-Amz-Expires", "3600")))


def _signature(fields: Mapping[str, str], expires: int | None) -> Signature:
    access_key_id, _, region, service, _ = fields["credential"].split("/")
    signed = tuple(fields["headers"].split(";"))
    return Signature(access_key_id, region, service, signed, fields["signature"], fields["date"], fields["token"], expires)


def is_valid(
    signature: Signature, secret: str, *, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
) -> bool:
    """Whether the request was signed with ``secret``; ``path`` and ``query`` as they came, still encoded."""
    credentials = Credentials(signature.access_key_id, secret, signature.token or None)
    if signature.expires is not None:
        query = "&".join(part for part in query.split("&") if not part.startswith("X-Amz-Signature="))
        auth: SigV4Auth = S3SigV4QueryAuth(credentials, signature.service, signature.region)
    elif signature.service == "s3":
        auth = S3SigV4Auth(credentials, signature.service, signature.region)
    else:
        auth = SigV4Auth(credentials, signature.service, signature.region)
        path = unquote(path)
    signed = {name: headers[name] for name in signature.signed_headers if name in headers}
    url = f"https://{headers.get('host', '')}{path}{'?' + query if query else ''}"
    request = AWSRequest(method=method, url=url, data=body, headers=signed)
    request.context["timestamp"] = signature.timestamp
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return hmac.compare_digest(auth.signature(text, request), signature.value)
