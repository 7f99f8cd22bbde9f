# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata service: nothing without a token, then the node's role."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import identity, metadata


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("metadata")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(str(self.path))


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(metadata.Handler.role, "credentials", lambda: {"Code": "Success"})
    path = tmp_path / "metadata.sock"
    with metadata.Server(str(path), metadata.Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield path
        server.shutdown()
        thread.join()


def ask(path: Path, method: str, place: str, token: str = "") -> tuple[int, str]:
    connection = Connection(path)
    connection.request(method, place, headers={metadata.TOKEN_HEADER: token} if token else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_only_the_owner_of_a_token_gets_the_role(service: Path) -> None:
    assert ask(service, "GET", metadata.CREDENTIALS)[0] == 401
    status, token = ask(service, "PUT", "/latest/api/token")
    assert status == 200
    assert ask(service, "GET", f"{metadata.CREDENTIALS}/", token) == (200, identity.NODE_ROLE)
    document = ask(service, "GET", f"{metadata.CREDENTIALS}/{identity.NODE_ROLE}", token)[1]
    assert json.loads(document) == {"Code": "Success"}
    assert ask(service, "GET", f"{metadata.CREDENTIALS}/other", token)[0] == 404
    assert ask(service, "PUT", "/latest/other")[0] == 404
