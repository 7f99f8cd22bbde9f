# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of the API server become what they say about our look."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import kubernetes.client
import kubernetes.stream
import pytest
import urllib3
from ansible_collections.kubernetes.core.plugins.module_utils.k8s import client as core_client
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients import kubernetes as client
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import (
    CallFailed,
    Deadline,
    Observation,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import State

DENIED = json.dumps(
    {"message": 'pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "mlflow"'}
)
DENIED_EVERYWHERE = json.dumps(
    {"message": 'nodes is forbidden: User "operator" cannot list resource "nodes" in API group "" at the cluster scope'}
)
QUOTA = json.dumps({"message": 'pods "x" is forbidden: exceeded quota: few, requested: pods=1'})


@pytest.mark.parametrize(
    ("status", "body", "verb", "state", "detail"),
    [
        (403, DENIED, "list", State.FORBIDDEN, "list pods in namespace mlflow"),
        (403, DENIED_EVERYWHERE, "list", State.FORBIDDEN, "list nodes"),
        (403, "no", "get", State.FORBIDDEN, "get pods in namespace mlflow"),
        (403, QUOTA, "create", State.UNREACHABLE, "create pods in namespace mlflow: 403 pods"),
        (404, '{"message": "pods not found"}', "get", State.ABSENT, "pods not found"),
        (401, "", "get", State.UNREACHABLE, "the API server does not accept our credentials (401)"),
        (503, "busy", "list", State.UNREACHABLE, "list pods in namespace mlflow: 503 busy"),
    ],
)
def test_translate(status: int, body: str, verb: str, state: State, detail: str) -> None:
    seen = client.translate(status, body, verb, "pods", "mlflow")
    assert seen.state is state
    assert seen.detail.startswith(detail)


def test_a_right_is_named_with_its_group_where_the_name_alone_misleads() -> None:
    seen = client.translate(403, DENIED, "list", "pods.metrics.k8s.io", "mlflow")
    assert seen.detail == "list pods.metrics.k8s.io in namespace mlflow"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("HTTPSConnectionPool: Connection refused", "API server: connection refused"),
        ("Read timed out. (read timeout=10)", "API server: timed out"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED]", "API server: its certificate is not trusted"),
        ("something else", "API server: RuntimeError: something else"),
    ],
)
def test_translate_exception(text: str, reason: str) -> None:
    assert client.translate_exception(RuntimeError(text)) == reason


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> client.ClusterReader:
    """A reader whose connection is never used."""
    monkeypatch.setattr(core_client, "_create_configuration", lambda auth: kubernetes.client.Configuration())
    return client.ClusterReader({"host": "https://127.0.0.1:1", "api_key": "secret-token"}, Deadline(5))


def test_no_usable_options() -> None:
    with pytest.raises(CallFailed, match="no usable connection options"):
        client.ClusterReader({"kubeconfig": "/nonexistent/kubeconfig"}, Deadline(5))


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MISSING", "kubernetes is needed")
    with pytest.raises(CallFailed, match="kubernetes is needed"):
        client.ClusterReader({}, Deadline(5))


def answer(body: Any) -> Any:
    return SimpleNamespace(data=json.dumps(body).encode())


def test_list_is_partial_when_there_is_more(reader: client.ClusterReader, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "next"}}
    monkeypatch.setattr(reader, "_request", lambda *args, **kwargs: answer(body))
    seen = reader.list("/api/v1/pods", "pods")
    assert seen.state is State.PARTIAL
    assert [item["metadata"]["name"] for item in seen.value["items"]] == ["a"]


