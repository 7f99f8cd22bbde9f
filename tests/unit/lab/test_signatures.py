# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests signed by botocore itself, checked as the AWS emulation checks them."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tests.lab.emulation import signatures

SECRET = "a-secret"
TOKEN = "a-token"


def message(method: str, url: str, headers: dict[str, str], body: bytes, bucket: str | None) -> signatures.Message:
    parts = urlsplit(url)
    return signatures.Message(method, parts.path or "/", parts.query, {**headers, "host": parts.netloc}, body, bucket)


@pytest.mark.parametrize("service", ["rds", "s3"])
def test_header_signature(service: str) -> None:
    url = "https://runs.s3.us-west-2.amazonaws.com/a%20b?list-type=2&prefix=x%2Fy"
    request = AWSRequest("POST", url, {"Content-Type": "text/plain"}, b"body")
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    signer(Credentials("AKIA1", SECRET, TOKEN), service, "us-west-2").add_auth(request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    received = message("POST", url, headers, b"body", "runs")
    signature = signatures.read(received.headers, received.query)
    assert signature is not None
    assert (signature.access_key_id, signature.service, signature.token) == ("AKIA1", service, TOKEN)
    assert signatures.is_valid(signature, SECRET, received)
    assert not signatures.is_valid(signature, "another", received)


@pytest.mark.parametrize("style", ["virtual", "path"])
@pytest.mark.parametrize(("version", "number"), [("s3v4", 4), ("s3", 2)])
def test_presigned_url(style: str, version: str, number: int) -> None:
    options: dict[str, Any] = {"signature_version": version, "s3": {"addressing_style": style}}
    client = boto3.client(
        "s3",
        region_name="us-west-2",
        endpoint_url="https://s3.us-west-2.amazonaws.com",
        aws_access_key_id="AKIA1",
        aws_secret_access_key=SECRET,
        aws_session_token=TOKEN,
        config=Config(**options),
    )
    url = client.generate_presigned_url("get_object", Params={"Bucket": "runs", "Key": "a/b c"}, ExpiresIn=60)
    received = message("GET", url, {}, b"", "runs")
    signature = signatures.read(received.headers, received.query)
    assert signature is not None
    assert signature.deadline is not None
    assert (signature.version, signature.token) == (number, TOKEN)
    assert abs(signature.deadline - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(seconds=65)
    assert signatures.is_valid(signature, SECRET, received)
    tampered = message("GET", url.replace("b%20c", "b%20d"), {}, b"", "runs")
    assert not signatures.is_valid(signature, SECRET, tampered)


def test_unsigned() -> None:
    assert signatures.read({}, "list-type=2") is None
