# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the evidence says about the way from the server to its bucket, before anyone judges it."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.evidence import CLOUD, DEBUG_COPY, POD, Evidence, State
from ..core.findings import Context
from ..core.workload import container_spec, ready_pods, result_of, workload
from .logs import matches, recovered

LOST = frozenset({"timeout", "refused", "not_found", "try_again", "reset"})
S3_PROBES = ("probe.s3_list", "probe.s3_get", "probe.s3_canary")
ROLE_VARIABLE = "AWS_ROLE_ARN"
AMAZON = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


@dataclass(frozen=True)
class Refusal:
    """One call to AWS that was refused: AWS's code and words, and the operation that was tried."""

    evidence: Evidence
    operation: str
    code: str
    text: str


def observed(context: Context, what: str) -> list[Evidence]:
    """Return what the serving pods experience; when none could be entered, what a copy with their identity does."""
    found = seen_at(context, what, POD)
    return found or (seen_at(context, what, DEBUG_COPY) if copy_is_alike(context) else [])


def of_new_pod(context: Context, what: str) -> list[Evidence]:
    """Return what a new pod would experience, where that may differ from what the serving ones do."""
    differs = bool(seen_at(context, what, POD)) or not copy_is_alike(context)
    return seen_at(context, what, DEBUG_COPY) if differs else []


def copy_is_alike(context: Context) -> bool:
    """Tell whether a copy was given the same role as the serving pods."""
    copies = seen_at(context, "probe.identity", DEBUG_COPY)
    roles = serving_roles(context)
    return not copies or not roles or str(copies[0].value.get("role_arn") or "") in roles


def serving_roles(context: Context) -> set[str]:
    """Return the role variable of each ready pod, an empty text for none; an empty set when no pod is ready."""
    return {
        next((entry.get("value") or "" for entry in variables(pod, context) if entry["name"] == ROLE_VARIABLE), "")
        for pod in ready_pods(context)
    }


def variables(pod: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """Return the environment of the server's container as the pod has it, or as the template says."""
    spec = container_spec(pod, context.target.container)
    return list(spec.get("env") or [])


def seen_at(context: Context, what: str, place: str) -> list[Evidence]:
    return [item for item in context.evidence.all(what, place) if item.seen and isinstance(item.value, dict)]


def listings(context: Context) -> list[Evidence]:
    return observed(context, "probe.s3_list")


def succeeded(context: Context, what: str) -> bool:
    return any(result_of(item) == "ok" for item in observed(context, what))


def calls_to_storage(context: Context) -> list[Evidence]:
    return [item for what in S3_PROBES for item in observed(context, what)]


def refusals(context: Context) -> list[Refusal]:
    """Return what AWS refused: to the probe now, and to the server in log lines that nothing later outweighs."""
    found = [
        Refusal(item, str(item.value.get("operation", "")), str(item.value.get("code", "")), str(item.value["error"]))
        for item in calls_to_storage(context)
        if result_of(item) == "denied" or str(item.value.get("code", "")).startswith("KMS.")
    ]
    for match in matches(context):
        if match.signature.id != "s3_error" or recovered(context, match):
            continue
        whole = next(
            (line["text"] for line in match.evidence.value["lines"] if match.text in line["text"]),
            match.text,
        )
        groups = match.groups
        found.append(Refusal(match.evidence, str(groups.get("op")), str(groups.get("code")), whole))
    return found


def identity_of(context: Context) -> Mapping[str, Any]:
    """Return where the serving pods' AWS identity comes from; empty when that was not seen."""
    return next((item.value for item in observed(context, "probe.identity")), {})


def endpoint_of(context: Context) -> str:
    """Return the address that MLflow is told to use for S3; empty when it is AWS's own."""
    seen = identity_of(context)
    return str(seen.get("endpoint_url") or "") if seen else context.target.artifact_endpoint


def template_variables(context: Context) -> list[dict[str, Any]]:
    found = workload(context)
    return variables(found["spec"]["template"], context) if found else []


def elsewhere(context: Context) -> bool:
    """Tell whether the store is told to be another one than Amazon's, of which IAM and S3 say nothing."""
    url = endpoint_of(context)
    host = urllib.parse.urlsplit(url).hostname or "" if "//" in url else url
    return bool(url) and not host.endswith(AMAZON)


def bucket_of(context: Context) -> Evidence | None:
    return context.evidence.first("aws.bucket", CLOUD, context.target.bucket)


def bucket_gone(context: Context) -> bool:
    seen = bucket_of(context)
    return seen is not None and seen.state is State.ABSENT
