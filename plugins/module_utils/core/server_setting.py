# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the server's container is started, and how one of its settings is changed where it stands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from .discovery import commands_of
from .kubernetes_patch import MISSING, Edit, edit
from .server_command import DEFAULT_WORKERS, ENVIRONMENT_NAMES, SHELLS, ServerCommand
from .step import Situation
from .workload import workload

JOB_EXECUTION = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
OFF = frozenset({"false", "0", "f", "no"})
JOBS_SINCE = (3, 9)
"""Job execution is on by default since MLflow 3.9 (field guide section 2.1)."""


class NotEditable(Exception):
    """A setting stands where it cannot be changed field by field; says where."""


def target_name(situation: Situation) -> str:
    return f"{situation.target.kind.lower()}/{situation.target.deployment}"


def container_index(found: Mapping[str, Any] | None, name: str) -> int | None:
    containers = found["spec"]["template"]["spec"]["containers"] if found else []
    return next((index for index, item in enumerate(containers) if item["name"] == name), None)


def command_of(situation: Situation) -> ServerCommand:
    """Return how the server's container starts MLflow."""
    found = workload(situation.context)
    commands = commands_of(found, situation.context.evidence) if found else {}
    return commands.get(situation.target.container, ServerCommand(is_server=False))


def workers_of(command: ServerCommand) -> int:
    """Return the worker processes that a server is told to start; what is no number counts as not told."""
    text = command.setting("workers")
    return int(text) if text.isdigit() else DEFAULT_WORKERS


def runs_jobs(command: ServerCommand) -> bool:
    """Tell whether nothing that the server is told keeps it from running jobs; before ``JOBS_SINCE`` none does."""
    return command.environment.get(JOB_EXECUTION, "true").strip().lower() not in OFF


def in_shell(container: Mapping[str, Any]) -> bool:
    """Tell whether a container's command line is a script, which is never changed word by word."""
    words = [str(word) for word in [*(container.get("command") or []), *(container.get("args") or [])]]
    return any(word.rsplit("/", 1)[-1] in SHELLS for word in words)


def find_option(words: list[Any], option: str) -> tuple[int, int] | None:
    """Return the position of an option in a list of words, and how many words it takes."""
    for index, word in enumerate(words):
        if str(word).startswith(f"--{option}="):
            return index, 1
        if str(word) == f"--{option}" and index + 1 < len(words):
            return index, 2
    return None


def editable(found: Mapping[str, Any], index: int) -> tuple[Mapping[str, Any], tuple[str | int, ...]]:
    """Return a container whose words may be changed one by one, and its path in the workload.

    Raises:
        NotEditable: a script starts it.
    """
    container = found["spec"]["template"]["spec"]["containers"][index]
    if in_shell(container):
        raise NotEditable("the server is started by a shell script")
    return container, ("spec", "template", "spec", "containers", index)


def set_option(found: Mapping[str, Any], index: int, option: str, value: str) -> Edit:
    """Describe how an option of ``mlflow server`` gets another value where it stands now.

    Args:
        found: the workload.
        index: position of the server's container.
        option: long name without dashes.
        value: the new value.

    Raises:
        NotEditable: the option stands in a script, in a ConfigMap or in a Secret.
    """
    container, base = editable(found, index)
    for part in ("args", "command"):
        words = container.get(part) or []
        place = find_option(words, option)
        if place is not None and place[1] == 1:
            return edit(found, (*base, part, place[0]), f"--{option}={value}")
        if place is not None:
            return edit(found, (*base, part, place[0] + 1), value)
    variable = ENVIRONMENT_NAMES[option]
    for position, item in enumerate(container.get("env") or []):
        if item["name"] == variable:
            if "value" not in item:
                raise NotEditable(f"{variable} comes from a Secret or ConfigMap")
            return edit(found, (*base, "env", position, "value"), value)
    return added(found, base, container, option, value)


def added(
    found: Mapping[str, Any], base: tuple[str | int, ...], container: Mapping[str, Any], option: str, value: str
) -> Edit:
    """Describe how an option is added behind the words that start the server."""
    part = "args" if container.get("args") else "command"
    words = container.get(part)
    if not words:
        raise NotEditable("the image itself decides how the server is started")
    return edit(found, (*base, part), [*words, f"--{option}={value}"])


def without_option(found: Mapping[str, Any], index: int, option: str) -> Edit:
    """Describe how an option of ``mlflow server`` is removed.

    Raises:
        NotEditable: it stands in a script, in a ConfigMap or in a Secret.
    """
    container, base = editable(found, index)
    for part in ("args", "command"):
        words = container.get(part) or []
        place = find_option(words, option)
        if place is not None:
            return edit(found, (*base, part), [*words[: place[0]], *words[place[0] + place[1] :]])
    variable = ENVIRONMENT_NAMES[option]
    for position, item in enumerate(container.get("env") or []):
        if item["name"] == variable and "value" in item:
            return edit(found, (*base, "env", position), MISSING)
    raise NotEditable(f"where --{option} is set was not found in the workload")


def gunicorn_value(options: str, name: str) -> str:
    """Return one option out of gunicorn's options; empty when it is not there."""
    words = shlex.split(options)
    place = find_option(words, name)
    if place is None:
        return ""
    return words[place[0]].partition("=")[2] if place[1] == 1 else words[place[0] + 1]


def with_gunicorn_value(options: str, name: str, value: str) -> str:
    """Return gunicorn's options with one of them changed or added."""
    words = shlex.split(options)
    place = find_option(words, name)
    if place is None:
        return " ".join([options.strip(), f"--{name} {value}"]).strip()
    words[place[0] : place[0] + place[1]] = [f"--{name}", value]
    return shlex.join(words)
