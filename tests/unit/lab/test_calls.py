# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the AWS emulation understands requests, and what it writes into the call log."""

from __future__ import annotations

import pytest

from tests.lab.emulation import calls

FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
RUNS = "arn:aws:s3:::runs"
VIRTUAL = "runs.s3.us-west-2.amazonaws.com"
PATH_STYLE = "s3.us-west-2.amazonaws.com"


@pytest.mark.parametrize(
    ("method", "host", "path", "query", "operation", "action", "resource", "read_only"),
    [
        ("GET", PATH_STYLE, "/", "", "ListBuckets", "s3:ListAllMyBuckets", "*", True),
        ("GET", VIRTUAL, "/", "list-type=2&prefix=a", "ListObjectsV2", "s3:ListBucket", RUNS, True),
        ("HEAD", PATH_STYLE, "/runs", "", "HeadBucket", "s3:ListBucket", RUNS, True),
        ("PUT", VIRTUAL, "/a%20b/c", "", "PutObject", "s3:PutObject", RUNS + "/a b/c", False),
        ("PUT", PATH_STYLE, "/runs/a", "partNumber=1&uploadId=x", "UploadPart", "s3:PutObject", RUNS + "/a", False),
        ("POST", VIRTUAL, "/a", "uploads", "CreateMultipartUpload", "s3:PutObject", RUNS + "/a", False),
        ("POST", VIRTUAL, "/a", "uploadId=x", "CompleteMultipartUpload", "s3:PutObject", RUNS + "/a", False),
        ("HEAD", VIRTUAL, "/a", "", "HeadObject", "s3:GetObject", RUNS + "/a", True),
        ("GET", VIRTUAL, "/a", "versionId=1", "GetObject", "s3:GetObjectVersion", RUNS + "/a", True),
        ("DELETE", VIRTUAL, "/a", "", "DeleteObject", "s3:DeleteObject", RUNS + "/a", False),
        ("POST", VIRTUAL, "/", "delete", "DeleteObjects", "s3:DeleteObject", RUNS + "/*", False),
        (
            "GET",
            VIRTUAL,
            "/",
            "publicAccessBlock",
            "GetBucketPublicAccessBlock",
            "s3:GetBucketPublicAccessBlock",
            RUNS,
            True,
        ),
        ("GET", VIRTUAL, "/", "encryption", "GetEncryptionConfiguration", "s3:GetEncryptionConfiguration", RUNS, True),
        (
            "DELETE",
            VIRTUAL,
            "/",
            "lifecycle",
            "DeleteLifecycleConfiguration",
            "s3:PutLifecycleConfiguration",
            RUNS,
            False,
        ),
        ("DELETE", VIRTUAL, "/", "policy", "DeleteBucketPolicy", "s3:DeleteBucketPolicy", RUNS, False),
    ],
)
def test_s3(
    method: str, host: str, path: str, query: str, operation: str, action: str, resource: str, read_only: bool
) -> None:
    call = calls.parse(method, host, path, query, {}, b"", "s3")
    assert (call.operation, call.action, call.resource, call.read_only) == (operation, action, resource, read_only)


def test_query_service() -> None:
    body = b"Action=StopDBInstance&Version=2014-10-31&DBInstanceIdentifier=one"
    call = calls.parse("POST", "rds.us-west-2.amazonaws.com", "/", "", FORM, body, "rds")
    assert (call.action, call.resource) == ("rds:StopDBInstance", "arn:aws:rds:us-west-2:123456789012:db:one")
    assert call.params == {"DBInstanceIdentifier": "one"}
    assert not call.read_only


def test_json_service_uses_the_iam_prefix() -> None:
    headers = {"x-amz-target": "GraniteServiceVersion20100801.GetMetricData"}
    call = calls.parse("POST", "monitoring.us-west-2.amazonaws.com", "/", "", headers, b'{"a": 1}', "monitoring")
    assert (call.action, call.params, call.read_only) == ("cloudwatch:GetMetricData", {"a": 1}, True)


def test_unsigned_web_identity_is_a_read() -> None:
    body = b"Action=AssumeRoleWithWebIdentity&RoleArn=arn:aws:iam::1:role/r&WebIdentityToken=t"
    call = calls.parse("POST", "sts.us-west-2.amazonaws.com", "/", "", FORM, body, None)
    assert (call.service, call.resource, call.read_only) == ("sts", "arn:aws:iam::1:role/r", True)


def test_secrets_stay_out_of_the_log() -> None:
    params = {"WebIdentityToken": "a", "MasterUserPassword": "b", "RoleArn": "c"}
    assert calls.without_secrets(params) == {"WebIdentityToken": "***", "MasterUserPassword": "***", "RoleArn": "c"}
