# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening the page of a fake server, in the ways in which a page does not open."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils import page_visit

Answers = Mapping[str, tuple[int, str, bytes]]
PAGE = b'<title>MLflow</title><script src="static-files/main.js"></script>'
HEALTHY: Answers = {
    "/ml/": (200, "text/html; charset=utf-8", PAGE),
    "/ml/static-files/main.js": (200, "text/javascript", b"x" * 2_000_000),
    "/ml/health": (200, "text/html; charset=utf-8", b"OK"),
    "/ml/ajax-api/2.0/mlflow/experiments/search": (200, "application/json", b"{}"),
}
REJECTED = (403, "text/plain", b"Invalid Host header - possible DNS rebinding attack detected")


@contextlib.contextmanager
def fake_server(answers: Answers, log: list[dict[str, str]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            log.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
            status, kind, body = answers.get(self.path, (404, "text/html", b"Not Found"))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # the name is the base class's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/ml/"
    finally:
        server.shutdown()
        server.server_close()


def test_a_page_of_a_fake_server_opens_with_everything_that_it_needs() -> None:
    log: list[dict[str, str]] = []
    with fake_server(HEALTHY, log) as address:
        seen = page_visit.visit(address, {"Authorization": "Bearer t"})
    assert (seen.problem, seen.files, seen.size) == ("", 1, len(PAGE) + 2_000_000)
    assert [item["path"] for item in log] == list(HEALTHY)
    origin = address.removesuffix("/ml/")
    assert {item["host"] for item in log} == {origin.removeprefix("http://")}
    assert log[-1]["origin"] == origin
    assert {item["authorization"] for item in log} == {"Bearer t"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"/ml/": (404, "text/html", b"")}, "another path"),
        ({"/ml/": REJECTED}, "does not accept the Host header 127.0.0.1:"),
        ({"/ml/": (200, "text/html", b"<title>MLflow</title>")}, "names no static file"),
        ({"/ml/static-files/main.js": (404, "text/html", b"")}, "static file /ml/static-files/main.js answers 404"),
        ({"/ml/static-files/main.js": (200, "text/html", PAGE)}, "answered with a page"),
        ({"/ml/health": (500, "text/html", b"no")}, "/ml/health answers 500"),
        ({"/ml/ajax-api/2.0/mlflow/experiments/search": (503, "text/html", b"database")}, "answers 503: database"),
    ],
)
def test_a_fake_server_s_page_does_not_open_for_a_reason(changed: Answers, said: str) -> None:
    with fake_server({**HEALTHY, **changed}, []) as address:
        assert said in page_visit.visit(address, {}).problem


def test_a_fake_server_that_wants_a_login_is_not_called_proved() -> None:
    with fake_server({"/ml/": (401, "text/html", b"")}, []) as address:
        asked, refused = page_visit.visit(address, {}), page_visit.visit(address, {"Authorization": "Basic eA=="})
    assert asked.login
    assert "not looked at" in asked.proof
    assert "answers 401" in refused.problem


def test_nobody_there_may_be_a_moment_too_early() -> None:
    with fake_server(HEALTHY, []) as address:
        pass
    seen = page_visit.visit(address, {})
    assert seen.transient
    assert "no answer" in seen.problem
