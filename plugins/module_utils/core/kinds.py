# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kind of finding is, and groups of kinds that follow from the same trouble."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Whether a kind can be a cause.

    ``EITHER`` is a cause only when nothing explains it; a ``NOTE`` is worth knowing, and never a cause or a question.
    """

    CAUSE = "cause"
    SYMPTOM = "symptom"
    EITHER = "either"
    NOTE = "note"


@dataclass(frozen=True)
class Kind:
    """One kind of finding; ``next`` and ``do_not`` are templates over the finding's facts."""

    id: str
    role: Role
    severity: str
    owner: str
    explains: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    do_not: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


PODS = (
    "pods.rollout_stuck",
    "pods.starting",
    "pods.crash_looping",
    "pods.restarted",
    "pods.not_ready",
    "pods.probe_failing",
    "pods.init_failing",
)
KILLED = "pods.liveness_too_tight"
SERVING = (
    *PODS,
    KILLED,
    "service.no_endpoints",
    "service.unreachable",
    "service.intermittent",
    "service.replica_failing",
    "web_server.not_answering",
)
API = (
    "web_server.api_failing",
    "service.replica_failing",
    "web_server.registry_failing",
    "database.pool_exhausted",
    "logs.worker_timeout",
    "web_server.worker_timeout",
    "latency.slow_calls",
)
NO_DATABASE = (
    "database.connect_timeout",
    "database.wrong_address",
    "logs.database_timeout",
    "logs.database_unreachable",
    *API,
    *SERVING,
)
REFUSED = (
    "database.connect_refused",
    "database.not_listening",
    "logs.database_refused",
    "logs.database_unreachable",
    *API,
    *SERVING,
)
LOGIN = ("database.login_denied", "logs.database_rejects_login", "logs.database_unreachable", *API, *SERVING)
ARTIFACTS = (
    "logs.artifact_store_denied",
    "logs.artifact_store_unreachable",
    "artifact_store.list_failing",
    "artifact_store.access_denied",
)
NO_RESTART = "restart: a new pod could not {without}"

CAUSE, SYMPTOM, EITHER, NOTE = Role.CAUSE, Role.SYMPTOM, Role.EITHER, Role.NOTE
ML, K8S, DBA, NET, IAM = "ML platform", "Kubernetes platform", "database", "network", "cloud identity"
