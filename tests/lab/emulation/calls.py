# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A request to AWS, understood: service, operation, IAM action, resource, parameters. No secrets are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from tests.lab import settings

SECRET_PARAMETER = re.compile(r"password|secret|token|signature", re.IGNORECASE)
READ_ONLY_PREFIXES = ("Get", "List", "Describe", "Head", "Filter", "Lookup", "Search", "Select", "BatchGet", "Test")
READ_ONLY_OPERATIONS = {"StartQuery", "StopQuery", "AssumeRole", "AssumeRoleWithWebIdentity"}
# Signing name to IAM's action prefix, where they differ.
ACTION_PREFIXES = {"monitoring": "cloudwatch"}

# S3 is the one REST service: query sub-resource to the part of the operation's name.
# Source: "Actions, resources, and condition keys for Amazon S3" of the service authorization reference.
S3_SUBRESOURCES = {
    "acl": "BucketAcl",
    "cors": "BucketCORS",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "location": "BucketLocation",
    "logging": "BucketLogging",
    "notification": "BucketNotification",
    "object-lock": "BucketObjectLockConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "replication": "ReplicationConfiguration",
    "requestPayment": "BucketRequestPayment",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
    "website": "BucketWebsite",
}
S3_VERBS = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "POST": "Put", "DELETE": "Delete"}


@dataclass(frozen=True)
class Call:
    """One request: ``service`` is the signing name, ``action`` IAM's name, ``resource`` an ARN or ``*``."""

    service: str
    operation: str
    action: str
    resource: str = "*"
    params: Mapping[str, Any] = field(default_factory=dict)
    bucket: str | None = None

    @property
    def read_only(self) -> bool:
        """Whether AWS calls the operation a read (it changes no resource)."""
        return self.operation.startswith(READ_ONLY_PREFIXES) or self.operation in READ_ONLY_OPERATIONS


def parse(
    method: str, host: str, path: str, query: str, headers: Mapping[str, str], body: bytes, scope_service: str | None
) -> Call:
    """Understand a request.

    Args:
        method, host, path, query: of the request line; ``path`` still percent-encoded.
        headers: keys in lower case.
        scope_service: service in the credential scope of the signature, None for an unsigned request.
    """
    service = scope_service or service_of_host(host)
    if service == "s3":
        return _s3_call(method, host, unquote(path), dict(parse_qsl(query, keep_blank_values=True)))
    if target := headers.get("x-amz-target"):
        return _call(service, target.rpartition(".")[2], _json(body))
    if "/operation/" in path:
        return _call(service, path.rpartition("/operation/")[2], {})
    form = body.decode("utf-8", "replace") if "form" in headers.get("content-type", "") else ""
    params = dict(parse_qsl(query, keep_blank_values=True)) | dict(parse_qsl(form, keep_blank_values=True))
    params.pop("Version", None)
    return _call(service, params.pop("Action", "") or "Unknown", params)


def service_of_host(host: str) -> str:
    """Signing name of the service behind a host name; buckets are below ``s3``."""
    labels = host.partition(":")[0].lower().removesuffix(".amazonaws.com").split(".")
    return "s3" if "s3" in labels else labels[0]


def without_secrets(params: Mapping[str, Any]) -> dict[str, Any]:
    """``params`` with the values of passwords, secrets and tokens replaced."""
    return {key: "***" if SECRET_PARAMETER.search(key) else value for key, value in params.items()}


def _call(service: str, operation: str, params: Mapping[str, Any]) -> Call:
    action = f"{ACTION_PREFIXES.get(service, service)}:{operation}"
    return Call(service, operation, action, _resource(service, operation, params), params)


def _resource(service: str, operation: str, params: Mapping[str, Any]) -> str:
    account, region = settings.AWS_ACCOUNT_ID, settings.AWS_REGION
    if service == "iam":
        for parameter, kind in (("RoleName", "role"), ("UserName", "user")):
            if parameter in params:
                return f"arn:aws:iam::{account}:{kind}/{params[parameter]}"
        return str(params.get("PolicyArn", "*"))
    if service == "sts" and "RoleArn" in params:
        return str(params["RoleArn"])
    if service == "rds" and "DBInstanceIdentifier" in params:
        return f"arn:aws:rds:{region}:{account}:db:{params['DBInstanceIdentifier']}"
    if service == "ec2" and "GroupId" in params and not operation.startswith("Describe"):
        return f"arn:aws:ec2:{region}:{account}:security-group/{params['GroupId']}"
    return "*"


def _s3_call(method: str, host: str, path: str, query: Mapping[str, str]) -> Call:
    bucket, key = s3_names(host, path)
    params = {name: value for name, value in query.items() if not name.startswith("X-Amz-")}
    params |= {name: value for name, value in (("Bucket", bucket), ("Key", key)) if value}
    if not bucket:
        return Call("s3", "ListBuckets", "s3:ListAllMyBuckets", "*", params)
    operation, action = _s3_object(method, query) if key else _s3_bucket(method, query)
    # A deletion of many keys names them in its body; it is judged for the bucket's objects as a whole.
    path = "/*" if operation == "DeleteObjects" else f"/{key}" if key else ""
    return Call("s3", operation, f"s3:{action}", f"arn:aws:s3:::{bucket}{path}", params, bucket)


def s3_names(host: str, path: str) -> tuple[str, str]:
    """Bucket and key of an S3 request, for ``bucket.s3.region…/key`` as well as ``s3.region…/bucket/key``."""
    prefix = re.match(r"(?P<bucket>.+)\.s3[.-]", host.partition(":")[0])
    if prefix:
        return prefix["bucket"], path.removeprefix("/")
    bucket, _, key = path.removeprefix("/").partition("/")
    return bucket, key


def _s3_object(method: str, query: Mapping[str, str]) -> tuple[str, str]:
    for name in ("acl", "tagging"):
        if name in query:
            action = f"{S3_VERBS[method]}Object{name.capitalize()}"
            return action, action
    if "uploads" in query:
        return "CreateMultipartUpload", "PutObject"
    if "uploadId" in query:
        names = {
            "GET": ("ListParts", "ListMultipartUploadParts"),
            "PUT": ("UploadPart", "PutObject"),
            "POST": ("CompleteMultipartUpload", "PutObject"),
            "DELETE": ("AbortMultipartUpload", "AbortMultipartUpload"),
        }
        return names[method]
    if method == "HEAD":
        return "HeadObject", "GetObject"
    version = "Version" if "versionId" in query else ""
    return f"{S3_VERBS[method]}Object", f"{S3_VERBS[method]}Object{version}"


def _s3_bucket(method: str, query: Mapping[str, str]) -> tuple[str, str]:
    if "delete" in query:
        return "DeleteObjects", "DeleteObject"
    if "uploads" in query:
        return "ListMultipartUploads", "ListBucketMultipartUploads"
    if "versions" in query:
        return "ListObjectVersions", "ListBucketVersions"
    for name, part in S3_SUBRESOURCES.items():
        if name in query:
            # Taking a configuration away needs the right to put it, except for the policy and the website.
            removes = method == "DELETE" and name not in ("policy", "website")
            return f"{S3_VERBS[method]}{part}", f"{'Put' if removes else S3_VERBS[method]}{part}"
    names = {
        "GET": ("ListObjectsV2" if "list-type" in query else "ListObjects", "ListBucket"),
        "HEAD": ("HeadBucket", "ListBucket"),
        "PUT": ("CreateBucket", "CreateBucket"),
        "POST": ("PostObject", "PutObject"),
        "DELETE": ("DeleteBucket", "DeleteBucket"),
    }
    return names[method]


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body or b"{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
