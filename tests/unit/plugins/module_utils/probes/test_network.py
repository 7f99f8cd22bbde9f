# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, ports and HTTP against a server of our own on the loopback address."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.probes import common, network, web


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/slow":
            threading.Event().wait(2)
        if self.path == "/strict" and self.headers["Host"] != "mlflow.ml:80":
            self.send_response(403)
            self.end_headers()
            self.wfile.write(b"Invalid Host header - possible DNS rebinding attack detected")
            return
        self.send_response(403 if self.headers["Host"] == "evil" else 200)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Set-Cookie", "session=1")
        self.end_headers()
        self.wfile.write((self.path + " " + self.headers.get("Authorization", "") + " " + "x" * 1000).encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def result_of(record: common.Record) -> dict[str, Any]:
    return dict(record.rows()[0]["value"])


def test_tcp(port: int, closed_port: int) -> None:
    record = common.Record()
    assert network.tcp(record, "127.0.0.1", port)
    assert result_of(record)["address"] == "127.0.0.1"
    record = common.Record()
    assert not network.tcp(record, "127.0.0.1", closed_port)
    assert {key: result_of(record)[key] for key in ("result", "address", "attempts")} == {
        "result": "refused",
        "address": "127.0.0.1",
        "attempts": 1,
    }


def test_a_new_pod_is_given_time(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "PAUSE_SECONDS", 0.05)
    record = common.Record()
    network.tcp(record, "127.0.0.1", closed_port, settle_seconds=0.3)
    assert result_of(record)["attempts"] > 2


@pytest.mark.parametrize(("through", "once"), [([], True), (["10.91.0.5"], True), (["10.91.0.5", "10.91.0.6"], False)])
def test_a_service_whose_pods_were_all_reached_refuses_for_good(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, through: list[str], once: bool
) -> None:
    monkeypatch.setattr(network, "PAUSE_SECONDS", 0.05)
    pods = common.Record()
    pods.measure("probe.tcp", "10.91.0.5:5000", dict)
    network.tcp(pods, "127.0.0.1", closed_port, settle_seconds=0.3, through=through)
    assert (pods.rows()[1]["value"]["attempts"] == 1) is once


def test_resolve() -> None:
    assert network.resolve("127.0.0.1") == {"addresses": ["127.0.0.1"]}


@pytest.mark.parametrize(("reply", "value"), [(b"N", {"offered": False})])
def test_a_database_without_tls(reply: bytes, value: dict[str, Any]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(reply)
        assert network.postgresql_tls(ours, "db") == value
        assert theirs.recv(8) == network.POSTGRESQL_SSL_REQUEST


def test_request(port: int) -> None:
    url = f"http://127.0.0.1:{port}/api?max_results=1"
    value = web.request(url, "", {"Authorization": "Bearer x"}, 5)
    assert value["status"] == 200
    assert value["headers"].keys() == {"server", "x-content-type-options"}
    assert value["body"].startswith("/api?max_results=1 Bearer x")
    assert len(value["body"]) == 600
    assert value["host_header"] == f"127.0.0.1:{port}"
    assert web.request(url, "evil", {}, 5)["status"] == 403


@pytest.mark.parametrize(
    ("path", "names", "status", "asked"),
    [
        ("/strict", ["mlflow", "mlflow.ml:80"], 200, "mlflow.ml:80"),
        ("/strict", ["mlflow"], 403, ""),
        ("/strict", [], 403, ""),
        ("/", ["mlflow.ml:80"], 200, ""),
    ],
)
def test_a_name_that_clients_use_is_tried_where_the_address_is_not_allowed(
    port: int, path: str, names: list[str], status: int, asked: str
) -> None:
    item = {"subject": "url", "url": f"http://127.0.0.1:{port}{path}", "host_header": "", "headers": {}, "seconds": 5}
    record = common.Record()
    web.probe(record, {**item, "other_hosts": names})
    found = result_of(record)
    assert (found["status"], found["host_header"]) == (status, asked or f"127.0.0.1:{port}")


def test_a_slow_answer_is_a_time_out(port: int) -> None:
    record = common.Record()
    item = {"subject": "url", "url": f"http://127.0.0.1:{port}/slow", "host_header": "", "headers": {}, "seconds": 0.2}
    web.probe(record, item)
    assert result_of(record)["result"] == "timeout"


def test_own_connections() -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue"
    ours = "   0: 51005B0A:E076 66005A0A:1538 01 00000000:00000000"
    closing = "   1: 51005B0A:E077 66005A0A:1538 06 00000000:00000000"
    others = "   2: 51005B0A:1388 01005B0A:E3F4 01 00000000:00000000"
    assert network.own_connections("\n".join([head, ours, closing, others]), 5432) == 1
    assert network.own_connections("", 5432) == 0


def test_several_connections(port: int, closed_port: int) -> None:
    record = common.Record()
    assert network.tcp(record, "127.0.0.1", port, tries=4)
    assert (result_of(record)["tries"], result_of(record)["failures"]) == (4, [])
    record = common.Record()
    assert not network.tcp(record, "127.0.0.1", closed_port, tries=4)
    assert result_of(record)["result"] == "refused"


def test_some_connections_fail(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = socket.create_connection, iter([True, False, True, False, False])

    def sometimes(address: tuple[str, int], timeout: float) -> socket.socket:
        if next(calls):
            raise ConnectionRefusedError
        return real(address, timeout=timeout)

    monkeypatch.setattr(network.socket, "create_connection", sometimes)
    record = common.Record()
    assert network.tcp(record, "127.0.0.1", port, tries=4)
    assert result_of(record)["failures"] == ["refused", "refused"]
    assert result_of(record)["tries"] == 4
