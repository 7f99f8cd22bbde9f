# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import build, settings
from tests.lab.settings import LabError


def test_digest_tells_apart_lists_that_join_to_the_same_text() -> None:
    assert build.digest(["ab", "c"]) != build.digest(["a", "bc"])
    assert build.digest(["ab", b"c"]) == build.digest([b"ab", "c"])


def test_a_part_is_made_once() -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("x", encoding="utf-8")

    first = build.cached("part", "0" * 20, make)
    assert build.cached("part", "0" * 20, make) == first
    assert len(made) == 1
    assert (first / "file").read_text(encoding="utf-8") == "x"


def test_a_part_that_could_not_be_made_is_not_there() -> None:
    def fail(_folder: Path) -> None:
        raise LabError("no network")

    with pytest.raises(LabError):
        build.cached("part", "0" * 20, fail)
    assert not build.cached_path("part", "0" * 20).exists()


def test_old_versions_go_and_other_parts_stay() -> None:
    for number in range(4):
        build.cached("part", f"{number:020x}", lambda folder: None)
    build.cached("part-two", "0" * 20, lambda folder: None)
    kept = sorted(path.name for path in (settings.cache_dir() / "parts").glob("part-*"))
    assert len(kept) == build.KEPT_VERSIONS + 1
    assert f"part-{3:020x}" in kept


def test_the_key_of_a_program_follows_its_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "GO_SOURCES", tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "go.mod").write_text("module one", encoding="utf-8")
    binary = build.GoBinary("one", "one", ".")
    before = binary.key()
    (tmp_path / "one" / "notes.txt").write_text("not a source", encoding="utf-8")
    assert binary.key() == before
    (tmp_path / "one" / "go.sum").write_text("x", encoding="utf-8")
    assert binary.key() != before
    assert build.GoBinary("one", "one", ".", ldflags="-s").key() != binary.key()
