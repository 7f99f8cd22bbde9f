# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in front of moto as in front of AWS: signature check, IAM decision, web identities, a log of calls."""

from __future__ import annotations

import datetime
import io
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.lab import settings
from tests.lab.emulation import calls, errors, policies, principals, signatures, web_identity
from tests.lab.emulation.errors import Failure

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WsgiApplication = Callable[[Environ, StartResponse], Iterable[bytes]]
CODE = re.compile(rb"<Code>([^<]+)</Code>|\"__type\": *\"([^\"]+)\"")
ANONYMOUS = "anonymous"


class Gateway:
    """WSGI application that lets a request through to ``application`` only if AWS would.

    Args:
        application: moto.
        log: file that gets one JSON line for every call.
        token_key: PEM of the public key that signs the cluster's service account tokens.
        changed: called after a call that is not read-only, with the service's signing name.
    """

    def __init__(self, application: WsgiApplication, log: Path, token_key: str, changed: Callable[[str], None]) -> None:
        self.application = application
        self.log = log
        self.token_key = token_key
        self.changed = changed
        self.lock = threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        headers = _headers(environ)
        body = _body(environ)
        path, _, query = environ["REQUEST_URI"].partition("?")
        method, host = environ["REQUEST_METHOD"], headers.get("host", "")
        answer = _Answer(start_response)
        who: dict[str, str | None] = {"principal": ANONYMOUS, "access_key_id": None}
        call = calls.Call(calls.service_of_host(host), "Unknown", "Unknown")
        try:
            signature = signatures.read(headers, query)
            scope = signature.service if signature else _unsigned_service(body)
            call = calls.parse(method, host, path, query, headers, body, scope)
            if signature is None:
                who["principal"] = self._web_identity(call)
            else:
                who["access_key_id"] = signature.access_key_id
                message = signatures.Message(method, path, query, headers, body, call.bucket)
                principal = _authenticated(signature, message)
                who["principal"] = principal.arn
                _authorize(principal, call)
            chunks = self.application(environ, answer)
        except Failure as failure:
            chunks = answer.fail(call.service, failure, method)
        except Exception:  # An operation that moto does not have; the listener answers 500.
            self._record(call, who, answer)
            raise
        if answer.status >= 400:
            chunks = [b"".join(chunks)]
            self._record(call, who, answer, b"".join(chunks))
            return chunks
        if not call.read_only:
            self.changed(call.service)
        self._record(call, who, answer)
        return chunks

    def _web_identity(self, call: calls.Call) -> str:
        """Check the one call that is unsigned by design and return who it is for."""
        if call.action != web_identity.ACTION:
            raise errors.credentials_failure(call.service, "unsigned")
        try:
            claims = web_identity.check(
                str(call.params.get("WebIdentityToken", "")),
                public_key=self.token_key,
                providers=principals.identity_providers(),
                trust_policy=principals.trust_policy(str(call.params.get("RoleArn", ""))),
            )
        except web_identity.Refused as refused:
            raise Failure(refused.code, str(refused), refused.status) from refused
        return str(claims["sub"])

    def _record(self, call: calls.Call, who: dict[str, str | None], answer: _Answer, body: bytes = b"") -> None:
        found = CODE.search(body)
        error = next(group for group in found.groups() if group).decode() if found else None
        entry = {
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "service": call.service,
            "action": call.operation,
            "params": calls.without_secrets(call.params),
            **who,
            "status": answer.status,
            "error": error,
            "read_only": call.read_only,
        }
        with self.lock, self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


class _Answer:
    """``start_response`` that remembers the status."""

    def __init__(self, start_response: StartResponse) -> None:
        self.start_response = start_response
        self.status = 500

    def __call__(self, status: str, *args: Any, **kwargs: Any) -> Any:
        self.status = int(status.split(maxsplit=1)[0])
        return self.start_response(status, *args, **kwargs)

    def fail(self, service: str, failure: Failure, method: str) -> list[bytes]:
        request_id = str(uuid.uuid4())
        content_type, body = errors.render(service, failure, request_id)
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("x-amzn-RequestId", request_id)]
        if errors.family(service) == "json":
            headers.append(("x-amzn-ErrorType", failure.code))
        self(f"{failure.status} Refused", headers)
        return [] if method == "HEAD" else [body]


def _authenticated(signature: signatures.Signature, message: signatures.Message) -> principals.Principal:
    principal = principals.find(signature.access_key_id, signature.token)
    if principal is None:
        raise errors.credentials_failure(signature.service, "key")
    if not signatures.is_valid(signature, principal.secret, message):
        raise errors.credentials_failure(signature.service, "signature")
    late = signature.deadline is not None and datetime.datetime.now(datetime.UTC) > signature.deadline
    if principal.expired or late:
        raise errors.credentials_failure(signature.service, "expired")
    return principal


def _authorize(principal: principals.Principal, call: calls.Call) -> None:
    if call.action == "sts:GetCallerIdentity":  # AWS allows it to everyone, whatever the policies say.
        return
    request = policies.Request(call.action, call.resource, principal.names)
    resource_policy = principals.bucket_policy(call.bucket) if call.bucket else None
    documents = (principal.policies, principal.boundary, resource_policy)
    if policies.authorize(request, *documents) is policies.Decision.ALLOW:
        return
    reason = policies.reason(request, *documents)
    raise errors.access_denied(call.service, principal.arn, call.action, call.resource, reason)


def _unsigned_service(body: bytes) -> str | None:
    return "sts" if b"Action=AssumeRoleWithWebIdentity" in body else None


def _headers(environ: Environ) -> dict[str, str]:
    headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(key):
            headers[key.replace("_", "-").lower()] = environ[key]
    return headers


def _body(environ: Environ) -> bytes:
    """Read the body and give moto an unread copy of it."""
    if environ.get("wsgi.input_terminated"):
        body = environ["wsgi.input"].read()
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ.pop("wsgi.input_terminated")
        environ["CONTENT_LENGTH"] = str(len(body))
    else:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def log_path() -> Path:
    """The call log of the running lab."""
    return settings.state_dir() / "aws-calls.jsonl"
