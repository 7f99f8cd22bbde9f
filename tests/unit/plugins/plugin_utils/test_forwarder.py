# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener of a dashboard, before a fake way to a fake server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils import forwarder
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.forward_ways import (
    Connection,
    NoWay,
    SocketConnection,
)

ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG = 3_000_000


class FakeWay:
    """Each answer is what a fake pod says to one connection: bytes, or why there is no way to it."""

    def __init__(self, *answers: bytes | NoWay) -> None:
        self.answers = list(answers)
        self.opened = 0
        self.resets = 0
        self.asked: list[bytes] = []

    def open(self) -> Connection:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NoWay):
            raise answer
        self.opened += 1
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve, args=(theirs, answer), daemon=True).start()
        return SocketConnection(ours)

    def _serve(self, link: socket.socket, answer: bytes) -> None:
        self.asked.append(link.recv(65536))
        with contextlib.suppress(OSError):
            link.sendall(answer)
        link.close()

    def reset(self) -> None:
        self.resets += 1

    def stop(self) -> None:
        pass


@contextlib.contextmanager
def listening(way: FakeWay) -> Iterator[socket.socket]:
    """Serve the way, and be a browser that has connected to it."""
    listener = forwarder.Listener(0, way)  # type: ignore[arg-type]
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        with socket.create_connection(("127.0.0.1", listener.server_address[1]), 10) as browser:
            yield browser
    finally:
        listener.shutdown()
        listener.server_close()


def everything(browser: socket.socket) -> bytes:
    heard = b""
    while data := browser.recv(65536):
        heard += data
    return heard


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "PAUSE_SECONDS", 0.01)


def test_a_connection_on_which_nothing_is_asked_does_not_reach_the_fake_pod() -> None:
    way = FakeWay(ANSWER)
    with listening(way) as idle, socket.create_connection(idle.getpeername(), 10) as busy:
        busy.sendall(REQUEST)
        assert everything(busy) == ANSWER
        assert way.opened == 1
        idle.sendall(REQUEST)
        assert everything(idle) == ANSWER
    assert way.asked == [REQUEST, REQUEST]


def test_the_last_bytes_before_the_fake_server_closes_arrive() -> None:
    with listening(FakeWay(ANSWER + b"x" * BIG)) as browser:
        browser.sendall(REQUEST)
        assert len(everything(browser)) == len(ANSWER) + BIG


def test_a_request_waits_for_a_fake_pod_that_comes_back() -> None:
    way = FakeWay(NoWay("no pod of the server is ready"), b"", ANSWER)
    with listening(way) as browser:
        browser.sendall(REQUEST)
        assert everything(browser) == ANSWER
    assert way.resets == 1


def test_a_request_that_may_change_something_is_not_sent_to_a_fake_pod_twice() -> None:
    way = FakeWay(b"")
    with listening(way) as browser:
        browser.sendall(REQUEST.replace(b"GET", b"POST"))
        assert everything(browser) == b""
    assert way.opened == 1


def test_the_browser_is_told_why_the_fake_pod_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "PATIENCE_SECONDS", 0.05)
    with listening(FakeWay(NoWay("no pod of the server is ready"))) as browser:
        browser.sendall(REQUEST)
        heard = everything(browser)
    assert heard.startswith(b"HTTP/1.1 503 ")
    assert b"no pod of the server is ready" in heard


def test_the_listener_is_on_loopback_only() -> None:
    listener = forwarder.Listener(0, FakeWay(ANSWER))  # type: ignore[arg-type]
    try:
        assert listener.server_address[0] == "127.0.0.1"
    finally:
        listener.server_close()
