# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person is told to type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

COMMANDS = ("kubectl ", "aws ", "ansible-playbook ")
"""Lines to copy stay in one piece."""

MOST_NEEDED = 3
NOT_KNOWN = "a person, or the rights that are named below"
"""What the verdict says a question needs that no evidence answers; it tells nobody what to do."""


def command_apart(text: str) -> list[str]:
    """Set a command behind a colon on a line of its own, so that it can be copied."""
    head, colon, command = text.partition(": ")
    return [f"{head}:", command] if colon and command.startswith(COMMANDS) else [text]


def approve(report: Mapping[str, Any], step: Mapping[str, Any]) -> list[str]:
    """Tell how to let the collection do a step, or why it will not."""
    if step["class"] == "proposed":
        return []
    hard = [item for item in step["refused"] if item["guard"] not in ("allowed", "approval")]
    if hard or not step["change"]:
        return [f"({step['step']} cannot do it: {(hard or step['refused'])[0]['reason']})"]
    needs_digest = step["class"] == "declared_state"
    variables = {"mlflow_namespace": report["server"]["namespace"], "mlflow_allowed_steps": step["step"]}
    if needs_digest:
        variables["mlflow_approved_plan"] = report["plan"]["digest"]
    options = "".join(f" -e {name}={value}" for name, value in variables.items())
    return ["or let the collection do it:", f"ansible-playbook mlops.mlflow_runbook.remediate{options}"]


def needed(unknown: Iterable[Mapping[str, str]]) -> list[str]:
    """Say what would let the cause be seen, the first needs first."""
    wants: dict[str, str] = {}
    for item in unknown:
        if item["needs"] not in item["what"] and item["needs"] != NOT_KNOWN:
            wants.setdefault(item["needs"], item["what"])
    return [f"needed: {needs} ({what})" for needs, what in list(wants.items())[:MOST_NEEDED]]
