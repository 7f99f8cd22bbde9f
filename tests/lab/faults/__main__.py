# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.lab.faults``: run, check and list fault files."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.lab import operator, settings
from tests.lab.faults import healthy, matrix, model, reading
from tests.lab.settings import LabError

FOLDER = settings.REPOSITORY / "tests" / "faults"
OUTPUT = settings.REPOSITORY / "build" / "faults"
WIDTH = 150
SHOWN = 600


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m tests.lab.faults", description="Faults in live MLflow servers.")
    commands = top.add_subparsers(dest="command", required=True)
    for name, text in (("run", "run faults live"), ("check", "check fault files"), ("list", "list fault files")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--dir", type=Path, default=FOLDER, help="folder of the fault files")
        command.add_argument("--faults", default="", help="names, separated by commas (default: all)")
    run = commands.choices["run"]
    run.add_argument("--jobs", type=int, default=3, help="servers at once")
    run.add_argument("--output", type=Path, help="folder of reports and summary.json (default: in build)")
    run.add_argument("--record", action="store_true", help="keep the evidence in tests/evidence")
    run.add_argument("--servers", default="fault", help="prefix of the servers' names, for two runs in one lab")
    run.add_argument("--no-diagnose", action="store_true", help="only inject, prove and restore")
    run.add_argument(
        "--operator",
        default="full",
        help=f"whose rights the diagnosis has: {', '.join(operator.BY_NAME)}; several with commas, or all",
    )
    well = commands.add_parser("healthy", help="diagnose healthy servers at random moments")
    well.add_argument("--count", type=int, default=100, help="diagnoses")
    well.add_argument("--jobs", type=int, default=2, help="servers at once")
    well.add_argument("--seed", type=int, default=0, help="of the random moments; 0: another each time")
    well.add_argument("--servers", default="healthy", help="prefix of the servers' names")
    well.add_argument("--output", type=Path, default=OUTPUT.with_name("healthy"), help="folder of the results")
    return top


def table(rows: list[matrix.Row]) -> Table:
    """The result as a table."""
    result = Table(title="faults", title_justify="left")
    for heading in ("fault", "phase", "operator", "bites", "exact", "causes", "forbidden writes", "outcome", "s"):
        result.add_column(heading, overflow="fold")
    for row in rows:
        style = "" if row.passed else "bold red"
        cells = [row.fault, row.phase, row.operator, "yes" if row.bites else "NO", "yes" if row.exact else "NO"]
        cells += ["\n".join(row.causes), "\n".join(row.forbidden_writes), row.outcome or "", f"{row.seconds:.1f}"]
        result.add_row(*cells, style=style)
    return result


def run(arguments: argparse.Namespace, faults: dict[str, model.Fault], console: Console) -> int:
    """Run the matrix, print its table, and return the exit code."""
    started = time.monotonic()

    def say(what: str, text: str) -> None:
        console.print(f"{time.monotonic() - started:6.1f} s  {what}: {text}", markup=False, highlight=False)

    options = matrix.Options(
        arguments.dir,
        (arguments.output or OUTPUT).resolve(),
        arguments.jobs,
        not arguments.no_diagnose,
        arguments.record,
        arguments.servers,
        operator.chosen(arguments.operator),
    )
    rows = matrix.run(faults, options, say)
    console.print(table(rows))
    for row in rows:
        for problem in row.problems:
            say(row.fault, f"{row.phase}, {row.operator}: {problem[:SHOWN]}")
    passed = sum(row.passed for row in rows)
    false_causes = sum(len(row.false_causes) for row in rows)
    say("faults", f"{passed} of {len(rows)} as expected, {false_causes} false causes; see {options.output}")
    return 0 if passed == len(rows) else 1


def run_healthy(arguments: argparse.Namespace, console: Console) -> int:
    """Diagnose healthy servers, print the table by situation, and return the exit code."""
    started = time.monotonic()

    def say(what: str, text: str) -> None:
        console.print(f"{time.monotonic() - started:6.1f} s  {what}: {text}", markup=False, highlight=False)

    options = healthy.Options(
        arguments.output.resolve(), arguments.count, arguments.jobs, arguments.servers, arguments.seed
    )
    rows = healthy.run(options, say)
    result = Table(title="healthy servers", title_justify="left")
    for heading in ("situation", "diagnoses", "without a cause", "statuses", "median s"):
        result.add_column(heading)
    for line in healthy.summary(rows):
        statuses = ", ".join(f"{count} {status}" for status, count in line["statuses"].items())
        cells = (line["situation"], line["diagnoses"], line["without_cause"], statuses, line["median_seconds"])
        result.add_row(*(str(cell) for cell in cells))
    console.print(result)
    wrong = [row for row in rows if row.causes or row.problem]
    for row in wrong:
        say(row.server, f"{row.situation}: {', '.join(row.causes) or row.problem}")
    say("healthy", f"{len(rows) - len(wrong)} of {len(rows)} without a cause; see {options.output}")
    return 1 if wrong else 0


def main() -> int:
    """Run the command line."""
    arguments = parser().parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDTH, soft_wrap=not sys.stdout.isatty())
    try:
        if arguments.command == "healthy":
            return run_healthy(arguments, console)
        faults = reading.read_all(arguments.dir, [name for name in arguments.faults.split(",") if name])
        if arguments.command == "run":
            return run(arguments, faults, console)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    for name, fault in faults.items():
        console.print(f"{name}: {fault.title}" if arguments.command == "list" else f"{name}: correct", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
