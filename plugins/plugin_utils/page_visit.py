# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens MLflow's page as a browser does: the page, the files that it names, its first API call."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.dashboard import (
    API,
    TRANSIENT,
    Answer,
    api_problem,
    file_problem,
    page_problem,
    refusal,
    static_files,
)

ANSWER_SECONDS = 15.0
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 1.0
KEPT_CHARACTERS = 1_000_000
LOGIN = 401
SEARCH = b'{"max_results": 1}'


@dataclass
class Visit:
    """What opening a page showed.

    Attributes:
        address: its URL.
        problem: why it does not open; empty when it does.
        files: how many static files it names.
        size: bytes of the page and its files.
        login: whether the server asks for a login that we were not given, so that nothing behind it was seen.
        transient: whether the same may work a moment later.
    """

    address: str
    problem: str = ""
    files: int = 0
    size: int = 0
    login: bool = False
    transient: bool = field(default=False, repr=False)

    @property
    def proof(self) -> str:
        if self.login:
            return "the server asks for a login (401); what comes behind it was not looked at"
        return f"<title>MLflow</title>, {self.files} static files ({self.size / 1e6:.1f} MB), experiments/search 200"


def ask(
    address: str, path: str, headers: Mapping[str, str], *, method: str = "GET", body: bytes | None = None
) -> Answer:
    """Make one HTTP request on a connection of its own; errors are answers, too.

    Args:
        address: URL whose scheme and host are used; its host becomes the Host header.
        path: what is asked for.
        headers: further headers.
        method: HTTP method.
        body: content of a POST.
    """
    parts = urllib.parse.urlsplit(address)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=ANSWER_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        content = response.read()
    except http.client.IncompleteRead as failure:
        return Answer(response.status, problem=f"only {len(failure.partial)} bytes of it arrived")
    except (OSError, http.client.HTTPException) as failure:
        return Answer(0, problem=str(failure) or type(failure).__name__)
    finally:
        connection.close()
    kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    return Answer(response.status, content[:KEPT_CHARACTERS].decode("utf-8", "replace"), kind, len(content))


def visit(address: str, headers: Mapping[str, str]) -> Visit:
    """Open a page and everything that it needs.

    Args:
        address: URL of the page, with a slash at its end.
        headers: what logs in.
    """
    parts = urllib.parse.urlsplit(address)
    host, path = parts.netloc, parts.path
    found = Visit(address)

    def problem(answer: Answer, text: str) -> Visit:
        found.problem, found.transient = text, answer.status in TRANSIENT
        return found

    page = ask(address, path, headers)
    if page.status == LOGIN and not headers:
        found.login = True
        return found
    if wrong := page_problem(page, path, host):
        return problem(page, wrong)
    found.size = page.size
    for name in static_files(page.body, address):
        answer = ask(address, name, headers)
        if wrong := file_problem(answer, name, host):
            return problem(answer, wrong)
        found.files += 1
        found.size += answer.size
    if not found.files:
        return problem(page, f"{path} answers 200, but its page names no static file")
    health = ask(address, path + "health", headers)
    if wrong := refusal(health, path + "health", host):
        return problem(health, wrong)
    called = path.rstrip("/") + API
    sent = {**headers, "Content-Type": "application/json", "Origin": f"{parts.scheme}://{host}"}
    answer = ask(address, called, sent, method="POST", body=SEARCH)
    if wrong := api_problem(answer, called, host):
        return problem(answer, wrong)
    return found


def visit_patiently(address: str, headers: Mapping[str, str], seconds: float = PATIENCE_SECONDS) -> Visit:
    """Open a page, again while it may only be a moment too early."""
    end = time.monotonic() + seconds
    while True:
        found = visit(address, headers)
        if not found.transient or time.monotonic() >= end:
            return found
        time.sleep(PAUSE_SECONDS)