def test_calls_are_counted_and_bounded(reader: client.ClusterReader, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def request(method: str, url: str, **more: Any) -> Any:
        given.update(more, url=url)
        return answer({"items": None})

    monkeypatch.setattr(reader._client.rest_client, "request", request)
    assert reader.list("/api/v1/pods", "pods", query={"fieldSelector": "a=b"}).value == {"items": []}
    assert reader.calls.as_json() == {"list pods": 1}
    assert given["_request_timeout"] == (client.CONNECT_SECONDS, pytest.approx(5, abs=1))
    assert ("fieldSelector", "a=b") in given["query_params"]


def test_nothing_is_asked_without_time_but_removals(
    monkeypatch: pytest.MonkeyPatch, reader: client.ClusterReader
) -> None:
    asked: list[str] = []

    def request(method: str, url: str, **more: Any) -> Any:
        asked.append(method)
        return answer({})

    monkeypatch.setattr(reader._client.rest_client, "request", request)
    reader.deadline = Deadline(0)
    assert reader.get("/version", "version") == Observation(State.UNREACHABLE, detail="get version: no time left")
    assert reader.delete_pod("argo", "probe").seen
    assert asked == ["DELETE"]


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (kubernetes.client.ApiException(status=0, reason="Connection refused"), State.UNREACHABLE),
        (urllib3.exceptions.ProtocolError("Connection aborted."), State.UNREACHABLE),
    ],
)
def test_failed_requests(
    reader: client.ClusterReader, monkeypatch: pytest.MonkeyPatch, failure: Exception, state: State
) -> None:
    def request(*args: Any, **more: Any) -> Any:
        raise failure

    monkeypatch.setattr(reader._client.rest_client, "request", request)
    assert reader.get("/version", "version").state is state


def test_a_log_that_does_not_exist_yet_is_absent(reader: client.ClusterReader, monkeypatch: pytest.MonkeyPatch) -> None:
    def request(*args: Any, **more: Any) -> Any:
        raise CallFailed(
            client.translate(400, '{"message": "container is waiting to start"}', "get", "pods/log", "mlflow")
        )

    monkeypatch.setattr(reader, "_request", request)
    assert reader.pod_log("mlflow", "a", "mlflow", previous=True).state is State.ABSENT


class Socket:
    """A websocket whose other end has said everything at once."""

    def __init__(self, ending: str, still_open: bool = False) -> None:
        self.ending, self.still_open = ending, still_open
        self.sent = ""
        self.closed = False

    def write_stdin(self, text: str) -> None:
        self.sent += text

    def run_forever(self, timeout: float) -> None:
        assert timeout > 0

    def is_open(self) -> bool:
        return self.still_open

    def read_channel(self, channel: int) -> str:
        return self.ending

    def read_stdout(self, timeout: float) -> str:
        return "out"

    def read_stderr(self, timeout: float) -> str:
        return "err"

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("ending", "problem"),
    [
        ('{"status": "Success"}', ""),
        (
            '{"status": "Failure", "message": "command terminated with exit code 1"}',
            "command terminated with exit code 1",
        ),
        ("", "connection ended early"),
    ],
)
def test_exec(reader: client.ClusterReader, monkeypatch: pytest.MonkeyPatch, ending: str, problem: str) -> None:
    socket = Socket(ending)
    commands: list[list[str]] = []

    def stream(method: Any, *args: Any, command: list[str], **more: Any) -> Socket:
        commands.append(command)
        return socket

    monkeypatch.setattr(kubernetes.stream, "stream", stream)
    seen = reader.exec_python("mlflow", "pod", "mlflow", "program", '{"secrets": ["hunter2"]}', 3)
    assert seen == Observation(State.OK, {"out": "out", "error": "err", "problem": problem})
    assert "hunter2" in socket.sent
    assert commands == [["python3", "-c", "program", "24"]]
    assert socket.closed


def test_exec_that_never_ends(reader: client.ClusterReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes.stream, "stream", lambda *args, **more: Socket("", still_open=True))
    seen = reader.exec_python("mlflow", "pod", "mlflow", "program", "{}", 3)
    assert seen == Observation(State.UNREACHABLE, detail="exec in pod: no answer within 3 s")


def test_exec_that_is_not_permitted(reader: client.ClusterReader, monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(*args: Any, **more: Any) -> Any:
        body = 'cannot get resource "pods/exec" in API group "" in the namespace "mlflow"'
        raise kubernetes.client.ApiException(status=0, reason=f"Handshake status 403 Forbidden -+-+- {body}")

    monkeypatch.setattr(kubernetes.stream, "stream", stream)
    seen = reader.exec_python("mlflow", "pod", "mlflow", "program", "{}", 3)
    assert seen == Observation(State.FORBIDDEN, detail="get pods/exec in namespace mlflow")


def test_secrets_of_the_options(reader: client.ClusterReader) -> None:
    reader.configuration.api_key = {"authorization": "Bearer secret-token"}
    assert reader.secrets() == {"secret-token"}
