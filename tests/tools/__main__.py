# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line of the project's own tools: `python3 -m tests.tools VERB`. The Makefile calls nothing else."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys

from tests.lab.settings import REPOSITORY
from tests.tools import gates, live, trees
from tests.tools.environments import MAIN, ToolError, say

REQUIREMENT_SETS = {
    "requirements-dev": 11,
    "tests/lab/bench/requirements": 11,
    "tests/tools/requirements/oldest": 11,
    "tests/tools/requirements/newest": 12,
}


def check(force: bool, rest: list[str]) -> bool:
    """Every check that needs no lab."""
    return gates.run([*gates.sanity_gates(), *gates.LINT, *gates.unit_gates()], force)


def lint(force: bool, rest: list[str]) -> bool:
    """Linters and the artifact."""
    return gates.run(gates.LINT, force)


def sanity(force: bool, rest: list[str]) -> bool:
    """Sanity tests of ansible-test."""
    return gates.run(gates.sanity_gates(), force)


def units(force: bool, rest: list[str]) -> bool:
    """Unit tests; with arguments for pytest only in the main environment and with its own output."""
    if rest:
        return _call(gates.units(MAIN, rest).command)
    return gates.run(gates.unit_gates(), force)


def coverage(force: bool, rest: list[str]) -> bool:
    """Unit tests of the collection with the share of its lines and branches that they reach."""
    folder = REPOSITORY / "build" / "coverage"
    folder.mkdir(parents=True, exist_ok=True)
    tests = gates.units(MAIN, rest or ["tests/unit/plugins", "tests/unit/replay"]).command
    ran = _call(["coverage", "run", "-m", *tests])
    return _call(["coverage", "report", "--skip-covered"]) and ran


def replay(force: bool, rest: list[str]) -> bool:
    """Judge all recorded evidence again."""
    return _call(gates.units(MAIN, ["tests/unit/replay", *rest]).command)


def test(force: bool, rest: list[str]) -> bool:
    """The checks, then everything that needs the lab."""
    return check(force, rest) and live.run()


def molecule(force: bool, rest: list[str]) -> bool:
    """Scenarios of extensions/molecule in the lab that is up."""
    return live.molecule(*(rest or ["test", "--all"]))


def run(force: bool, rest: list[str]) -> bool:
    """Become the given command, with the tools and the collections of the main environment."""
    os.execvpe(rest[0], rest, gates.variables(MAIN))


def docs(force: bool, rest: list[str]) -> bool:
    """The generated pages in docs, and reference pages of all plugins and roles as reStructuredText in build."""
    pages = ["env", f"PYTHONPATH={trees.linked(MAIN)}", "python", "-m", "tests.tools.pages"]
    if not _call(pages):
        return False
    folder = REPOSITORY / "build" / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    say(f"writing the reference pages to {folder.relative_to(REPOSITORY)}")
    options = "--use-current --squash-hierarchy --fail-on-error --cleanup everything"
    command = ["antsibull-docs", "collection", *options.split(), "--dest-dir", str(folder), "mlops.mlflow_runbook"]
    return _call(command)


def env(force: bool, rest: list[str]) -> bool:
    """Print what a shell needs to use the same tools by hand."""
    wanted = gates.variables(MAIN)
    for name in ("PATH", "ANSIBLE_COLLECTIONS_PATH"):
        print(f"export {name}={shlex.quote(wanted[name])}")
    print(f"export PYTHONPATH={shlex.quote(str(trees.linked(MAIN)))}")
    return True


def requirements(force: bool, rest: list[str]) -> bool:
    """Solve the requirement sets again, with the newest releases."""
    for stem, minor in REQUIREMENT_SETS.items():
        say(f"solving {stem}.in for Python 3.{minor}")
        options = "--quiet --upgrade --no-annotate --no-emit-index-url --no-emit-find-links"
        command = ["uv", "pip", "compile", *options.split(), "--python-version", f"3.{minor}"]
        command += ["--custom-compile-command", "make requirements", f"{stem}.in", "--output-file", f"{stem}.txt"]
        if not _call(command):
            return False
    return True


def _call(command: list[str] | tuple[str, ...]) -> bool:
    return subprocess.run(command, cwd=REPOSITORY, env=gates.variables(MAIN), check=False).returncode == 0


VERBS = {
    verb.__name__: verb
    for verb in (check, coverage, docs, env, lint, molecule, replay, requirements, run, sanity, test, units)
}


def main() -> int:
    """Parse the command line, do the verb, end non-zero when it did not pass."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.tools", description=__doc__)
    parser.add_argument("--force", action="store_true", help="run checks whose files have not changed, too")
    parser.add_argument("verb", choices=sorted(VERBS))
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments for pytest, or the command of `run`")
    arguments = parser.parse_args()
    try:
        return 0 if VERBS[arguments.verb](arguments.force, arguments.rest) else 1
    except ToolError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
