# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One repair: what it changes, how it is taken back, and what its guards have to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .discovery import Target
from .findings import Context
from .settings import Settings
from .verdict import Cause


class StepClass(StrEnum):
    """How much a step needs before it may be carried out."""

    OPERATING = "operating"
    DECLARED_STATE = "declared_state"
    PROPOSED = "proposed"


@dataclass(frozen=True)
class Step:
    """One repair.

    Attributes:
        step: its name, as ``mlflow_allowed_steps`` spells it.
        section: the section whose role carries it out.
        cause: id of the cause that it repairs.
        object: what it changes.
        step_class: which class of rules guards it.
        change: the exact change; empty when nothing verbatim is known.
        undo: the change that takes it back; empty when nothing can.
        blocked: why it cannot be carried out whatever is allowed; empty when it can.
        proven: whether configuration and behaviour both prove the cause.
        starts_pods: whether pods of the server are started by it, which must be known to live.
        replicas: the number of replicas after it; None when it does not change them.
        workers: the worker processes of each pod after it; None when it does not change them.
        unavailable: ready replicas that it may take away at once.
        shared: the dependency of several servers that it repairs, such as an RDS instance; empty for the server itself.
        patience_seconds: how long its effect may take until it is judged; 0 for the usual time.
        proposal: a ready patch for the owner, as text to copy.
        cause_object: what the cause is about.
    """

    step: str
    section: str
    cause: str
    object: str
    step_class: StepClass
    change: Mapping[str, Any]
    undo: Mapping[str, Any] = field(default_factory=dict)
    blocked: str = ""
    proven: bool = False
    starts_pods: bool = False
    replicas: int | None = None
    workers: int | None = None
    unavailable: int = 0
    shared: str = ""
    patience_seconds: int = 0
    proposal: str = ""
    cause_object: str = ""


@dataclass(frozen=True)
class Situation:
    """What a step is built from.

    Attributes:
        context: the server and the evidence.
        baseline: what the last healthy diagnosis recorded; empty when there was none.
        settings: ceilings and limits that the operator set.
    """

    context: Context
    baseline: Mapping[str, Any]
    settings: Settings

    @property
    def target(self) -> Target:
        return self.context.target


def proven(cause: Cause) -> bool:
    """Tell whether a configuration fact and a measurement both stand behind a cause."""
    return cause.finding.configured and cause.finding.measured
