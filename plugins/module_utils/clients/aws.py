# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS as plain JSON, each answer with what became of our look."""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Mapping
from typing import Any

from ..core.evidence import State
from .calls import CallCounter, Deadline, Observation

try:
    import boto3
    import botocore.config
    import botocore.exceptions
    import botocore.parsers

    MISSING = ""
except ImportError as error:
    MISSING = f"the Python library boto3 is needed: {error}"

TIMEOUT_SECONDS = 5.0
PART_OF_DEADLINE = 12
"""A call may take this part of the whole time, but at least 5 s."""
NO_CREDENTIALS = "no AWS credentials"
DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403", "Forbidden"}
)
REFUSED = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
ABSENT = frozenset(
    {
        "404",
        "DBClusterNotFoundFault",
        "DBInstanceNotFound",
        "DBInstanceNotFoundFault",
        "NoSuchBucket",
        "NoSuchBucketPolicy",
        "NoSuchEntity",
        "NoSuchPublicAccessBlockConfiguration",
        "ResourceNotFoundException",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)
ACTIONS = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
}
"""Operations whose IAM action has another name (AWS service authorization reference)."""


def action_name(service: str, operation: str) -> str:
    """Name the IAM action of an operation, such as ``rds:DescribeDBInstances``."""
    name = f"{service}:{operation}"
    return ACTIONS.get(name, name)


def to_json(value: Any) -> Any:
    """Return an answer of boto3 as plain JSON data with times in ISO 8601."""
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items() if key != "ResponseMetadata"}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def translate(failure: Exception, action: str) -> Observation:
    """Say what an error of boto3 means for our look.

    Args:
        failure: what boto3 raised.
        action: the IAM action that was tried.
    """
    name = type(failure).__name__
    text = " ".join(str(failure).split())[:300]
    code = str(((getattr(failure, "response", None) or {}).get("Error") or {}).get("Code", ""))
    if code in DENIED:
        return Observation(State.FORBIDDEN, detail=action)
    if code in REFUSED:
        return Observation(State.UNREACHABLE, detail=f"AWS does not accept our credentials ({code})")
    if code in ABSENT or code.endswith(".NotFound"):
        return Observation(State.ABSENT, detail=text)
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"):
        return Observation(State.UNREACHABLE, detail=NO_CREDENTIALS)
    if name == "NoRegionError":
        return Observation(State.UNREACHABLE, detail="no AWS region")
    if "Timeout" in name:
        return Observation(State.UNREACHABLE, detail=f"{action}: timed out")
    return Observation(State.UNREACHABLE, detail=f"{action}: {text}")


class CloudReader:
    """Reads AWS. Safe to use from several threads; no call outlives the deadline by more than its own time-out.

    Args:
        options: amazon.aws's own connection options; its environment variables and boto3's fill the others.
        deadline: the end of everything.
        region: where the server stands; an option may overrule it, the environment may not.
    """

    def __init__(self, options: Mapping[str, Any], deadline: Deadline, region: str = "") -> None:
        self.deadline = deadline
        self.calls = CallCounter()
        self.problem = MISSING
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        if MISSING:
            return
        self._endpoint = options.get("endpoint_url") or os.environ.get("AWS_URL") or None
        self._bundle = options.get("aws_ca_bundle") or None
        patience = max(TIMEOUT_SECONDS, deadline.left() / PART_OF_DEADLINE)
        self._config = botocore.config.Config(
            connect_timeout=patience,
            read_timeout=patience,
            retries={"total_max_attempts": 2, "mode": "standard"},
            max_pool_connections=16,
        )
        try:
            self._session: Any = boto3.session.Session(
                aws_access_key_id=options.get("access_key") or None,
                aws_secret_access_key=options.get("secret_key") or None,
                aws_session_token=options.get("session_token") or None,
                profile_name=options.get("profile") or None,
                region_name=options.get("region") or None,
            )
            self.region = str(options.get("region") or region or self._session.region_name or "")
            if self._session.get_credentials() is None:
                self.problem = NO_CREDENTIALS
        except botocore.exceptions.BotoCoreError as failure:
            self.problem = f"no usable AWS options: {failure}"

    def secrets(self) -> set[str]:
        """Return the secret parts of the credentials in use."""
        if self.problem:
            return set()
        frozen = self._session.get_credentials().get_frozen_credentials()
        return {value for value in (frozen.secret_key, frozen.token) if value}

    def call(self, service: str, method: str, **parameters: Any) -> Observation:
        """Make one call, with all pages where the operation has pages.

        Args:
            service: boto3's name of the service.
            method: boto3's name of the operation, such as ``describe_db_instances``.
            parameters: the operation's own.
        """
        if self.problem:
            return Observation(State.UNREACHABLE, detail=self.problem)
        action = f"{service}:{method}"
        try:
            client = self._client(service)
            action = action_name(service, client.meta.method_to_api_mapping[method])
            if self.deadline.left() <= 0:
                return Observation(State.UNREACHABLE, detail=f"{action}: no time left")
            self.calls.count(action)
            if client.can_paginate(method):
                return Observation(
                    State.OK, to_json(client.get_paginator(method).paginate(**parameters).build_full_result())
                )
            return Observation(State.OK, to_json(getattr(client, method)(**parameters)))
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as failure:
            return translate(failure, action)
        except botocore.parsers.ResponseParserError:  # a proxy's page, for example
            return Observation(State.UNREACHABLE, detail=f"{action}: the answer is not AWS's")

    def _client(self, service: str) -> Any:
        with self._lock:  # boto3 sessions must not make clients in two threads at once
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service,
                    region_name=self.region or None,
                    endpoint_url=self._endpoint,
                    verify=self._bundle,
                    config=self._config,
                )
            return self._clients[service]
