# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who calls: access keys, their policies and the policies of buckets and roles, read from the emulation's state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from moto.core.utils import utcnow
from moto.iam.access_control import AssumedRoleAccessKey, CreateAccessKeyFailure, IAMUserAccessKey
from moto.iam.models import IAMBackend, Policy, iam_backends
from moto.s3.models import s3_backends
from moto.sts.models import STSBackend, sts_backends

from tests.lab import settings
from tests.lab.emulation.web_identity import Provider

PARTITION = "aws"
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Principal:
    """The owner of an access key: its ARN, all names policies may use for it, its secret and its policies."""

    arn: str
    names: frozenset[str]
    secret: str
    policies: Sequence[Document]
    boundary: Document | None
    expired: bool


def iam() -> IAMBackend:
    """The account's IAM state."""
    return iam_backends[settings.AWS_ACCOUNT_ID][PARTITION]


def sts() -> STSBackend:
    """The account's STS state."""
    return sts_backends[settings.AWS_ACCOUNT_ID][PARTITION]


def find(access_key_id: str, token: str) -> Principal | None:
    """The principal of an access key (with the session token that came along), None when there is none."""
    key: IAMUserAccessKey | AssumedRoleAccessKey
    try:
        if token:
            headers = {"X-Amz-Security-Token": token}
            key = AssumedRoleAccessKey(settings.AWS_ACCOUNT_ID, PARTITION, access_key_id, headers)
        else:
            key = IAMUserAccessKey(settings.AWS_ACCOUNT_ID, PARTITION, access_key_id, {})
    except CreateAccessKeyFailure:
        return None
    names = {key.arn, settings.AWS_ACCOUNT_ID}
    boundary, expired = None, False
    if isinstance(key, AssumedRoleAccessKey):
        session = sts().get_assumed_role_from_access_key(access_key_id)
        role = _role(session.role_arn) if session else None
        if session is None or role is None:
            return None
        names.add(role.arn)
        expired = session.expiration <= utcnow()
        boundary = _managed(role.permissions_boundary_arn) if role.permissions_boundary_arn else None
    policies = [_document(policy) for policy in key.collect_policies()]
    return Principal(key.arn, frozenset(names), key.create_credentials().secret_key, policies, boundary, expired)


def trust_policy(role_arn: str) -> Document | None:
    """Trust policy of a role, None when there is no such role."""
    role = _role(role_arn)
    return _document(role.assume_role_policy_document) if role else None


def identity_providers() -> list[Provider]:
    """OpenID Connect providers registered in IAM."""
    entries = iam().open_id_providers.values()
    return [Provider(entry.arn, entry.url.removeprefix("https://"), entry.client_id_list) for entry in entries]


def bucket_policy(name: str) -> Document | None:
    """Policy of a bucket, None when it has none or does not exist."""
    bucket = s3_backends[settings.AWS_ACCOUNT_ID][PARTITION].buckets.get(name)
    return _document(bucket.policy) if bucket is not None and bucket.policy else None


def _role(role_arn: str) -> Any:
    return next((role for role in iam().roles.values() if role.arn == role_arn), None)


def _managed(policy_arn: str) -> Document | None:
    policy = iam().managed_policies.get(policy_arn)
    return _document(policy) if policy else None


def _document(policy: Any) -> Document:
    if isinstance(policy, Policy):
        policy = next(version.document for version in policy.versions if version.is_default)
    elif isinstance(policy, Mapping):
        policy = policy["policy_document"]
    text = policy.decode() if isinstance(policy, bytes) else str(policy)
    document: Document = json.loads(text if text.lstrip().startswith("{") else unquote(text))
    return document
