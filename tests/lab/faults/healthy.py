# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Healthy servers, diagnosed at random moments of what happens to healthy servers: none may get a cause."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.lab import clients, kube, servers, settings
from tests.lab.faults import actions, matrix, model, phases, playbooks, templates
from tests.lab.faults.injection import Injection
from tests.lab.settings import LabError

SITUATIONS = Path(__file__).with_name("situations.yml")
LAYOUTS = ("mlflow", "asgard")
SETTLED_WITHIN = 180.0


class Situation(model.Strict):
    """What happens to a server that is well: actions, then a moment up to ``seconds`` after the last of them."""

    actions: list[model.Action]
    seconds: float = 10.0


@dataclass
class Row:
    """One diagnosis of a healthy server."""

    server: str
    layout: str
    situation: str
    moment: float
    status: str = ""
    causes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Options:
    """How many diagnoses of how many servers at once; ``seed`` 0 takes other moments each time."""

    output: Path
    count: int = 100
    jobs: int = 2
    servers: str = "healthy"
    seed: int = 0


def situations() -> dict[str, Situation]:
    """All situations by name."""
    content = yaml.safe_load(SITUATIONS.read_text(encoding="utf-8"))
    templates.check(content)
    return {name: Situation.model_validate(value) for name, value in content.items()}


def moments(options: Options) -> list[Row]:
    """What is to be tried: every situation about as often as the others, in random order, at random moments."""
    dice = random.Random(options.seed or None)  # noqa: S311
    known = situations()
    names = list(known) * (options.count // len(known) + 1)
    chosen = names[: options.count]
    dice.shuffle(chosen)
    rows = []
    for number, name in enumerate(chosen):
        worker = number % options.jobs
        moment = round(dice.uniform(0, known[name].seconds), 1)
        rows.append(Row(f"{options.servers}-{worker + 1}", LAYOUTS[worker % len(LAYOUTS)], name, moment))
    return rows


def run(options: Options, say: matrix.Say) -> list[Row]:
    """Diagnose, each server in a thread of its own, and write ``summary.json`` and the reports."""
    rows = moments(options)
    names = sorted({row.server for row in rows})
    with matrix.alone(options.servers), ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: _serve(name, [row for row in rows if row.server == name], options, say), names))
    document = {
        "diagnoses": len(rows),
        "without_cause": sum(not row.causes and not row.problem for row in rows),
        "situations": summary(rows),
        "rows": [asdict(row) for row in rows],
    }
    settings.write_text(options.output / "summary.json", json.dumps(document, indent=1) + "\n")
    return rows


def _serve(name: str, rows: Sequence[Row], options: Options, say: matrix.Say) -> None:
    """Go through the moments of one server; what the lab could not do is a problem of the row."""
    try:
        server = servers.add(name, rows[0].layout)
        clients.add(name)
        for row in rows:
            try:
                _diagnose(server, row, options)
            except LabError as error:
                row.problem = str(error)
            say(name, f"{row.situation} after {row.moment} s: {row.status}, {', '.join(row.causes) or 'no cause'}")
    finally:
        if name in servers.names():
            servers.remove(name)


def _diagnose(server: servers.Server, row: Row, options: Options) -> None:
    situation = situations()[row.situation]
    phases.ready(server, SETTLED_WITHIN)
    injection = Injection(row.situation, SITUATIONS.parent, server)
    try:
        actions.perform_all(situation.actions, injection)
        time.sleep(row.moment)
        report, done = playbooks.diagnose(server, options.output / server.name)
        row.seconds = round(done.seconds, 1)
        row.status = report["verdict"]["status"]
        row.causes = [f"{cause['id']} {cause['object']}" for cause in report["verdict"]["causes"]]
    finally:
        actions.undo_all(injection)
        injection.forget()
        kube.wait_ready(server.kind, server.deployment, server.namespace, SETTLED_WITHIN)


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line for each situation, in the order of the file."""
    lines = []
    for name in situations():
        tried = [row for row in rows if row.situation == name]
        if tried:
            lines.append(
                {
                    "situation": name,
                    "diagnoses": len(tried),
                    "without_cause": sum(not row.causes and not row.problem for row in tried),
                    "statuses": dict(sorted(Counter(row.status or "none" for row in tried).items())),
                    "median_seconds": round(statistics.median(row.seconds for row in tried), 1),
                }
            )
    return lines
