# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkout where Ansible looks for a collection: as a link, and as a real copy for ansible-test."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.lab.settings import REPOSITORY, cache_dir
from tests.tools.environments import Environment, ToolError, collections_of

OWN = Path("ansible_collections") / "mlops" / "mlflow_runbook"


def files() -> list[str]:
    """Every file of the checkout, also those that git does not know yet, without the ignored ones."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if listing.returncode != 0:
        raise ToolError(f"The checks need a git checkout: {listing.stderr.strip()}")
    names = sorted(set(listing.stdout.split("\0")) - {""})
    return [name for name in names if os.path.lexists(REPOSITORY / name)]


def _folder(kind: str, environment: Environment) -> Path:
    """The checkouts of one user share the cache, so each has folders of its own."""
    checkout = hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:8]
    return cache_dir() / "trees" / f"{checkout}-{kind}-{environment.name}"


def _link_dependencies(tree: Path, environment: Environment) -> None:
    (tree / "ansible_collections").mkdir(parents=True, exist_ok=True)
    for namespace in ("kubernetes", "amazon"):
        _link(tree / "ansible_collections" / namespace, collections_of(environment) / "ansible_collections" / namespace)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    fresh = link.with_name(f"{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


def linked(environment: Environment) -> Path:
    """Folder for ANSIBLE_COLLECTIONS_PATH with links to the checkout and to the collections that it needs."""
    tree = _folder("linked", environment)
    _link_dependencies(tree, environment)
    (tree / OWN).parent.mkdir(exist_ok=True)
    _link(tree / OWN, REPOSITORY)
    return tree


def copied(environment: Environment) -> Path:
    """The collection's folder in a tree of real files, as the checkout is now."""
    tree = _folder("copied", environment)
    _link_dependencies(tree, environment)
    shutil.rmtree(tree / OWN, ignore_errors=True)
    for name in files():
        target = tree / OWN / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, target, follow_symlinks=False)
    return tree / OWN
