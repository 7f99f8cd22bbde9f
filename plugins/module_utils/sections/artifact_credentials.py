# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials that a pod brings along: static keys, which take precedence over a role, and the role's token."""

from __future__ import annotations

from ..core.evidence import API, Evidence
from ..core.findings import TO_IDENTITY, Context, Finding, SectionResult, keys
from ..core.workload import result_of, workload_name
from .artifact_facts import listings, observed, refusals, template_variables

KEY_VARIABLE = "AWS_ACCESS_KEY_ID"
MOUNTED_AT = "AWS_WEB_IDENTITY_TOKEN_FILE"


def analyze(context: Context, result: SectionResult) -> None:
    """Judge what AWS makes of the credentials that stand in the pod's environment (field guide A-11, A-12, A-20)."""
    for item in observed(context, "probe.identity"):
        if item.value.get("static_keys"):
            static_keys(context, item, result)
        elif item.value.get("role_arn") and not item.value.get("token_file"):
            token(context, item, result)


def failing(context: Context) -> list[Evidence]:
    return [item for item in [*observed(context, "probe.sts"), *listings(context)] if result_of(item) != "ok"]


def static_keys(context: Context, identity: Evidence, result: SectionResult) -> None:
    """Find keys that AWS does not know or that may not use the bucket, although a role stands ready."""
    denied = [item for item in failing(context) if result_of(item) == "denied"]
    denied += [item.evidence for item in refusals(context) if item.evidence not in denied]
    unknown = [item for item in denied if item.what == "probe.sts"]
    if not unknown and not (denied and context.target.role_arn):
        return
    role = f", and take precedence over role {context.target.role_name}" if context.target.role_name else ""
    said = (unknown or denied)[0].value
    text = str(said.get("error") or "S3 denies access")[:200]
    origin = origin_of(context, KEY_VARIABLE)
    result.findings.append(
        Finding(
            "artifact_store.static_keys_refused",
            origin,
            f"the pods use static AWS keys from {origin}{role}; AWS refuses them: {text}",
            keys([context.evidence.first("kubernetes.deployments", API), identity, *denied]),
            flow=TO_IDENTITY,
            configured=True,
            measured=True,
            facts={"keys": origin},
        )
    )


def token(context: Context, identity: Evidence, result: SectionResult) -> None:
    """Find a role whose token is not where the environment says, so that nobody can ask for it."""
    lost = [item for item in failing(context) if not item.value.get("operation")]
    if not lost:
        return
    result.findings.append(
        Finding(
            "artifact_store.token_missing",
            workload_name(context),
            f"{MOUNTED_AT} of {workload_name(context)} names a file that the pods do not have or cannot read",
            keys([context.evidence.first("kubernetes.pods", API, context.target.namespace), identity, *lost]),
            flow=TO_IDENTITY,
            configured=True,
            measured=True,
            facts={"variable": MOUNTED_AT},
        )
    )


def origin_of(context: Context, variable: str) -> str:
    """Name the Secret that a variable of the container comes from, or the workload where it stands in its template."""
    for entry in template_variables(context):
        reference = (entry.get("valueFrom") or {}).get("secretKeyRef") if entry["name"] == variable else None
        if reference:
            return f"secret/{reference['name']}"
    return workload_name(context)
