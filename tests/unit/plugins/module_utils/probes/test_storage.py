# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS from inside the pod, with an SDK that only pretends."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.probes import common, storage
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, NoCredentialsError

WANTED = {"bucket": "artifacts", "prefix": "", "region": "us-west-2"}


@pytest.mark.parametrize(
    ("error", "result", "code", "operation"),
    [
        (ClientError({"Error": {"Code": "AccessDenied"}}, "ListObjectsV2"), "denied", "AccessDenied", "ListObjectsV2"),
        (
            ClientError({"Error": {"Code": "NoSuchBucket"}}, "ListObjectsV2"),
            "not_found",
            "NoSuchBucket",
            "ListObjectsV2",
        ),
        (ClientError({"Error": {"Code": "SlowDown"}}, "ListObjectsV2"), "error", "SlowDown", "ListObjectsV2"),
        (NoCredentialsError(), "denied", "NoCredentialsError", ""),
        (
            EndpointConnectionError(endpoint_url="https://s3", error=OSError("[Errno 111] Connection refused")),
            "refused",
            "EndpointConnectionError",
            "",
        ),
        (ConnectTimeoutError(endpoint_url="https://s3"), "timeout", "ConnectTimeoutError", ""),
    ],
)
def test_outcome(error: Exception, result: str, code: str, operation: str) -> None:
    value = storage.outcome(error).value
    assert (value["result"], value["code"], value["operation"]) == (result, code, operation)


def test_identity(tmp_path: Any) -> None:
    token = tmp_path / "token"
    environment = {"AWS_ROLE_ARN": "arn:role", "AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_REGION": "us-west-2"}
    assert storage.identity(environment)["token_file"] is False
    token.write_text("x")
    value = storage.identity(environment)
    assert value["token_file"] is True
    assert value["role_arn"] == "arn:role"
    assert value["static_keys"] is False
    assert storage.identity({"AWS_ACCESS_KEY_ID": "x"})["static_keys"] is True


class Session:
    """Clients whose answers or errors are given."""

    answers: ClassVar[dict[str, Any]] = {}

    def __init__(self, region_name: str | None) -> None:
        assert region_name == "us-west-2"

    def client(self, service: str, **more: Any) -> Any:
        def answer(**given: Any) -> Any:
            result = self.answers[service]
            if isinstance(result, Exception):
                raise result
            return result

        return SimpleNamespace(get_caller_identity=answer, list_objects_v2=answer)


def run(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], roomy: bool = True) -> dict[str, Any]:
    monkeypatch.setattr(Session, "answers", answers)
    modules = {
        "boto3": SimpleNamespace(session=SimpleNamespace(Session=Session)),
        "botocore.config": SimpleNamespace(Config=lambda **given: given),
    }
    monkeypatch.setattr(importlib, "import_module", lambda name: modules[name])
    record = common.Record()
    storage.probe(record, WANTED, {}, roomy)
    return {row["what"]: row for row in record.rows()}


def test_a_healthy_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run(monkeypatch, {"sts": {"Arn": "arn:x", "Account": "1"}, "s3": {"KeyCount": 1}})
    assert rows["probe.sts"]["value"]["arn"] == "arn:x"
    assert rows["probe.s3_list"]["subject"] == "artifacts"
    assert rows["probe.s3_list"]["value"]["empty"] is False


def test_a_denied_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListObjectsV2")
    rows = run(monkeypatch, {"sts": denied, "s3": denied})
    assert rows["probe.sts"]["value"]["result"] == "denied"
    assert rows["probe.s3_list"]["value"]["code"] == "AccessDenied"


def test_no_import_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run(monkeypatch, {}, roomy=False)
    assert {row["state"] for row in rows.values()} == {"skipped"}


def test_an_image_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError("No module named 'boto3'")

    monkeypatch.setattr(importlib, "import_module", missing)
    record = common.Record()
    storage.probe(record, WANTED, {}, True)
    assert [row["detail"] for row in record.rows()] == [
        "boto3 cannot be used in this image: No module named 'boto3'"
    ] * 2
