# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the server is to AWS and whether it may use its bucket, with its own identity and the image's boto3."""

from __future__ import annotations

import importlib
import os
from typing import Any

from .common import Failed, Record, classify

DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "Forbidden",
        "403",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
MISSING = frozenset({"NoSuchBucket", "404", "NotFound"})


def identity(environment: dict[str, str]) -> dict[str, Any]:
    """Return where an AWS identity would come from, without any of it."""
    token = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE", "")
    return {
        "role_arn": environment.get("AWS_ROLE_ARN") or None,
        "token_file": bool(token) and os.path.exists(token),
        "pod_identity": "AWS_CONTAINER_CREDENTIALS_FULL_URI" in environment,
        "region": environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "",
        "static_keys": "AWS_ACCESS_KEY_ID" in environment,
        "endpoint_url": environment.get("MLFLOW_S3_ENDPOINT_URL") or environment.get("AWS_ENDPOINT_URL") or "",
    }


def outcome(error: BaseException) -> Failed:
    """Say what an error of botocore means, with the operation that failed."""
    response = getattr(error, "response", None) or {}
    code = str((response.get("Error") or {}).get("Code") or type(error).__name__)
    operation = str(getattr(error, "operation_name", ""))
    text = " ".join(str(error).split())[:500]
    if code in DENIED or code in ("NoCredentialsError", "TokenRetrievalError"):
        result = "denied"
    elif code in MISSING:
        result = "not_found"
    else:
        cause = (getattr(error, "kwargs", None) or {}).get("error")  # botocore's own text leaves the reason out
        result = classify(cause) if isinstance(cause, Exception) else classify(error)
    return Failed(result, text, code=code, operation=operation, message=text)


class Storage:
    """Clients of STS and S3 that share one session, so that the identity is asked for once."""

    def __init__(self, region: str, s3_endpoint: str) -> None:
        os.environ.setdefault("AWS_STS_REGIONAL_ENDPOINTS", "regional")
        os.environ.setdefault("AWS_METADATA_SERVICE_TIMEOUT", "1")
        os.environ.setdefault("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1")
        session = importlib.import_module("boto3").session.Session(region_name=region or None)
        config = importlib.import_module("botocore.config").Config(
            connect_timeout=4, read_timeout=6, retries={"total_max_attempts": 1}
        )
        self._sts = session.client("sts", config=config)
        self._s3 = session.client("s3", config=config, endpoint_url=s3_endpoint or None)

    def caller(self) -> dict[str, Any]:
        try:
            answer = self._sts.get_caller_identity()
        except Exception as error:
            raise outcome(error) from error
        return {"arn": answer["Arn"], "account": answer["Account"]}

    def list_bucket(self, bucket: str, prefix: str) -> dict[str, Any]:
        try:
            answer = self._s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        except Exception as error:
            raise outcome(error) from error
        return {"code": "", "operation": "ListObjectsV2", "empty": answer.get("KeyCount", 0) == 0}


def probe(record: Record, wanted: dict[str, Any], environment: dict[str, str], roomy: bool) -> None:
    """Measure the caller's identity and the bucket.

    Args:
        record: where results go.
        wanted: ``bucket``, ``prefix`` and ``region``.
        environment: the server's environment.
        roomy: whether the container's memory allows boto3 to be imported.
    """
    bucket = wanted["bucket"]
    asked = [("probe.sts", ""), *([("probe.s3_list", bucket)] if bucket else [])]
    if not roomy:
        for what, subject in asked:
            record.skip(what, subject, "importing boto3 could exceed the container's memory limit")
        return
    known = identity(environment)
    try:
        storage = Storage(wanted["region"] or known["region"], environment.get("MLFLOW_S3_ENDPOINT_URL", ""))
    except Exception as error:
        for what, subject in asked:
            record.skip(what, subject, f"boto3 cannot be used in this image: {' '.join(str(error).split())[:200]}")
        return
    record.measure("probe.sts", "", storage.caller)
    if bucket:
        record.measure("probe.s3_list", bucket, lambda: storage.list_bucket(bucket, wanted["prefix"]))
