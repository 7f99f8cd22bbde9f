# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault that comes back, and one that several servers share: neither is repaired over and over."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import yaml

from tests.lab import clients, operator, servers
from tests.lab.faults import playbooks
from tests.lab.repairs.broken import faulty
from tests.lab.repairs.stage import JUDGED, WITHIN, WRONG, Stage, flat, refused, require

SHARING, AT_A_TIME = 20, 4
START = "start_database"
AT_ONCE = ("-e", "mlflow_cooldown_seconds=0")
OPERATING = "restart,restart_stale_pods,delete_failed_pods,end_idle_session,clear_artifact_cache,start_database,wait"


def comes_back(stage: Stage) -> None:
    """The fault comes back after each repair: first the cooldown, then the budget, then a person."""
    with stage.broken():
        stage.repaired()
        back(stage)
        done = refused(stage, {"attempts"}, stage.plan())
        require("the next one is allowed" in flat(done.output), f"no cooldown is told: {done.output[-800:]}")
        report, done = stage.remediate(stage.plan(), "repair_service", *AT_ONCE)
        require(report["outcome"] == "fixed", f"the second repair ended as {report['outcome']}: {done.output[-800:]}")
        back(stage)
        done = refused(stage, {"attempts"}, stage.plan(), *AT_ONCE)
        require("2 times in 6 hours, the cause came back" in flat(done.output), f"no budget: {done.output[-800:]}")
        require("next, " in flat(done.output), f"nobody's turn is told: {done.output[-800:]}")
        handed_over = stage.other("escalate")
        require(handed_over.code == 0, f"escalate ended with {handed_over.code}: {handed_over.output[-800:]}")


def back(stage: Stage) -> None:
    """Let the fault come back until the client fails."""
    begin = datetime.now(UTC)
    stage.select(WRONG)
    clients.wait(stage.server.name, ok=False, timeout=WITHIN, since=begin)


def shared_database(stage: Stage) -> None:
    """Many servers have one database, and it is stopped: nothing is done to any one of them."""
    with sharing(stage, SHARING - 1) as others, faulty(stage, "database_stopped"):
        stages, begin = [stage, *others], datetime.now(UTC)
        for playbook, variables in (("restart", {}), ("remediate", {"mlflow_allowed_steps": OPERATING})):
            code, output = fleet(playbook, stages, variables)
            said = flat(output).count("is shared by several servers; nothing done to this one helps")
            require(code != 0, f"{playbook} ended with {code}")
            require(playbook != "restart" or said >= SHARING, f"the breaker is told {said} times: {output[-1500:]}")
            for one in stages:
                written = one.written(begin, bookkeeping=False)
                require(not written, f"{playbook} has written to {one.server.name}: {written}")


@contextmanager
def sharing(stage: Stage, number: int) -> Iterator[list[Stage]]:
    """Further servers, small ones, on the database of this one."""
    names = [f"{stage.server.name}-{index + 1}" for index in range(number)]

    def add(name: str) -> Stage:
        instance = stage.server.db_instance_identifier
        server = servers.add(name, db_instance_identifier=instance, workers=1)
        return Stage(server, stage.reports)

    try:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            yield list(pool.map(add, names))
    finally:
        for name in set(names) & set(servers.names()):
            servers.remove(name)


def undo_of_a_start(stage: Stage) -> None:
    """A database that was started is stopped again by undo; nothing else is written."""
    with faulty(stage, "database_stopped_by_schedule") as stopped:
        report, done = stopped.remediate(stopped.plan(START), START)
        require(report["outcome"] == "fixed", f"it ended as {report['outcome']}: {done.output[-1500:]}")
        begin = datetime.now(UTC)
        done = stopped.other("undo")
        require(done.code == 0, f"undo ended with {done.code}: {done.output[-1500:]}")
        clients.wait(stopped.server.name, ok=False, timeout=WITHIN, since=begin)
        require(stopped.attempts() == [(START, JUDGED, "undone")], f"the record is {stopped.attempts()}")
        require(len(stopped.written(begin)) == 1, f"written: {stopped.written(begin)}")


def fleet(playbook: str, stages: list[Stage], variables: dict[str, str]) -> tuple[int, str]:
    """Run a playbook for several servers in one run."""
    hosts = {one.server.name: {"mlflow_namespace": one.server.namespace} for one in stages}
    with tempfile.TemporaryDirectory() as folder:
        inventory = Path(folder) / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}), encoding="utf-8")
        named = {"mlflow_hosts": "all", "mlflow_report_dir": os.fspath(stages[0].reports), **variables}
        words = [part for key, value in named.items() for part in ("-e", f"{key}={value}")]
        done = subprocess.run(
            [playbooks.ansible_playbook(), f"mlops.mlflow_runbook.{playbook}", "-i", os.fspath(inventory), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=playbooks.REPAIRED_WITHIN,
            check=False,
            env=playbooks.environment(operator.FULL),
        )
    return done.returncode, done.stdout
