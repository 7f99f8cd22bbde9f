# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures as the server sees them: version 4 in the header or in a presigned URL, version 2 in a presigned URL.

boto3 still presigns S3 URLs with version 2 unless it is told otherwise.
"""

from __future__ import annotations

import datetime
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ALGORITHM = "AWS4-HMAC-SHA256"
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
VERSION_2_PARAMETERS = ("AWSAccessKeyId", "Signature", "Expires")


@dataclass(frozen=True)
class Signature:
    """What a request claims about its signature.

    Attributes:
        access_key_id, region, service: of the credential scope.
        signed_headers: lower-case names.
        timestamp: time of signing as it was signed; for version 2 the end of validity, seconds since 1970.
        token: session token of a role session, empty for a user's key.
        presigned: the signature is in the query.
        deadline: end of validity of a presigned URL.
    """

    access_key_id: str
    value: str
    timestamp: str
    token: str = ""
    region: str = ""
    service: str = "s3"
    signed_headers: tuple[str, ...] = ()
    presigned: bool = False
    version: int = 4
    deadline: datetime.datetime | None = None


@dataclass(frozen=True)
class Message:
    """What was signed: ``path`` and ``query`` as they came, still encoded; ``headers`` with lower-case keys."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    bucket: str | None = None

    @property
    def url(self) -> str:
        """The whole URL."""
        return f"https://{self.headers.get('host', '')}{self.path}{'?' + self.query if self.query else ''}"


def read(headers: Mapping[str, str], query: str) -> Signature | None:
    """The signature of a request, None for an unsigned one. ``headers`` has lower-case keys."""
    authorization = headers.get("authorization", "")
    if authorization.startswith(ALGORITHM):
        parts = dict(part.strip().split("=", 1) for part in authorization.removeprefix(ALGORITHM).split(","))
        timestamp, token = headers.get("x-amz-date", ""), headers.get("x-amz-security-token", "")
        return _version_4(parts["Credential"], parts["SignedHeaders"], parts["Signature"], timestamp, token)
    fields = {name: values[0] for name, values in parse_qs(query).items()}
    if fields.get("X-Amz-Algorithm") == ALGORITHM:
        signed_at = datetime.datetime.strptime(fields["X-Amz-Date"], TIME_FORMAT).replace(tzinfo=datetime.UTC)
        return _version_4(
            fields["X-Amz-Credential"],
            fields["X-Amz-SignedHeaders"],
            fields["X-Amz-Signature"],
            fields["X-Amz-Date"],
            fields.get("X-Amz-Security-Token", ""),
            signed_at + datetime.timedelta(seconds=int(fields["X-Amz-Expires"])),
        )
    if all(name in fields for name in VERSION_2_PARAMETERS):
        key, value, end = (fields[name] for name in VERSION_2_PARAMETERS)
        deadline = datetime.datetime.fromtimestamp(int(end), datetime.UTC)
        token = fields.get("x-amz-security-token", "")
        return Signature(key, value, end, token, presigned=True, version=2, deadline=deadline)
    return None


def _version_4(
    credential: str, signed: str, value: str, timestamp: str, token: str, deadline: datetime.datetime | None = None
) -> Signature:
    access_key_id, _, region, service, _ = credential.split("/")
    names, presigned = tuple(signed.split(";")), deadline is not None
    return Signature(access_key_id, value, timestamp, token, region, service, names, presigned, deadline=deadline)


def is_valid(signature: Signature, secret: str, message: Message) -> bool:
    """Whether the message was signed with ``secret``."""
    credentials = Credentials(signature.access_key_id, secret, signature.token or None)
    calculate = _calculate_2 if signature.version == 2 else _calculate_4
    return hmac.compare_digest(calculate(signature, credentials, message), signature.value)


def _calculate_4(signature: Signature, credentials: Credentials, message: Message) -> str:
    url = message.url
    auth: SigV4Auth
    if signature.presigned:
        auth = S3SigV4QueryAuth(credentials, signature.service, signature.region)
        kept = [part for part in message.query.split("&") if not part.startswith("X-Amz-Signature=")]
        url = f"{url.partition('?')[0]}?{'&'.join(kept)}"
    elif signature.service == "s3":
        auth = S3SigV4Auth(credentials, signature.service, signature.region)
    else:
        auth = SigV4Auth(credentials, signature.service, signature.region)
    signed = {name: message.headers[name] for name in signature.signed_headers if name in message.headers}
    request = AWSRequest(method=message.method, url=url, data=message.body, headers=signed)
    request.context["timestamp"] = signature.timestamp
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


class _UntilAuth(HmacV1QueryAuth):
    """Version 2 with a given end of validity instead of one counted from now."""

    def __init__(self, credentials: Credentials, until: str) -> None:
        super().__init__(credentials)
        self.until = until

    def _get_date(self) -> str:
        return self.until


def _calculate_2(signature: Signature, credentials: Credentials, message: Message) -> str:
    auth: Any = _UntilAuth(credentials, signature.timestamp)
    signed = {name: value for name, value in message.headers.items() if name in ("content-md5", "content-type")}
    signed |= {name: value for name, value in message.headers.items() if name.startswith("x-amz-")}
    signed |= {name: values[0] for name, values in parse_qs(message.query).items() if name.startswith("x-amz-")}
    request = AWSRequest(method=message.method, url=message.url, headers=signed)
    host = message.headers.get("host", "")
    prefix = f"/{message.bucket}" if message.bucket and host.startswith(f"{message.bucket}.") else ""
    path = prefix + message.path
    return str(auth.get_signature(message.method, urlsplit(message.url), request.headers, auth_path=path))
