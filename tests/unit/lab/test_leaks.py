# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The search for leaks finds what it is for; otherwise a run without a hit would prove nothing."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import tarfile
import time
import urllib.parse
from pathlib import Path

import pytest

from tests.lab.leaks import __main__ as leaks
from tests.lab.leaks import planted, search
from tests.lab.leaks.watch import Watch

VALUE = "hunter/@+22&more"


@pytest.mark.parametrize("form", planted.carelessly(VALUE))
def test_every_careless_form_is_found(form: str) -> None:
    hits = search.search({"console": f"before {form} after".encode()}, [VALUE])
    assert len(hits) >= 1
    assert hits[0].startswith("console: hunt… ")
    assert VALUE not in hits[0]


@pytest.mark.parametrize("before", [0, 1, 2])
def test_base64_at_each_place_is_found(before: int) -> None:
    content = base64.b64encode(b"x" * before + VALUE.encode() + b"yz")
    assert any("base64" in hit for hit in search.search({"a": content}, [VALUE]))


def test_every_planted_value_is_found_in_what_is_said() -> None:
    values = planted.make()
    content = "\n".join(planted.said(values)).encode()
    for value in values.values():
        assert search.search({"log": content}, [value]), value


def test_values_are_new_each_time_and_what_is_masked_is_not_found() -> None:
    assert not planted.make().values() & planted.make().values()
    assert search.search({"log": b"planted-here ********"}, planted.make().values()) == []


def test_parts_of_archives_and_their_names_are_searched(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo(f"logs/{urllib.parse.quote(VALUE, safe='')}.log")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    assert search.search(search.files(tmp_path), [VALUE])


def test_the_watch_sees_command_lines_and_temporary_files(tmp_path: Path) -> None:
    program = "import sys, time; open(sys.argv[2], 'w').write('in-a-file'); time.sleep(1)"
    with Watch(tmp_path) as watch:
        child = subprocess.Popen([sys.executable, "-c", program, "in-a-command-line", str(tmp_path / "f")])
        child.wait()
        time.sleep(0.2)
    seen = b"".join(watch.seen.values())
    assert b"in-a-command-line" in seen
    assert b"in-a-file" in seen


def test_a_bundle_without_the_planted_text_proves_nothing() -> None:
    assert len(leaks.unseen({"x.tar.gz:f/logs/a.log": b"nothing"})) == 2 * len(leaks.MARKS) + 1
