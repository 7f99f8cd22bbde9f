# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual environments and the collections that belong to them, kept in the cache folder and keyed by content."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.settings import REPOSITORY, cache_dir

REQUIREMENTS = REPOSITORY / "tests" / "tools" / "requirements"
INSTALL_SECONDS = 1200
DEPENDENCIES = ("ansible_collections/kubernetes/core/", "ansible_collections/amazon/aws/")


class ToolError(Exception):
    """What is missing, in one sentence for the person at the keyboard."""


@dataclass(frozen=True)
class Environment:
    """One solved set of packages.

    `pythons` are the lowest and the highest minor version of Python 3 that its ansible-core runs on; `ansible` is the
    release of the `ansible` wheel whose collections fit that core: the collections are on no package index by
    themselves. `get_pip` is the bootstrap file that ansible-test of that core looks for.
    """

    name: str
    requirements: Path
    pythons: tuple[int, int]
    ansible: str
    get_pip: str


MAIN = Environment("main", REPOSITORY / "requirements-dev.txt", (11, 13), "12.3.0", "get_pip_24_2.py")
OLDEST = Environment("oldest", REQUIREMENTS / "oldest.txt", (11, 13), "11.13.0", "get_pip_24_2.py")
NEWEST = Environment("newest", REQUIREMENTS / "newest.txt", (12, 14), "14.5.0", "get_pip_25_2.py")


@dataclass(frozen=True)
class Python:
    """An interpreter that was seen to run."""

    executable: str
    version: str

    @property
    def minor(self) -> str:
        """Version as ansible-test wants it, for example `3.11`."""
        return ".".join(self.version.split(".")[:2])


def say(message: str) -> None:
    """One line of progress, on the error stream: what a verb prints may be read by a shell."""
    print(f"==> {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Two runs at once must not build the same thing."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _candidates(minor: int) -> list[str]:
    """Interpreters of one minor version: on the PATH first, then those of pyenv that its shims refuse to run."""
    on_path = shutil.which(f"python3.{minor}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    return ([on_path] if on_path else []) + [str(path) for path in sorted(pyenv.glob(f"3.{minor}.*/bin/python"))]


@functools.cache
def find_python(lowest: int, highest: int) -> Python | None:
    """The first interpreter between two minor versions that really runs and can make virtual environments."""
    question = "import ensurepip, ssl, sys, venv; print(sys.executable, '.'.join(map(str, sys.version_info[:3])))"
    for minor in range(lowest, highest + 1):
        for candidate in _candidates(minor):
            answer = subprocess.run(
                [candidate, "-c", question], capture_output=True, text=True, timeout=30, check=False
            )
            if answer.returncode == 0:
                executable, version = answer.stdout.rsplit(maxsplit=1)
                return Python(executable.strip(), version)
    return None


def _required_python(environment: Environment) -> Python:
    lowest, highest = environment.pythons
    python = find_python(lowest, highest)
    if python is None and os.geteuid() == 0 and shutil.which("apt-get"):
        say("Python with venv is missing: installing the Debian packages python3 and python3-venv")
        failure = "The Debian packages could not be installed"
        _run(["apt-get", "--quiet", "update"], failure)
        _run(["apt-get", "--quiet", "--yes", "--no-install-recommends", "install", "python3", "python3-venv"], failure)
        find_python.cache_clear()
        python = find_python(lowest, highest)
    if python is None:
        raise ToolError(f"A Python between 3.{lowest} and 3.{highest} with the venv module is needed, none was found.")
    return python


@functools.cache
def python_of(environment: Environment) -> Python:
    """The interpreter of the ready virtual environment; it is made first when its requirements have changed."""
    base = _required_python(environment)
    content = base.version.encode() + b"\0" + environment.requirements.read_bytes()
    folder = cache_dir() / f"venv-{environment.name}-{hashlib.sha256(content).hexdigest()[:12]}"
    python = Python(str(folder / "bin" / "python"), base.version)
    with lock(folder.name):
        if not (folder / ".complete").exists():
            _make_venv(base, folder, environment.requirements)
    return python


def _make_venv(base: Python, folder: Path, requirements: Path) -> None:
    started = time.monotonic()
    packages = sum(1 for line in requirements.read_text().splitlines() if line and not line.startswith("#"))
    say(f"Python {base.version}: installing {packages} packages from {requirements.name} (once, about a minute)")
    shutil.rmtree(folder, ignore_errors=True)
    python = str(folder / "bin" / "python")
    for argv in (
        [base.executable, "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(requirements)],
        # pip obeys PYTHONDONTWRITEBYTECODE in places, and uncompiled clients take four times as long to import.
        [python, "-m", "compileall", "-q", "-j", "0", str(_site_packages(folder, base))],
    ):
        _run(argv, "The virtual environment could not be made")
    (folder / ".complete").touch()
    say(f"Python {base.version}: ready after {time.monotonic() - started:.0f} s")


def _site_packages(folder: Path, base: Python) -> Path:
    """Where pip puts the packages of a virtual environment."""
    return folder / "lib" / f"python{base.minor}" / "site-packages"


def _run(argv: list[str], failure: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode != 0:
        raise ToolError(f"{failure}: {(done.stderr or done.stdout).strip()[-2000:]}")


@functools.cache
def collections_of(environment: Environment) -> Path:
    """Folder that holds `ansible_collections` with kubernetes.core and amazon.aws as they fit the core."""
    folder = cache_dir() / f"collections-{environment.ansible}"
    python = python_of(environment)
    with lock(folder.name):
        if not (folder / ".complete").exists():
            say(f"taking kubernetes.core and amazon.aws out of ansible {environment.ansible} (54 MB, once)")
            shutil.rmtree(folder, ignore_errors=True)
            download = folder / "wheel"
            pip = [python.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(download)]
            _run([*pip, f"ansible=={environment.ansible}"], "The collections could not be fetched")
            with zipfile.ZipFile(next(download.glob("*.whl"))) as wheel:
                wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(DEPENDENCIES)])
            shutil.rmtree(download)
            _run([python.executable, "-m", "compileall", "-q", str(folder)], "The collections could not be compiled")
            (folder / ".complete").touch()
    return folder


def ansible_test_home(environment: Environment) -> Path:
    """A home folder for ansible-test: its environments and the pip bootstrap stay out of the user's own."""
    home = cache_dir() / "ansible-test"
    shim = home / ".ansible" / "test" / "cache" / environment.get_pip
    shim.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(REPOSITORY / "tests" / "tools" / "get_pip_shim.py", shim)
    return home
