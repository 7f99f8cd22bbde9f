# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live matrix: faults over several servers at once, each injected, proven, diagnosed, compared and taken back."""

from __future__ import annotations

import fcntl
import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.lab import clients, operator, servers, settings
from tests.lab.faults import model, phases, playbooks, records, verdicts, writes
from tests.lab.faults.injection import Injection
from tests.lab.settings import LabError

Say = Callable[[str, str], None]


@dataclass
class Row:
    """One fault in one phase, as ``build/faults/summary.json`` has it."""

    fault: str
    phase: str
    mlflow_faults_id: str | None
    operator: str = operator.FULL.name
    bites: bool = False
    expected: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    status: str = ""
    exact: bool = False
    false_causes: list[str] = field(default_factory=list)
    forbidden_writes: list[str] = field(default_factory=list)
    outcome: str | None = None
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything is as the file expects; an operator who may not see everything need not be exact."""
        exact = self.exact or self.operator != operator.FULL.name
        return self.bites and exact and not (self.false_causes or self.forbidden_writes or self.problems)


@dataclass
class Options:
    """How the matrix is run.

    Attributes:
        folder: folder of the fault files.
        output: folder of the reports and of ``summary.json``.
        jobs: servers at once.
        diagnose: whether the collection is run; without it only injection, symptom and restoration are tried.
        record: whether evidence is kept for the unit tests.
        servers: prefix of the servers' names, so that two runs can share a lab.
        operators: who diagnoses, one after the other while a fault is in; only the usual one repairs and records.
    """

    folder: Path
    output: Path
    jobs: int = 3
    diagnose: bool = True
    record: bool = False
    servers: str = "fault"
    operators: tuple[operator.Operator, ...] = (operator.FULL,)

    def folder_of(self, who: str) -> Path:
        """Folder of an operator's results; the usual one's is ``output`` itself."""
        return self.output if who == operator.FULL.name else self.output.with_name(f"{self.output.name}-{who}")


class Queue:
    """Faults still to be tried; a worker gets one that its present server suits, if there is one."""

    def __init__(self, faults: dict[str, model.Fault]) -> None:
        self._faults = dict(faults)
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Leave nothing to be tried."""
        with self._lock:
            self._faults.clear()

    def take(self, present: model.ServerSpec | None) -> tuple[str, model.Fault] | None:
        """The next fault, None when there is none left."""
        with self._lock:
            suited = [name for name, fault in self._faults.items() if fault.server == present]
            name = next(iter([*suited, *self._faults]), None)
            return None if name is None else (name, self._faults.pop(name))


class Rows:
    """What is known so far; it is on disk after each fault, so that an end of the run loses nothing."""

    def __init__(self, order: list[str], options: Options) -> None:
        self.known: list[Row] = []
        self._order = order
        self._options = options
        self._lock = threading.Lock()

    def add(self, rows: list[Row]) -> None:
        """Take the rows of one fault, and write every operator's ``summary.json``."""
        with self._lock:
            self.known = sorted([*self.known, *rows], key=lambda row: self._order.index(row.fault))
            for who in self._options.operators:
                own = [asdict(row) for row in self.known if row.operator == who.name]
                path = self._options.folder_of(who.name) / "summary.json"
                settings.write_text(path, json.dumps(own, indent=1) + "\n")


