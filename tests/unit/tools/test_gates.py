# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gate runs when its files changed, is skipped when they did not, and its failure is never forgotten."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tests.tools import gates, trees
from tests.tools.environments import MAIN, Python
from tests.tools.gates import Gate


@pytest.fixture
def checkout(tmp_path: Path, mocker: MockerFixture) -> Path:
    """An empty checkout with a cache of its own and this interpreter as its environment."""
    root = tmp_path / "checkout"
    root.mkdir()
    mocker.patch.object(gates, "REPOSITORY", root)
    mocker.patch.object(gates, "cache_dir", return_value=tmp_path / "cache")
    mocker.patch.object(gates, "lock", return_value=contextlib.nullcontext())
    mocker.patch.object(gates, "collections_of")
    mocker.patch.object(gates, "python_of", return_value=Python(sys.executable, "3.11.0"))
    mocker.patch.object(gates, "variables", return_value={"PATH": str(Path(sys.executable).parent)})
    mocker.patch.object(trees, "linked", return_value=tmp_path)
    mocker.patch.object(
        trees, "files", side_effect=lambda: sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    )
    return root


def counting(tmp_path: Path, code: int = 0) -> Gate:
    """A gate that leaves a mark each time it runs and ends with `code`."""
    program = f"open({str(tmp_path / 'marks')!r}, 'a').write('x'); raise SystemExit({code})"
    return Gate("counting", (sys.executable, "-c", program), ("*.py",))


def marks(tmp_path: Path) -> int:
    path = tmp_path / "marks"
    return len(path.read_text()) if path.exists() else 0


def test_unchanged_files_are_not_checked_again(checkout: Path, tmp_path: Path) -> None:
    (checkout / "a.py").write_text("1")
    gate = counting(tmp_path)
    assert gates.run([gate])
    assert gates.run([gate])
    assert marks(tmp_path) == 1


@pytest.mark.parametrize(("name", "runs"), [("a.py", 2), ("new.py", 2), ("notes.md", 1)])
def test_only_files_that_the_gate_reads_start_it_again(checkout: Path, tmp_path: Path, name: str, runs: int) -> None:
    (checkout / "a.py").write_text("1")
    gate = counting(tmp_path)
    gates.run([gate])
    (checkout / name).write_text("2")
    assert gates.run([gate])
    assert marks(tmp_path) == runs


def test_force_runs_what_has_not_changed(checkout: Path, tmp_path: Path) -> None:
    gate = counting(tmp_path)
    gates.run([gate])
    gates.run([gate], force=True)
    assert marks(tmp_path) == 2


def test_a_failure_is_repeated_and_shown(checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = counting(tmp_path, code=3)
    assert not gates.run([gate])
    assert not gates.run([gate])
    assert marks(tmp_path) == 2
    shown = capsys.readouterr()
    assert "FAILED  counting" in shown.out
    assert "failed: counting" in shown.err


def test_a_gate_that_hangs_is_stopped(checkout: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(gates, "GATE_SECONDS", 0.2)
    assert not gates.run([Gate("hanging", (sys.executable, "-c", "import time; time.sleep(60)"), ("*",))])


def test_own_settings_do_not_reach_a_gate(monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture) -> None:
    mocker.patch.object(gates, "python_of", return_value=Python(sys.executable, "3.11.0"))
    mocker.patch.object(trees, "linked", return_value=Path("tree"))
    monkeypatch.setenv("KUBECONFIG", "somebody's cluster")
    monkeypatch.setenv("AWS_PROFILE", "somebody's account")
    monkeypatch.setenv("ANSIBLE_CONFIG", "somebody's settings")
    monkeypatch.setenv("LANG", "C.UTF-8")
    variables = gates.variables(MAIN)
    assert not {"KUBECONFIG", "AWS_PROFILE", "ANSIBLE_CONFIG"} & set(variables)
    assert variables["LANG"] == "C.UTF-8"
    assert variables["ANSIBLE_COLLECTIONS_PATH"] == "tree"
