# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of AWS become what they say about our look."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients import aws
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Deadline, Observation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import State
from botocore.exceptions import ClientError, ConnectTimeoutError, NoCredentialsError, NoRegionError


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "words"}}, "DescribeDBInstances")


@pytest.mark.parametrize(
    ("failure", "state", "detail"),
    [
        (client_error("AccessDenied"), State.FORBIDDEN, "rds:DescribeDBInstances"),
        (client_error("UnauthorizedOperation"), State.FORBIDDEN, "rds:DescribeDBInstances"),
        (client_error("DBInstanceNotFound"), State.ABSENT, "An error occurred (DBInstanceNotFound)"),
        (client_error("InvalidGroup.NotFound"), State.ABSENT, "An error occurred (InvalidGroup.NotFound)"),
        (client_error("ExpiredToken"), State.UNREACHABLE, "AWS does not accept our credentials (ExpiredToken)"),
        (client_error("Throttling"), State.UNREACHABLE, "rds:DescribeDBInstances: An error occurred (Throttling)"),
        (NoCredentialsError(), State.UNREACHABLE, "no AWS credentials"),
        (NoRegionError(), State.UNREACHABLE, "no AWS region"),
        (ConnectTimeoutError(endpoint_url="https://x"), State.UNREACHABLE, "rds:DescribeDBInstances: timed out"),
    ],
)
def test_translate(failure: Exception, state: State, detail: str) -> None:
    seen = aws.translate(failure, "rds:DescribeDBInstances")
    assert seen.state is state
    assert seen.detail.startswith(detail)


def test_answers_become_plain_json() -> None:
    at = datetime.datetime(2026, 11, 22, 1, 2, 3, tzinfo=datetime.UTC)
    assert aws.to_json({"At": at, "List": ({"A": 1},), "ResponseMetadata": {}}) == {
        "At": "2026-11-22T01:02:03Z",
        "List": [{"A": 1}],
    }


def test_some_actions_are_not_called_like_their_operation() -> None:
    assert aws.action_name("s3", "HeadBucket") == "s3:ListBucket"
    assert aws.action_name("rds", "DescribeEvents") == "rds:DescribeEvents"


class Client:
    """An SDK client with one operation that has pages and one that has none."""

    meta = SimpleNamespace(method_to_api_mapping={"describe_events": "DescribeEvents", "head_bucket": "HeadBucket"})

    def can_paginate(self, method: str) -> bool:
        return method == "describe_events"

    def get_paginator(self, method: str) -> Any:
        return SimpleNamespace(
            paginate=lambda **given: SimpleNamespace(build_full_result=lambda: {"Events": [given["Duration"]]})
        )

    def head_bucket(self, **given: str) -> Any:
        raise ClientError({"Error": {"Code": "403"}}, "HeadBucket")


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> aws.CloudReader:
    keys = {"access_key": "AKIDEXAMPLE", "secret_key": "a-secret-key", "region": "us-west-2"}
    reader = aws.CloudReader(keys, Deadline(5))
    monkeypatch.setattr(reader, "_client", lambda service: Client())
    return reader


def test_pages_are_joined_and_calls_counted(reader: aws.CloudReader) -> None:
    assert reader.call("rds", "describe_events", Duration=5) == Observation(State.OK, {"Events": [5]})
    assert reader.call("s3", "head_bucket", Bucket="b") == Observation(State.FORBIDDEN, detail="s3:ListBucket")
    assert reader.calls.as_json() == {"rds:DescribeEvents": 1, "s3:ListBucket": 1}
    assert reader.secrets() == {"a-secret-key"}


def test_no_call_without_time(reader: aws.CloudReader) -> None:
    reader.deadline = Deadline(0)
    assert reader.call("rds", "describe_events").detail == "rds:DescribeEvents: no time left"
    assert reader.calls.as_json() == {}


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boto3.session.Session, "get_credentials", lambda self: None)
    reader = aws.CloudReader({"region": "us-west-2"}, Deadline(5))
    assert reader.call("sts", "get_caller_identity") == Observation(State.UNREACHABLE, detail="no AWS credentials")
    assert reader.secrets() == set()


def test_unknown_profile() -> None:
    reader = aws.CloudReader({"profile": "no-such-profile"}, Deadline(5))
    assert reader.call("sts", "get_caller_identity").detail.startswith("no usable AWS options")
