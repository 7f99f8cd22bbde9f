# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates of fault files."""

from __future__ import annotations

import pytest

from tests.lab.faults import templates

VARIABLES = {"server": {"name": "one", "labels": {"app": "mlflow"}, "port": 5000}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        (5, 5),
        ("{{ server.port }}", 5000),
        ("{{ server.labels }}", {"app": "mlflow"}),
        ("{{ server.name }}:{{ server.port }}", "one:5000"),
        (["{{ server.name }}", {"k": "{{ server.name | upper }}"}], ["one", {"k": "ONE"}]),
        ("{{ server.labels | tojson }}", '{"app": "mlflow"}'),
    ],
)
def test_rendering_keeps_the_type_of_a_whole_expression(value: object, expected: object) -> None:
    assert templates.render(value, VARIABLES) == expected


@pytest.mark.parametrize("value", ["{{ server.nothing }}", "x {{ nobody }}", "{{ server.name"])
def test_unknown_names_and_bad_syntax_are_errors(value: str) -> None:
    with pytest.raises(templates.TemplateError):
        templates.render(value, VARIABLES)


def test_every_text_is_found_with_its_place() -> None:
    content = {"inject": [{"sql": {"statement": "x"}}], "title": "t"}
    assert list(templates.strings(content)) == [("inject[0].sql.statement", "x"), ("title", "t")]
