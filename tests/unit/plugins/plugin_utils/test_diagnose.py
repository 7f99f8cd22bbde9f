# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a decision is made from: the operator's words, what happened before, and who is at it now."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core import attempts
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.attempts import JUDGED, Attempt
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    API,
    Evidence,
    EvidenceSet,
    State,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.guards import Policy
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.resume import ABANDONED
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.diagnose import attempt_document, policy_of
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.identity import run_name
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import History

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = "2026-01-01T12:00:00Z"
SERVER = {"namespace": "ml", "name": "mlflow", "deployment": "mlflow"}
DONE = Attempt("a", "restart", "x.y", "o", "deployment/mlflow", "d1", AT, "me", state=JUDGED, outcome="fixed")
NEVER = Attempt("b", "restart", "x.y", "o", "deployment/mlflow", "d2", AT, "me", state=JUDGED, outcome=ABANDONED)


def seen(what: str, *items: dict[str, Any], subject: str = "") -> Evidence:
    return Evidence(what, API, subject, AT, State.OK, {"items": list(items)})


def records(*tried: Attempt) -> Evidence:
    data = {attempts.HISTORY_KEY: attempts.write(tried)}
    return seen("kubernetes.configmaps", {"metadata": {"name": "mlflow-runbook-mlflow"}, "data": data}, subject="ml")


def lease(holder: str) -> Evidence:
    renewed = (NOW - attempts.GRACE - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    spec = {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 3600}
    return seen("kubernetes.leases", {"metadata": {"name": "mlflow-runbook-mlflow", "namespace": "ml"}, "spec": spec})


def policy(folder: Path, *evidence: Evidence, me: str = "me", **more: Any) -> Policy:
    return policy_of(Settings(namespace="ml", **more), EvidenceSet(list(evidence)), History(folder), SERVER, NOW, me)


def test_what_the_operator_allowed_is_what_the_guards_get(tmp_path: Path) -> None:
    more: dict[str, Any] = {"attempts": 5, "cooldown_seconds": 60, "quiet_minutes": 3, "approved_plan": "d1"}
    found = policy(tmp_path, allowed_steps=("restart",), **more)
    assert (found.allowed_steps, found.approved_plan, found.most_attempts) == (("restart",), "d1", 5)
    assert (found.cooldown, found.quiet, found.now) == (timedelta(seconds=60), timedelta(minutes=3), NOW)


def test_an_approval_is_used_up_unless_nothing_was_written(tmp_path: Path) -> None:
    history = History(tmp_path)
    for digest in ("d1", "d2", "d3"):
        history.issue(digest, AT)
    history.use("d1", AT)
    history.use("d2", AT)
    found = policy(tmp_path, records(DONE, NEVER))
    assert found.issued == dict.fromkeys(("d1", "d2", "d3"), AT)
    assert found.used == {"d1"}
    assert found.history == (DONE, NEVER)


def test_an_unreadable_history_matters_only_to_what_may_write(tmp_path: Path) -> None:
    assert policy(tmp_path).history_problem == ""
    assert "could not be seen" in policy(tmp_path, writing=True).history_problem
    assert policy(tmp_path, records(), writing=True).history_problem == ""


def test_without_the_leases_the_cluster_s_writes_are_not_known(tmp_path: Path) -> None:
    assert policy(tmp_path).cluster_writes is None
    assert policy(tmp_path, seen("kubernetes.leases")).cluster_writes == ()


def test_a_run_that_has_ended_does_not_hold_the_server(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = run_name("one", child.pid)
    alive = policy(tmp_path, lease(holder)).busy
    mine = policy(tmp_path, lease(holder), me=holder).busy
    child.communicate(b"\n")
    assert holder in alive
    assert mine == ""
    assert policy(tmp_path, lease(holder)).busy == ""
    assert "elsewhere:1:1:one" in policy(tmp_path, lease("elsewhere:1:1:one")).busy


def test_an_attempt_is_reported_without_its_change() -> None:
    assert attempt_document(DONE) == {
        "step": "restart",
        "cause": "x.y",
        "object": "deployment/mlflow",
        "at": AT,
        "state": "judged",
        "outcome": "fixed",
    }
