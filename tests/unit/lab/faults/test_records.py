# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How recorded evidence is written."""

from __future__ import annotations

import json

from tests.lab.faults import records


def test_one_piece_of_evidence_a_line() -> None:
    document = {"fault": "x", "expected": {"causes": []}}
    text = records.written(document, [{"b": 1, "a": [2]}, {"c": None}])
    assert json.loads(text) == {**document, "evidence": [{"a": [2], "b": 1}, {"c": None}]}
    assert '  {"a": [2], "b": 1},\n' in text
