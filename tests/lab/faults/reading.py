# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fault files read, and their errors told by key."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from tests.lab.faults import model, templates
from tests.lab.settings import LabError


def _place(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def explain(error: ValidationError) -> str:
    """The errors of a file, one a line: key, value, expectation."""
    lines = []
    for one in error.errors():
        expectation = "unknown key" if one["type"] == "extra_forbidden" else one["msg"].removeprefix("Value error, ")
        value = repr(one["input"])
        shown = value if len(value) <= 80 else f"{value[:77]}..."
        missing = one["type"] == "missing"
        lines.append(f"{_place(one['loc'])}: {expectation}{'' if missing else f', not {shown}'}")
    return "\n".join(lines)


def read(path: Path) -> model.Fault:
    """Read a fault file; LabError names the file, the key, its value and what is expected."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        fault = model.Fault.model_validate(content)
        templates.check(content)
    except yaml.YAMLError as error:
        raise LabError(f"{path}: {error}") from error
    except ValidationError as error:
        raise LabError("\n".join(f"{path}: {line}" for line in explain(error).splitlines())) from error
    except templates.TemplateError as error:
        raise LabError(f"{path}: {error}") from error
    return fault


def read_all(folder: Path, names: list[str] | None = None) -> dict[str, model.Fault]:
    """Read the fault files ``<name>.yml`` of a folder, all or those named; the first error ends it."""
    found = {path.stem: path for path in sorted(folder.glob("*.yml"))}
    unknown = [name for name in names or [] if name not in found]
    if unknown:
        raise LabError(f"{folder} has no fault {', '.join(unknown)}; it has: {', '.join(found) or 'none'}")
    return {name: read(found[name]) for name in names or found}
