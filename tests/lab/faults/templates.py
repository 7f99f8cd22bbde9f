# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jinja2 templates in the values of a fault file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2

from tests.lab import servers, settings

WHOLE = re.compile(r"^\{\{(?P<expression>(?:(?!\}\}).)*)\}\}$", re.DOTALL)
SAMPLE_DATABASE = {
    "identifier": "sample",
    "database": "mlflow",
    "user": "mlflow",
    "password": "sample",
    "other_password": "sample",
    "endpoint": "sample.aaaaaaaaaa.us-west-2.rds.amazonaws.com",
    "address": "10.90.0.100",
    "port": 5432,
    "security_group_id": "sg-00000000000000000",
    "subnet_group": "sample",
    "vpc_id": "vpc-00000000000000000",
}


class TemplateError(Exception):
    """A template that cannot be rendered, with its place in the file."""


_TEXT = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)


def render(value: Any, variables: Mapping[str, Any]) -> Any:
    """Render every text in ``value``; a text that is one ``{{ expression }}`` becomes what the expression gives.

    Raises TemplateError when a name is unknown.
    """
    if isinstance(value, Mapping):
        return {render(key, variables): render(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [render(item, variables) for item in value]
    if not isinstance(value, str) or "{" not in value:
        return value
    try:
        whole = WHOLE.match(value.strip())
        if whole:
            result = _TEXT.compile_expression(whole["expression"], undefined_to_none=False)(**variables)
            if isinstance(result, jinja2.Undefined):
                str(result)
            return result
        return _TEXT.from_string(value).render(**variables)
    except jinja2.TemplateError as error:
        raise TemplateError(f"{value!r}: {error}") from error


def strings(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text in ``value`` with its place, as ``inject[0].sql.statement``."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from strings(item, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from strings(item, f"{place}[{index}]")
    elif isinstance(value, str):
        yield place, value


def sample() -> dict[str, Any]:
    """Variables as a fault file sees them, of a server that does not exist."""
    chosen = servers.options("sample", "mlflow", {"ingress": "sample"})
    server = servers.Server(
        **chosen.model_dump(),
        name="sample",
        layout="mlflow",
        region=settings.AWS_REGION,
        account_id=settings.AWS_ACCOUNT_ID,
        role_arn="arn:aws:iam::123456789012:role/sample",
        database=SAMPLE_DATABASE,
    )
    return {"server": server.facts()}


def check(content: Any) -> None:
    """Render every text of a fault file for a sample server; TemplateError names the key of the first that fails.

    Registered results are not known yet, so that only templates without them are evaluated.
    """
    registered = {text for place, text in strings(content) if re.search(r"(^|\.)register$", place)}
    variables = sample()
    for place, text in strings(content):
        try:
            names = {name for name in registered if re.search(rf"\b{name}\b", text)}
            if names:
                _TEXT.parse(text)
            else:
                render(text, variables)
        except (TemplateError, jinja2.TemplateError) as error:
            raise TemplateError(f"{place}: {error}") from error
