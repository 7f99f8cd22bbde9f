# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program of the Job: which address it takes, and what keeps it from changing anything; with a fake engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.probes import upgrade


@pytest.mark.parametrize("given", ["$(DB_USER):$(DB_PASSWORD)", "${DB_USER}:$DB_PASSWORD", '"$DB_USER:$(DB_PASSWORD)"'])
def test_the_address_is_made_of_the_environment(given: str) -> None:
    assert upgrade.store_uri({upgrade.STORE: given, "DB_USER": "mlflow", "DB_PASSWORD": "p"}) == "mlflow:p"


def test_without_an_option_the_variable_of_mlflow_counts() -> None:
    assert upgrade.store_uri({"MLFLOW_BACKEND_STORE_URI": "postgresql://db/mlflow"}) == "postgresql://db/mlflow"


def environment() -> dict[str, str]:
    return {upgrade.STORE: "postgresql://db/mlflow", upgrade.FROM: "old", upgrade.TO: "new", upgrade.PATIENCE: "-1"}


@pytest.mark.parametrize(
    ("others", "found", "result"),
    [
        ([(7, "reporting", "report", "10.0.0.1", "idle in transaction", 9)], "old", "sessions"),
        ([], "newer", "moved"),
        ([], "", "moved"),
    ],
)
def test_nothing_is_upgraded_that_is_in_use_or_has_moved_by_a_fake_engine(
    monkeypatch: pytest.MonkeyPatch, others: list[Any], found: str, result: str
) -> None:
    def rows(dummy: Any, statement: str) -> list[Any]:
        return others if statement == upgrade.OTHERS else [(found,)] if found else []

    monkeypatch.setattr(upgrade, "engine_of", lambda uri: None)
    monkeypatch.setattr(upgrade, "rows", rows)
    with pytest.raises(upgrade.Stopped) as stopped:
        upgrade.upgrade(environment())
    assert stopped.value.document["result"] == result


def test_the_last_line_is_for_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(dummy: Any) -> Any:
        raise ValueError("no\nway")

    monkeypatch.setattr(upgrade, "upgrade", fail)
    with pytest.raises(SystemExit) as ended:
        upgrade.main()
    assert ended.value.code == 1
    word, dummy, text = capsys.readouterr().out.strip().partition(" ")
    assert word == upgrade.RESULT
    assert json.loads(text) == {"result": "error", "error": "ValueError: no way"}
