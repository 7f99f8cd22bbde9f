# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a page opens, and whose a process is."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.dashboard import (
    Answer,
    api_problem,
    choose_way,
    command_digest,
    file_problem,
    is_same_process,
    page_problem,
    ready_pod,
    static_files,
)

HOST = "127.0.0.1:5000"
PAGE = """<!doctype html><html><head><title>MLflow</title>
<link rel="shortcut icon" href="./static-files/favicon.ico"/><link rel="preconnect" href="https://cdn.example.com"/>
<link rel="canonical" href="./elsewhere"/><link href="./static-files/static/css/main.css?v=1" rel="stylesheet">
<script defer="defer" src="static-files/static/js/main.js"></script><script>inline()</script>
<script src="https://cdn.example.com/x.js"></script></head><body></body></html>"""


def test_the_files_of_a_page_are_those_that_its_own_server_has() -> None:
    assert static_files(PAGE, "http://127.0.0.1:5000/ml/") == [
        "/ml/static-files/favicon.ico",
        "/ml/static-files/static/css/main.css?v=1",
        "/ml/static-files/static/js/main.js",
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(200, PAGE, "text/html"), ""),
        (Answer(200, "<title>Grafana</title>", "text/html"), "not MLflow's"),
        (Answer(404, "Not Found"), "another path"),
        (Answer(403, "Invalid Host header - possible DNS rebinding attack detected"), "Host header 127.0.0.1:5000"),
        (Answer(403, "Permission denied"), "answers 403: Permission denied"),
        (Answer(0, problem="timed out"), "no answer: timed out"),
        (Answer(200, PAGE, "text/html", problem="only 3 bytes"), "not whole: only 3 bytes"),
    ],
)
def test_a_page_opens_only_when_it_is_mlflow_s(answer: Answer, said: str) -> None:
    found = page_problem(answer, "/", HOST)
    assert said in found
    assert bool(found) == bool(said)


def test_a_page_in_place_of_a_script_is_a_missing_script() -> None:
    assert file_problem(Answer(200, "x", "text/javascript", 1), "/a.js", HOST) == ""
    assert "answered with a page" in file_problem(Answer(200, PAGE, "text/html"), "/a.js", HOST)
    assert file_problem(Answer(404), "/a.js", HOST).startswith("static file /a.js answers 404")


def test_the_api_answers_json_and_accepts_the_page_s_origin() -> None:
    assert api_problem(Answer(200, "{}", "application/json"), "/ajax-api", HOST) == ""
    assert "instead of JSON" in api_problem(Answer(200, PAGE, "text/html"), "/ajax-api", HOST)
    blocked = Answer(403, "Cross-origin request blocked")
    assert "--cors-allowed-origins" in api_problem(blocked, "/ajax-api", HOST)


RECORD = {"pid": 7, "started": 1000.0, "digest": command_digest(["python", "x"])}


@pytest.mark.parametrize(
    ("running", "same"),
    [
        ({**RECORD, "ours": True}, True),
        ({**RECORD, "started": 1000.9, "ours": True}, True),
        ({**RECORD, "started": 1010.0, "ours": True}, False),
        ({**RECORD, "digest": command_digest(["python x"]), "ours": True}, False),
        ({**RECORD, "ours": False}, False),
        (None, False),
    ],
)
def test_a_process_is_ours_only_with_the_same_start_and_command(running: dict[str, Any] | None, same: bool) -> None:
    assert is_same_process(RECORD, running) is same


@pytest.mark.parametrize(
    ("asked", "options", "environment", "program", "way"),
    [
        ("auto", {}, {}, "/usr/bin/kubectl", "kubectl"),
        ("auto", {}, {}, "", "api"),
        ("auto", {"kubeconfig": "/k", "context": "c"}, {"K8S_AUTH_CONTEXT": "c"}, "/usr/bin/kubectl", "kubectl"),
        ("auto", {"api_key": "t", "host": "h"}, {}, "/usr/bin/kubectl", "api"),
        ("auto", {}, {"K8S_AUTH_API_KEY": "t"}, "/usr/bin/kubectl", "api"),
        ("api", {}, {}, "/usr/bin/kubectl", "api"),
        ("kubectl", {"api_key": "t"}, {}, "/usr/bin/kubectl", "kubectl"),
    ],
)
def test_kubectl_leads_there_only_without_credentials_on_its_command_line(
    asked: str, options: dict[str, str], environment: dict[str, str], program: str, way: str
) -> None:
    assert choose_way(asked, options, environment, program) == way


def pod(name: str, created: str, ready: str = "True", **metadata: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    return {"metadata": {"name": name, "creationTimestamp": created, **metadata}, "status": {"conditions": conditions}}


def test_the_newest_ready_pod_that_stays_is_taken() -> None:
    old, new = pod("old", "2026-01-01T00:00:00Z"), pod("new", "2026-01-02T00:00:00Z")
    ending = pod("ending", "2026-01-03T00:00:00Z", deletionTimestamp="2026-01-03T01:00:00Z")
    starting = pod("starting", "2026-01-04T00:00:00Z", "False")
    assert ready_pod([old, new, ending, starting]) == "new"
    assert ready_pod([ending, starting, {"metadata": {"name": "pending"}, "status": {}}]) == ""
