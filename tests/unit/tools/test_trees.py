# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The trees in which Ansible and ansible-test see the checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tests.tools import trees
from tests.tools.environments import MAIN, ToolError


@pytest.fixture
def checkout(tmp_path: Path, mocker: MockerFixture) -> Path:
    """A git checkout with a tracked, an untracked, an ignored and a deleted file, and dependencies to link to."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name, content in {"tracked": "1", "deleted": "1", ".gitignore": "ignored\n"}.items():
        (root / name).write_text(content)
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=root, check=True, timeout=30)
    (root / "deleted").unlink()
    (root / "ignored").touch()
    (root / "folder").mkdir()
    (root / "folder" / "untracked").touch()
    mocker.patch.object(trees, "REPOSITORY", root)
    mocker.patch.object(trees, "cache_dir", return_value=tmp_path / "cache")
    mocker.patch.object(trees, "collections_of", return_value=tmp_path / "collections")
    return root


def test_files_are_those_that_are_there_and_not_ignored(checkout: Path) -> None:
    assert trees.files() == [".gitignore", "folder/untracked", "tracked"]


def test_without_git_the_person_is_told(tmp_path: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(trees, "REPOSITORY", tmp_path)
    with pytest.raises(ToolError, match="need a git checkout"):
        trees.files()


def test_the_linked_tree_leads_to_the_checkout(checkout: Path) -> None:
    for _again in range(2):
        tree = trees.linked(MAIN)
        assert (tree / trees.OWN / "tracked").samefile(checkout / "tracked")
    assert (tree / "ansible_collections" / "kubernetes").is_symlink()


def test_a_link_to_an_older_place_is_replaced(checkout: Path, tmp_path: Path, mocker: MockerFixture) -> None:
    trees.linked(MAIN)
    mocker.patch.object(trees, "collections_of", return_value=tmp_path / "newer")
    link = trees.linked(MAIN) / "ansible_collections" / "amazon"
    assert link.readlink() == tmp_path / "newer" / "ansible_collections" / "amazon"


def test_the_copy_holds_real_files_and_forgets_removed_ones(checkout: Path) -> None:
    copy = trees.copied(MAIN)
    assert (copy / "folder" / "untracked").is_file()
    assert not (copy / "ignored").exists()
    (checkout / "folder" / "untracked").unlink()
    assert not (trees.copied(MAIN) / "folder").exists()
