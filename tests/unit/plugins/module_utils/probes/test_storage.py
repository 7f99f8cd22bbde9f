# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS from inside the pod, with an SDK that only pretends."""

from __future__ import annotations

import base64
import importlib
import json
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
    """Clients whose answers or errors are given by operation, or by service for all of its operations."""

    answers: ClassVar[dict[str, Any]] = {}
    called: ClassVar[list[str]] = []

    def __init__(self, region_name: str | None) -> None:
        assert region_name is None

    def client(self, service: str, **more: Any) -> Any:
        def answer(operation: str) -> Any:
            def call(**given: Any) -> Any:
                self.called.append(operation)
                result = self.answers.get(operation, self.answers.get(service, {}))
                if isinstance(result, Exception):
                    raise result
                return result

            return call

        names = ("get_caller_identity", "list_objects_v2", "get_object", "put_object", "delete_object")
        endpoint = SimpleNamespace(endpoint_url=f"https://{service}.us-west-2.amazonaws.com")
        return SimpleNamespace(meta=endpoint, **{name: answer(name) for name in names})


STS = {"Arn": "arn:x", "Account": "1"}
DENIED = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "AnyOperation")


def run(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], roomy: bool = True, **wanted: Any) -> dict[str, Any]:
    monkeypatch.setattr(Session, "answers", answers)
    monkeypatch.setattr(Session, "called", [])
    modules = {
        "boto3": SimpleNamespace(session=SimpleNamespace(Session=Session)),
        "botocore.config": SimpleNamespace(Config=lambda **given: given),
    }
    monkeypatch.setattr(importlib, "import_module", lambda name: modules[name])
    record = common.Record()
    # through a proxy, no endpoint is measured
    storage.probe(record, {**WANTED, **wanted}, {"HTTPS_PROXY": "http://127.0.0.1:9"}, roomy)
    return {row["what"]: row for row in record.rows()}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe takes the server's variables over; a test must not leave them behind."""
    for name in ("HTTPS_PROXY", "AWS_STS_REGIONAL_ENDPOINTS", "AWS_METADATA_SERVICE_TIMEOUT"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1")


def test_a_healthy_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    body = SimpleNamespace(close=lambda: None)
    rows = run(monkeypatch, {"sts": STS, "s3": {"Contents": [{"Key": "0/a"}], "Body": body}})
    assert rows["probe.sts"]["value"]["arn"] == "arn:x"
    assert rows["probe.s3_list"]["subject"] == "artifacts"
    assert rows["probe.s3_list"]["value"]["key"] == "0/a"
    assert rows["probe.s3_get"]["value"]["result"] == "ok"
    assert "put_object" not in Session.called


def test_a_denied_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run(monkeypatch, {"sts": DENIED, "s3": DENIED})
    assert rows["probe.sts"]["value"]["result"] == "denied"
    assert rows["probe.s3_list"]["value"]["code"] == "AccessDenied"
    assert "probe.s3_get" not in rows


@pytest.mark.parametrize(
    ("answer", "result"),
    [(ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject"), "ok"), (DENIED, "denied")],
)
def test_a_key_that_is_not_there_tells_whether_reading_is_allowed(
    monkeypatch: pytest.MonkeyPatch, answer: Exception, result: str
) -> None:
    rows = run(monkeypatch, {"sts": STS, "s3": {}, "get_object": answer})
    assert rows["probe.s3_get"]["value"]["result"] == result


def test_the_canary_is_put_read_and_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run(monkeypatch, {"sts": STS, "s3": {"Body": []}}, canary=True, prefix="ml", bucket="artifacts")
    value = rows["probe.s3_canary"]["value"]
    assert value["steps"] == {"put": "ok", "get": "ok", "delete": "ok"}
    assert value["key"] == "ml/mlflow-runbook-canary"


@pytest.mark.parametrize(
    ("denied", "steps"),
    [
        ("put_object", {"put": "denied"}),
        ("get_object", {"put": "ok", "get": "denied", "delete": "ok"}),
        ("delete_object", {"put": "ok", "get": "ok", "delete": "denied"}),
    ],
)
def test_a_canary_that_fails(monkeypatch: pytest.MonkeyPatch, denied: str, steps: dict[str, str]) -> None:
    rows = run(monkeypatch, {"sts": STS, "s3": {"Body": []}, denied: DENIED}, canary=True)
    value = rows["probe.s3_canary"]["value"]
    assert value["result"] == "denied"
    assert value["steps"] == steps


def test_no_import_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run(monkeypatch, {}, roomy=False)
    assert {row["state"] for row in rows.values()} == {"skipped"}


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ModuleNotFoundError("No module named 'boto3'"), "no_driver"),
        (ValueError("Invalid endpoint: minio:9000"), "invalid"),
    ],
)
def test_what_keeps_a_client_from_being_made(monkeypatch: pytest.MonkeyPatch, error: Exception, result: str) -> None:
    def missing(name: str) -> Any:
        raise error

    monkeypatch.setattr(importlib, "import_module", missing)
    record = common.Record()
    storage.probe(record, WANTED, {}, True)
    assert [row["value"]["result"] for row in record.rows()] == [result] * 2


def test_claims_of_a_token(tmp_path: Any) -> None:
    payload = {"iss": "https://issuer", "aud": ["sts.amazonaws.com"], "sub": "system:serviceaccount:a:b", "exp": 7}
    middle = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    token = tmp_path / "token"
    token.write_text(f"head.{middle}.signature")
    assert storage.claims(str(token)) == {
        "issuer": "https://issuer",
        "audience": ["sts.amazonaws.com"],
        "subject": "system:serviceaccount:a:b",
        "expires": 7,
    }
    token.write_text("nothing")
    assert storage.claims(str(token)) is None
    assert storage.claims(str(tmp_path / "gone")) is None