@contextmanager
def alone(prefix: str) -> Iterator[None]:
    """Hold the lock of the servers ``<prefix>-<number>``; LabError when another run has it."""
    with (settings.state_dir() / f"{prefix}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(f"another run of faults uses the servers {prefix}-1 and so on; see --servers") from error
        yield


def run(faults: dict[str, model.Fault], options: Options, say: Say) -> list[Row]:
    """Try every fault and return one row for each of its phases, in the order of ``faults``.

    An interruption begins no other fault, and lets those that are in be taken back.
    """
    queue, rows = Queue(faults), Rows(list(faults), options)
    for who in options.operators:
        operator.prepare(who)
    names = [f"{options.servers}-{number + 1}" for number in range(min(options.jobs, len(faults)))]
    with alone(options.servers), ThreadPoolExecutor(len(names)) as pool:
        workers = [pool.submit(_work, name, queue, rows, options, say) for name in names]
        try:
            for worker in workers:
                worker.result()
        except KeyboardInterrupt:
            queue.clear()
            say("faults", "interrupted: taking back what is in")
            raise
    return rows.known


def _work(name: str, queue: Queue, rows: Rows, options: Options, say: Say) -> None:
    present: model.ServerSpec | None = None
    try:
        while taken := queue.take(present):
            fault_name, fault = taken
            # A server that just recovered from another fault is not simply healthy.
            clean = present == fault.server and fault.expect.status != "healthy"
            fault_rows = {phase: _rows(fault_name, fault, phase, options) for phase in fault.phases}
            every = [row for of_phase in fault_rows.values() for row in of_phase]
            try:
                server = servers.get(name) if clean else _fresh(name, fault.server, say)
                present = fault.server
                _try(fault_name, fault, server, fault_rows, options, say)
            except Exception as error:
                _fail(every, error, options.output / fault_name, say)
                present = None
            rows.add(every)
    finally:
        _remove(name)


def _rows(name: str, fault: model.Fault, phase: model.PhaseName, options: Options) -> list[Row]:
    return [Row(name, phase, fault.imitates, who.name) for who in options.operators]


def _fail(rows: list[Row], error: Exception, folder: Path, say: Say) -> None:
    text = str(error).strip() or type(error).__name__
    for row in rows:
        row.problems.append(text)
    settings.write_text(folder / "error.txt", "".join(traceback.format_exception(error)))
    say(rows[0].fault, f"failed: {text[:400]}")


def _remove(name: str) -> None:
    if name in servers.names():
        servers.remove(name)


def _fresh(name: str, spec: model.ServerSpec, say: Say) -> servers.Server:
    started = time.monotonic()
    _remove(name)
    server = servers.add(name, spec.layout, **spec.overrides)
    clients.add(name)
    say(name, f"server with layout {spec.layout} added in {time.monotonic() - started:.1f} s")
    return server


def _try(
    name: str,
    fault: model.Fault,
    server: servers.Server,
    rows: dict[model.PhaseName, list[Row]],
    options: Options,
    say: Say,
) -> None:
    phases.ready(server)
    if options.diagnose and fault.baseline:
        say(name, "diagnosing the healthy server as baseline")
        for who in options.operators:
            playbooks.diagnose(server, options.folder_of(who.name) / name, who)
    say(name, f"injecting into {server.name}")
    injection = phases.inject(name, fault, options.folder, server)
    try:
        for phase_name, of_phase in rows.items():
            phase = fault.phase(phase_name)
            phases.enter(phase_name, phase.inject, injection)
            _phase(phase, of_phase, injection, options, say)
    finally:
        started = time.monotonic()
        phases.restore(fault, injection)
        phases.forget_repairs(server)
        say(name, f"restored, the client logs again after {time.monotonic() - started:.1f} s")


def _phase(phase: model.Phase, rows: list[Row], injection: Injection, options: Options, say: Say) -> None:
    """Prove, let each operator diagnose, and when the file says so, repair; the rows get the results."""
    expected = _rendered(phase.expect, injection)
    started = time.monotonic()
    results = phases.prove(phase.symptom or [], injection)
    seen = results[-1].text
    for row in rows:
        row.expected = verdicts.labels(expected.causes)
        row.bites = all(result.holds for result in results)
        row.exact = row.bites and not options.diagnose
        row.problems += [] if row.bites else [f"does not bite: {seen}"]
    bites = rows[0].bites
    say(rows[0].fault, f"{rows[0].phase}: {'bites' if bites else 'DOES NOT BITE'} after "
        f"{time.monotonic() - started:.1f} s: {seen}")  # fmt: skip
    if not options.diagnose or not bites:
        return
    reports = {row.operator: _diagnose(row, expected, injection, options, say) for row in rows}
    for row in rows:
        if row.operator == operator.FULL.name:
            report, report_dir = reports[row.operator], options.output / row.fault
            try:
                if expected.tempt:
                    _tempt(report, expected, row, injection, report_dir, say)
                if expected.outcome:
                    _repair(report, expected, row, injection, report_dir, say)
            except LabError as error:  # what the other operators found out stands
                row.problems.append(str(error))


def _diagnose(
    row: Row, expected: model.Expectation, injection: Injection, options: Options, say: Say
) -> dict[str, Any]:
    """Let the row's operator diagnose, compare, and return the report."""
    who = operator.named(row.operator)
    report_dir = options.folder_of(who.name) / row.fault
    begin, usual = datetime.now(UTC), who == operator.FULL
    report, done = playbooks.diagnose(injection.server, report_dir, who, expected.error)
    row.seconds = round(done.seconds, 1)
    row.forbidden_writes = writes.forbidden_since(injection.server, begin, [], who)
    comparison = (verdicts.compare if usual else verdicts.compare_restricted)(report, expected)
    row.status = report["verdict"]["status"]
    row.causes, row.false_causes, row.exact = comparison.causes, comparison.false_causes, comparison.exact
    row.problems += [*comparison.problems, *playbooks.leaks(injection.server, report_dir, done)]
    name = row.phase if usual else f"{row.phase}, {who.name}"
    say(row.fault, f"{name}: diagnosed in {row.seconds} s: {row.status}, {', '.join(row.causes) or 'no cause'}")
    if options.record and usual and row.exact and not row.problems:
        records.keep(row.fault, row.phase, playbooks.evidence(report_dir), expected, injection)
    return report


def _rendered(expected: model.Expectation | None, injection: Injection) -> model.Expectation:
    assert expected is not None, "Fault.phase fills it in"
    causes = [injection.rendered(cause) for cause in expected.causes]
    return expected.model_copy(update={"causes": causes})


def _remediate(
    report: dict[str, Any], steps: list[str], expected: model.Expectation, injection: Injection, report_dir: Path
) -> tuple[dict[str, Any], playbooks.Run]:
    """Run ``remediate`` with steps allowed by name and the diagnosis' plan approved; return its report too."""
    variables = {
        "mlflow_allowed_steps": ",".join(steps),
        "mlflow_approved_plan": report["plan"]["digest"],
        **expected.variables,
    }
    known = set(playbooks.reports(report_dir))
    done = playbooks.run("remediate", injection.server, report_dir, variables)
    return playbooks.newest(report_dir, known), done


def _tempt(
    report: dict[str, Any], expected: model.Expectation, row: Row, injection: Injection, report_dir: Path, say: Say
) -> None:
    """Allow every step that would be wrong: each has to be refused, and not even a Lease may be taken for it."""
    begin = datetime.now(UTC)
    tried, done = _remediate(report, expected.forbidden_steps, expected, injection, report_dir)
    row.forbidden_writes += writes.forbidden_since(injection.server, begin, [])
    refused = {step["step"]: step["refused"] for step in tried["plan"]["steps"]}
    told = [f"{name} ({', '.join(item['guard'] for item in refused.get(name, []))})" for name in refused]
    say(row.fault, f"{row.phase}: tempted, ended with {done.code} after {done.seconds:.1f} s: {', '.join(told)}")
    if tried.get("actions") or not done.code:
        row.problems.append(f"did what is forbidden: {tried.get('actions')}")


def _repair(
    report: dict[str, Any],
    expected: model.Expectation,
    row: Row,
    injection: Injection,
    report_dir: Path,
    say: Say,
) -> None:
    """Let the collection repair it with the plan's digest; the client says whether it is."""
    begin, server = datetime.now(UTC), injection.server
    repaired, done = _remediate(report, expected.allowed_steps, expected, injection, report_dir)
    row.forbidden_writes += writes.forbidden_since(server, begin, expected.allowed_steps)
    row.outcome = repaired.get("outcome")
    say(row.fault, f"{row.phase}: remediate ended with {done.code} after {done.seconds:.1f} s: {row.outcome}")
    if row.outcome != expected.outcome:
        row.problems.append(f"outcome is {row.outcome}, not {expected.outcome}: {done.output[-600:]}")
    if expected.outcome == "fixed":
        try:
            clients.wait(server.name, ok=True, timeout=60, rounds=phases.HEALTHY_RUNS)
        except LabError as error:
            row.problems.append(str(error))
