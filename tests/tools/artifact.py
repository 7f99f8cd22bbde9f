# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the Galaxy artifact, installs it into an empty folder and asks Ansible what it finds there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.lab.settings import REPOSITORY

COLLECTION = "mlops.mlflow_runbook"
# What a user of the collection never needs: it stays out of the artifact.
FOREIGN = ("tests/", "build/", "extensions/molecule/", "docs/screenshots/", "Makefile", "requirements-dev", ".")
COMMAND_SECONDS = 120


def _run(*argv: str, collections: str | None = None) -> str:
    environment = dict(os.environ)
    if collections:
        environment["ANSIBLE_COLLECTIONS_PATH"] = collections
        environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        argv, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path) -> Path:
    """Build the artifact into `folder` and return its path; it must hold nothing of the lab."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("ansible-galaxy", "collection", "build", "--force", "--output-path", str(folder))
    artifact = max(folder.glob(f"{COLLECTION.replace('.', '-')}-*.tar.gz"), key=lambda path: path.stat().st_mtime)
    with tarfile.open(artifact) as archive:
        foreign = [name for name in archive.getnames() if name.startswith(FOREIGN)]
    if foreign:
        raise SystemExit(f"{artifact.name} holds what does not belong there: {', '.join(foreign[:10])}")
    return artifact


def check(artifact: Path, folder: Path) -> None:
    """Install the artifact beside its dependencies; every playbook must be found by its full name and parse."""
    linked = Path(os.environ["ANSIBLE_COLLECTIONS_PATH"])
    options = ("--offline", "--no-deps", "--force", "-p", str(folder))  # without force the linked tree is enough for it
    _run("ansible-galaxy", "collection", "install", *options, str(artifact))
    for namespace in ("amazon", "kubernetes"):
        (folder / "ansible_collections" / namespace).symlink_to(linked / "ansible_collections" / namespace)
    playbooks = sorted((folder / "ansible_collections/mlops/mlflow_runbook/playbooks").glob("*.yml"))
    if not playbooks:
        raise SystemExit(f"{artifact.name} installs no playbook")
    for playbook in playbooks:
        _run("ansible-playbook", "--syntax-check", f"{COLLECTION}.{playbook.stem}", collections=str(folder))
    print(f"{artifact.name}: {len(playbooks)} playbooks parse")


def main() -> None:
    """With a folder: build there. Without: build and check in a temporary folder."""
    if len(sys.argv) > 1:
        print(build(Path(sys.argv[1])))
        return
    with tempfile.TemporaryDirectory() as temporary:
        check(build(Path(temporary, "built")), Path(temporary, "installed"))


if __name__ == "__main__":
    main()
