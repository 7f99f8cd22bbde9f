# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way through kubectl, with a fake kubectl."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.forward_ways import KubectlWay, NoWay

FAKE = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(f"Forwarding from 127.0.0.1:{listener.getsockname()[1]} -> 5000", flush=True)
while True:
    link, dummy = listener.accept()
    print("Handling connection for 5000", flush=True)
    asked = link.recv(100)
    if asked == b"lose":
        print("error: lost connection to pod", file=sys.stderr, flush=True)
        asked = link.recv(100)
    print("E1127 portforward.go:1] error copying from local connection: reset by peer", file=sys.stderr, flush=True)
    link.sendall(b"answer to " + asked)
    link.close()
"""


def way(tmp_path: Path, program: str, told: list[int], said: list[str]) -> KubectlWay:
    path = tmp_path / "fake_kubectl.py"
    path.write_text(program, encoding="utf-8")
    return KubectlWay([sys.executable, str(path)], told.append, said.append)


def ask(through: KubectlWay, text: bytes) -> bytes:
    connection = through.open()
    try:
        connection.send(text)
        return connection.receive()
    finally:
        connection.end()
        connection.close()


def test_one_fake_kubectl_serves_all_connections(tmp_path: Path) -> None:
    told: list[int] = []
    through = way(tmp_path, FAKE, told, [])
    try:
        assert [ask(through, b"a"), ask(through, b"b")] == [b"answer to a", b"answer to b"]
        assert len(told) == 1
    finally:
        through.stop()


def test_a_fake_kubectl_that_lost_its_pod_is_replaced(tmp_path: Path) -> None:
    told: list[int] = []
    said: list[str] = []
    through = way(tmp_path, FAKE, told, said)
    try:
        assert ask(through, b"lose") == b""
        assert "error: lost connection to pod" in said
        assert ask(through, b"again") == b"answer to again"
        assert len(told) == 2
    finally:
        through.stop()


def test_a_fake_kubectl_that_cannot_begin_says_why(tmp_path: Path) -> None:
    told: list[int] = []
    through = way(tmp_path, "import sys; sys.exit('error: pods is forbidden')", told, [])
    with pytest.raises(NoWay, match="pods is forbidden"):
        through.open()
    assert told == []
