# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a piece of evidence says, and the part of it that a doubter wants to see."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence, EvidenceSet, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.plain import MOST_CHARACTERS, harmless, visible
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.observed.proof import (
    MOST_LINES,
    MOST_PROOFS,
    excerpt,
    proofs,
    statement,
)

AT = "2026-01-01T12:00:00Z"


def seen(what: str, value: Any, state: State = State.OK, detail: str = "") -> Evidence:
    return Evidence(what, "pod", "x", AT, state, value, detail)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (seen("probe.tcp", {"result": "timeout", "seconds": 5.02}), "no answer within 5.0 s"),
        (seen("probe.tcp", {"result": "refused", "error": "[Errno 111]"}), "connection refused"),
        (seen("probe.http", {"result": "ok", "status": 503, "seconds": 0.25}), "status 503 in 0.25 s"),
        (
            seen("probe.s3_list", {"result": "denied", "code": "AccessDenied", "operation": "ListObjectsV2"}),
            "AccessDenied on ListObjectsV2",
        ),
        (seen("probe.login", {"result": "denied", "error": "FATAL:\n  no"}), "FATAL: no"),
        (seen("kubernetes.pod_log", {"lines": [{}, {}]}, State.PARTIAL), "2 lines of log (incomplete)"),
        (seen("kubernetes.pods", {"items": []}), "none"),
        (seen("kubernetes.secrets", None, State.FORBIDDEN, "get secrets"), "not permitted: get secrets"),
        (seen("kubernetes.services", None, State.ABSENT), "does not exist"),
        (seen("aws.db_instance", {"DBInstanceStatus": "stopped"}), "stopped"),
    ],
)
def test_what_it_says(item: Evidence, said: str) -> None:
    assert statement(item) == said


def test_an_excerpt_shows_the_object_that_it_is_about() -> None:
    pods = [
        {"metadata": {"name": name, "uid": "1"}, "spec": {"image": "i"}, "status": {"phase": "Running"}}
        for name in "ab"
    ]
    assert excerpt(seen("kubernetes.pods", {"items": pods}), ["pod/b"]).splitlines() == [
        "items:",
        "  - metadata:",
        "      name: b",
        "    status:",
        "      phase: Running",
        "    spec:",
        "      image: i",
    ]


def test_an_excerpt_of_a_log_shows_the_error() -> None:
    error = 'connection to server at "db" (10.0.0.9), port 5432 failed: Connection refused'
    lines = [{"at": AT, "text": text} for text in ("all is well", error, *["noise"] * 50)]
    assert excerpt(seen("kubernetes.pod_log", {"lines": lines}), []) == f"{AT} {error}"


def test_excerpts_are_short() -> None:
    rows = excerpt(seen("aws.role", {str(number): number for number in range(500)}), []).splitlines()
    assert len(rows) == MOST_LINES + 1
    assert rows[-1] == f"… {500 - MOST_LINES} more lines"


def test_only_cited_evidence_is_shown_and_not_too_much() -> None:
    items = [Evidence("probe.tcp", "pod", str(number), AT, State.OK, {"result": "ok"}) for number in range(50)]
    wanted = {item.key: ["x"] for item in items[1:]}
    found = proofs(EvidenceSet(items), wanted)
    assert len(found) == MOST_PROOFS
    assert found[0]["key"] == "probe.tcp@pod/1"


def test_hidden_characters_are_spelled() -> None:
    assert visible("a\u202eb\x1b[2J\x00") == "a\\u202eb\\u001b[2J\\u0000"
    assert visible("Zürich → 東京\n\t") == "Zürich → 東京\n\t"
    assert visible("x" * (MOST_CHARACTERS + 5)).endswith("x … (5 more characters)")
    assert harmless({"a\x07": ["\u2066", 1, None, True]}) == {"a\\u0007": ["\\u2066", 1, None, True]}
