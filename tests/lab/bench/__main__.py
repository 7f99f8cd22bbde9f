# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.lab.bench``: our diagnosis against the runbooks' commands, on a healthy and on a broken server."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.lab import clients, operator, servers, settings
from tests.lab.bench import contenders, measure, page
from tests.lab.faults import phases, reading
from tests.lab.faults.__main__ import FOLDER
from tests.lab.progress import say
from tests.lab.settings import LabError

OUTPUT = settings.REPOSITORY / "build" / "bench"
CLIENT_SECONDS = 15.0
FURTHER = 4
"""A client that works seldom: what it takes of the processor is not what is measured."""
METRICS_SECONDS = 90.0


@contextmanager
def two_servers(prefix: str, fault_name: str) -> Iterator[dict[str, servers.Server]]:
    """A healthy and a broken server, both with a client; they are removed afterwards."""
    names = {"healthy": f"{prefix}-1", "broken": f"{prefix}-2"}
    fault = reading.read_all(FOLDER, [fault_name])[fault_name]
    try:
        made = {
            state: servers.add(name, fault.server.layout, **fault.server.overrides) for state, name in names.items()
        }
        for server in made.values():
            clients.add(server.name, interval=CLIENT_SECONDS)
            contenders.allow_attach(server)
            clients.wait(server.name, ok=True, timeout=METRICS_SECONDS)
        injection = phases.inject(fault_name, fault, FOLDER, made["broken"])
        seen = phases.prove(fault.symptom, injection)
        if not all(result.holds for result in seen):
            raise LabError(f"{fault_name} does not bite: {seen[-1].text}")
        clients.add(names["broken"], interval=CLIENT_SECONDS)
        yield made
        phases.restore(fault, injection, prove=False)
    finally:
        for name in names.values():
            if name in servers.names():
                servers.remove(name)


def measured(made: dict[str, servers.Server], known: list[contenders.Contender], rounds: int) -> dict[str, Any]:
    """Footprints first, then the rounds: every contender on both servers in turn, another one first each time."""
    results: dict[str, Any] = {state: {one.name: {"tasks": one.tasks} for one in known} for state in made}
    for state, server in made.items():
        for one in known:
            argv, environment = one.command(server)
            log = OUTPUT / "logs" / f"{state}-{one.name}.txt"
            results[state][one.name] |= asdict(measure.footprint(argv, environment, log))
            results[state][one.name] |= {"seconds": [], "processor_seconds": [], "codes": []}
    for number in range(rounds):
        first = number % len(known)
        for state, server in made.items():
            for one in [*known[first:], *known[:first]]:
                argv, environment = one.command(server)
                sample = measure.run(argv, environment, OUTPUT / "logs" / f"{state}-{one.name}.txt")
                row = results[state][one.name]
                row["seconds"].append(sample.seconds)
                row["processor_seconds"].append(sample.processor_seconds)
                row["codes"].append(sample.code)
                say(f"round {number + 1}, {state}: {one.name} {sample.seconds:.1f} s")
    for state in made:
        for row in results[state].values():
            row["median_seconds"] = round(statistics.median(row["seconds"]), 2)
    return results


def each_further(known: Sequence[servers.Server], rounds: int) -> float:
    """Seconds that each further server of a run takes: one run for all less one run for the first, by medians."""
    medians = []
    for fleet in (known[:1], known):
        argv, environment = contenders.fleet(OUTPUT / "fleet", fleet)
        log = OUTPUT / "logs" / f"fleet-{len(fleet)}.txt"
        samples = [measure.run(argv, environment, log) for dummy in range(rounds)]
        if any(sample.code for sample in samples):
            raise LabError(f"a run for {len(fleet)} servers failed; see {log}")
        medians.append(statistics.median(sample.seconds for sample in samples))
        say(f"a run for {len(fleet)} servers: {medians[-1]:.1f} s")
    return round((medians[1] - medians[0]) / (len(known) - 1), 2)


@contextmanager
def more_servers(prefix: str) -> Iterator[list[servers.Server]]:
    """Further healthy servers, as many as the machine holds beside the two."""
    names = [f"{prefix}-{number}" for number in range(3, 3 + FURTHER)]
    try:
        yield [servers.add(name) for name in names]
    finally:
        for name in set(names) & set(servers.names()):
            servers.remove(name)


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """How many times as long as our diagnosis the others take, by medians."""
    ours = results["diagnose"]["median_seconds"]
    return {name: round(row["median_seconds"] / ours, 2) for name, row in results.items() if name != "diagnose"}


def last_reports(reports: Path) -> dict[str, dict[str, Any]]:
    """The last report of each server, by its namespace."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in reports.glob("*/latest.json")]
    return {document["server"]["namespace"]: document for document in documents}


def answer(report: dict[str, Any]) -> dict[str, Any]:
    """What a report answers."""
    verdict = report["verdict"]
    return {"status": verdict["status"], "causes": [cause["id"] for cause in verdict["causes"]]}


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the summary."""
    reports = OUTPUT / "reports"
    operator.prepare(operator.BENCH)
    load = os.getloadavg()[0]
    known = contenders.contenders(reports)
    with two_servers(arguments.servers, arguments.fault) as made:
        results = measured(made, known, arguments.rounds)
        with more_servers(arguments.servers) as more:
            further = each_further([made["healthy"], *more], arguments.rounds)
        found = last_reports(reports)
        last = {state: found[server.namespace] for state, server in made.items()}
    failed = [one for one, row in results["healthy"].items() if any(row["codes"])]
    if failed:
        raise LabError(f"failed on the healthy server: {', '.join(failed)}; see {OUTPUT / 'logs'}")
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rounds": arguments.rounds,
        "fault": arguments.fault,
        "machine": {"processors": os.cpu_count(), "load_before": round(load, 2)},
        "titles": {one.name: one.title for one in known},
        "each_further_server": {"seconds": further, "servers": 1 + FURTHER},
        "ratios": ratios(results["healthy"]),
        "ratios_broken": ratios(results["broken"]),
        "parts": {state: report["seconds"] for state, report in last.items()},
        "answers": {state: answer(report) for state, report in last.items()},
        "servers": results,
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    parser.add_argument("--servers", default="bench", help="prefix of the servers' names")
    parser.add_argument("--fault", default="selector_matches_nothing", help="what is broken in the second server")
    parser.add_argument("--page", action="store_true", help="write table and plot into docs")
    arguments = parser.parse_args()
    try:
        summary = bench(arguments)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    settings.write_text(OUTPUT / "summary.json", json.dumps(summary, indent=1) + "\n")
    print(page.table(summary))
    if arguments.page:
        page.write(summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
