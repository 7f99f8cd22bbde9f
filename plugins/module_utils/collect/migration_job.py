# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Job that upgrades a schema: the server's image, environment and identity, and nothing else of its pod."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..core.attempts import MANAGED_BY, OURS
from ..core.discovery import Target
from ..probes import upgrade
from ..probes.container import option
from .pod_specs import debug_copy
from .probe_spec import server_words

OPTION = "backend-store-uri"
KEPT_SECONDS = 86400
"""An ended Job whose run was killed stays for a day, so that its log can be read."""

NO_SIDECARS = {"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}
"""A proxy beside the container would keep the Job from ending (Istio, Linkerd: documentation of injection)."""


def migration_job(
    workload: Mapping[str, Any], target: Target, name: str, current: str, head: str, seconds: int, patience: int
) -> dict[str, Any]:
    """Build the Job.

    Args:
        workload: the Deployment or StatefulSet as the API has it now; its own secrets go where they already are, into
            the environment.
        target: the server.
        name: name of the Job.
        current: the revision that the schema must have.
        head: the revision that it shall have.
        seconds: after this time Kubernetes ends it.
        patience: how long it waits for the sessions of others.
    """
    copy = debug_copy(workload, target, name, target.image, seconds)
    spec, metadata = copy["spec"], copy["metadata"]
    container = spec["containers"][0]
    given = {
        upgrade.STORE: option(server_words(workload, target.container), OPTION),
        upgrade.FROM: current,
        upgrade.TO: head,
        upgrade.PATIENCE: str(patience),
        "PYTHONUNBUFFERED": "1",
    }
    kept = [item for item in container.get("env") or [] if item["name"] not in given]
    container["env"] = [*kept, *({"name": key, "value": value} for key, value in given.items() if value)]
    container["command"] = ["python3", "-c", inspect.getsource(upgrade)]
    spec.pop("activeDeadlineSeconds")
    labels = {key: value for key, value in metadata["labels"].items() if key in template_labels(workload)}
    pod_metadata = {
        "labels": {**labels, **NO_SIDECARS},
        "annotations": {**metadata["annotations"], **NO_SIDECARS},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": target.namespace, "labels": {MANAGED_BY: OURS}},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": pod_metadata, "spec": spec},
        },
    }


def template_labels(workload: Mapping[str, Any]) -> Mapping[str, Any]:
    return workload["spec"]["template"].get("metadata", {}).get("labels") or {}
