# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence of a live run, kept with the verdict that it has to lead to, for the unit tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.lab import settings
from tests.lab.faults import model
from tests.lab.faults.injection import Injection
from tests.lab.settings import LabError

FOLDER = settings.REPOSITORY / "tests" / "evidence"


def keep(fault: str, phase: str, evidence: Path, expected: model.Expectation, injection: Injection) -> Path:
    """Write the evidence of a run and what is expected of it to ``tests/evidence``.

    Raises LabError when the evidence holds the database's password: then redaction has failed.
    """
    text = evidence.read_text(encoding="utf-8")
    if injection.server.database["password"] in text:
        raise LabError(f"{evidence} holds the database's password; it is not kept")
    document = {
        "fault": fault,
        "phase": phase,
        "expected": {"status": expected.status, "causes": [cause.model_dump() for cause in expected.causes]},
        "must_not": expected.must_not,
    }
    path = FOLDER / f"{fault}.json" if phase == "running" else FOLDER / f"{fault}_{phase}.json"
    settings.write_text(path, written(document, json.loads(text)))
    return path


def written(document: dict[str, Any], evidence: list[Any]) -> str:
    """The document as JSON with one piece of evidence a line, so that a change of one is a change of one line."""
    pieces = ",\n  ".join(json.dumps(piece, sort_keys=True) for piece in evidence)
    return f'{json.dumps(document, indent=1)[:-2]},\n "evidence": [\n  {pieces}\n ]\n}}\n'
