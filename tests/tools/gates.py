# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make check` runs: each gate is one command, skipped while the files that it reads are unchanged."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.lab.settings import REPOSITORY, cache_dir
from tests.tools import trees
from tests.tools.environments import (
    MAIN,
    NEWEST,
    OLDEST,
    Environment,
    ansible_test_home,
    collections_of,
    find_python,
    lock,
    python_of,
    say,
)

GATE_SECONDS = 1200
SHOWN_LINES = 80
# Somebody's own settings must not decide whether a check passes.
FOREIGN_VARIABLES = ("ANSIBLE_", "AWS_", "KUBE", "K8S_", "MLFLOW_", "PYTEST_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
CODE = ("*.py", "pyproject.toml", "requirements-dev.txt")
CONTENT = ("galaxy.yml", "meta/*", "plugins/*", "roles/*", "playbooks/*", "extensions/*", "README.md", "changelogs/*")
SANITY = (*CONTENT, "*.txt", "tests/unit/*", "tests/tools/*", "tests/sanity/*", "tests/config.yml", "LICENSE")
# Manifests of several documents and programs for other interpreters: ruff, mypy and yamllint look after these.
NOT_SHIPPED = ("tests/lab/", "tests/faults/", "tests/evidence/")
UNITS = ("plugins/*", "playbooks/*", "roles/*", "tests/*", "meta/*", "pyproject.toml")


@dataclass(frozen=True)
class Gate:
    """One check: `reads` are patterns of the files that decide its result, `copy` wants a real copy to run in."""

    name: str
    command: tuple[str, ...]
    reads: tuple[str, ...]
    environment: Environment = MAIN
    copy: bool = False


# Everything that reads files and runs none of our code.
LINT = (
    Gate("ruff", ("ruff", "check", "--output-format", "concise", "."), CODE),
    Gate("ruff-format", ("ruff", "format", "--check", "--output-format", "concise", "."), CODE),
    Gate("mypy", ("mypy", "-p", "ansible_collections.mlops.mlflow_runbook.plugins", "-p", "tests"), CODE),
    Gate("yamllint", ("yamllint", "--strict", "."), ("*.yml", "*.yaml", ".yamllint")),
    Gate("ansible-lint", ("ansible-lint", "-q"), (*CONTENT, ".ansible-lint", ".yamllint")),
    Gate("docs-lint", ("antsibull-docs", "lint-collection-docs", "--plugin-docs", "."), CONTENT),
    Gate("changelog-lint", ("antsibull-changelog", "lint"), ("changelogs/*", "CHANGELOG.rst", "galaxy.yml")),
    Gate("artifact", ("python", "-m", "tests.tools.artifact"), (*CONTENT, "*.txt", "tests/tools/artifact.py")),
)


def sanity(environment: Environment) -> Gate:
    """ansible-test sanity of the environment's ansible-core."""
    command = ["ansible-test", "sanity", "--color", "no", "--python", python_of(environment).minor]
    present = trees.files()
    for folder in NOT_SHIPPED:
        if any(name.startswith(folder) for name in present):
            command += ["--exclude", folder]
    return Gate(f"sanity-{environment.name}", tuple(command), SANITY, environment, copy=True)


def units(environment: Environment, arguments: Sequence[str] = ()) -> Gate:
    """Unit tests by pytest; the lab's and the tools' own tests need what only the main environment has."""
    command = ["pytest", "-q", "-p", "no:cacheprovider"]
    if environment is MAIN:
        command += ["--ansible-unit-inject-only"]
    else:
        # Plain pytest, without the plug-in that is about to be given up: the linked tree is an ordinary import path.
        command = ["env", f"PYTHONPATH={trees.linked(environment)}", *command]
    if not arguments:
        arguments = ["tests/unit"] if environment is MAIN else ["tests/unit/plugins", "tests/unit/replay"]
        arguments = [path for path in arguments if (REPOSITORY / path).exists()]
    return Gate(f"units-{environment.name}", (*command, *arguments), UNITS, environment)


def sanity_gates() -> list[Gate]:
    """Sanity on the core that we develop with and, where a Python for it is here, on the newest."""
    return [sanity(environment) for environment in (MAIN, NEWEST) if _available(environment)]


def unit_gates() -> list[Gate]:
    """Units on every core that this machine has a Python for."""
    return [units(environment) for environment in (MAIN, OLDEST, NEWEST) if _available(environment)]


def _available(environment: Environment) -> bool:
    if environment is not NEWEST or find_python(*environment.pythons):
        return True
    say(f"no Python 3.{environment.pythons[0]} or newer on this machine: leaving out the newest ansible-core")
    return False


def variables(environment: Environment) -> dict[str, str]:
    """Process environment of a gate."""
    tree = trees.linked(environment)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_VARIABLES)}
    return {
        **kept,
        "PATH": f"{Path(python_of(environment).executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(tree),
        "ANSIBLE_HOME": str(cache_dir() / "ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        "MYPYPATH": f"{tree}{os.pathsep}{REPOSITORY}",
        "MYPY_CACHE_DIR": str(cache_dir() / "mypy" / tree.name),
        "RUFF_CACHE_DIR": str(cache_dir() / "ruff"),
    }


def _fingerprint(gate: Gate) -> str:
    """Digest of the command, its environment and every file that the gate reads."""
    digest = hashlib.sha256(repr((gate.command, python_of(gate.environment).executable)).encode())
    for name in trees.files():
        if any(fnmatch.fnmatch(name, pattern) for pattern in gate.reads):
            path = REPOSITORY / name
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _execute(gate: Gate, log: Path) -> int:
    """Run the gate's command with its output in `log`; all its processes end with it."""
    environment = variables(gate.environment)
    folder = REPOSITORY
    if gate.copy:
        # ansible-test goes by the folder it stands in and wants no other collections path.
        folder = trees.copied(gate.environment)
        environment["HOME"] = str(ansible_test_home(gate.environment))
        del environment["ANSIBLE_COLLECTIONS_PATH"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            gate.command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(GATE_SECONDS)
        except subprocess.TimeoutExpired:
            output.write(f"stopped after {GATE_SECONDS} s\n".encode())
            return 124
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _pass(gate: Gate, force: bool) -> bool:
    with lock(gate.name):
        return _pass_locked(gate, force)


def _pass_locked(gate: Gate, force: bool) -> bool:
    started = time.monotonic()
    stamp = cache_dir() / "stamps" / gate.name
    log = cache_dir() / "logs" / f"{gate.name}.log"
    for path in (stamp, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    fingerprint = _fingerprint(gate)
    if not force and stamp.exists() and stamp.read_text() == fingerprint:
        print(f"  ok      {gate.name:16} unchanged", flush=True)
        return True
    code = _execute(gate, log)
    lines = log.read_text(errors="replace").splitlines()
    seconds = time.monotonic() - started
    if code == 0:
        stamp.write_text(fingerprint)
        summary = lines[-1][:80] if gate.name.startswith("units") and lines else ""
        print(f"  ok      {gate.name:16} {seconds:5.1f} s  {summary}", flush=True)
    else:
        shown = lines if len(lines) <= SHOWN_LINES else [f"... {log}", *lines[-SHOWN_LINES:]]
        print("\n".join([f"  FAILED  {gate.name:16} {seconds:5.1f} s  {' '.join(gate.command)}", *shown]), flush=True)
    return code == 0


def run(gates: Iterable[Gate], force: bool = False) -> bool:
    """Run gates, two at a time on two cores; True when each of them passed."""
    gates = list(gates)
    for environment in {gate.environment for gate in gates}:
        collections_of(environment)
        trees.linked(environment)
    workers = min(len(gates), os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(lambda gate: _pass(gate, force), gates))
    failed = [gate.name for gate, passed in zip(gates, results, strict=True) if not passed]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return not failed
