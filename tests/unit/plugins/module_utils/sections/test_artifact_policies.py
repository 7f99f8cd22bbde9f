# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who denies: the role's policies, the boundary, the bucket, or something that only AWS's own words tell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import (
    CLOUD,
    POD,
    Evidence,
    EvidenceSet,
    State,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context, SectionResult
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import artifact_policies

ACCOUNT = "123456789012"
ARN = f"arn:aws:iam::{ACCOUNT}:role/mlflow"
BUCKET = "runs"
TARGET = Target(
    "mlflow",
    "ml",
    "Deployment",
    "mlflow",
    "1",
    "mlflow",
    "mlflow:3",
    5000,
    {"app": "mlflow"},
    bucket=BUCKET,
    artifact_prefix="ml",
    role_arn=ARN,
    role_name="mlflow",
)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
AT = "2026-11-22T12:00:00Z"
OBJECTS = f"arn:aws:s3:::{BUCKET}/*"
ALL = {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
READS = {"Statement": [{"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}]}
NOTHING: dict[str, Any] = {"Statement": []}


def statement(effect: str, principal: Any, **more: Any) -> dict[str, Any]:
    return {
        "Statement": [{"Effect": effect, "Principal": principal, "Action": "s3:PutObject", "Resource": OBJECTS, **more}]
    }


def judged(
    *,
    inline: dict[str, Any] | None = None,
    boundary: dict[str, Any] | None = None,
    policy: Any = None,
    encryption: Any = None,
    state: State = State.OK,
    probes: tuple[tuple[str, dict[str, Any]], ...] = (),
) -> tuple[set[str], SectionResult]:
    value = {"inline": {"s3": inline or ALL}, "attached": {}, "boundary": boundary}
    rows = [
        Evidence("aws.role_policies", CLOUD, "mlflow", AT, state, value),
        Evidence("aws.role", CLOUD, "mlflow", AT, State.OK, {"Arn": ARN}),
        Evidence("aws.bucket", CLOUD, BUCKET, AT, State.OK, {"policy": policy, "encryption": encryption}),
    ]
    rows += [Evidence(what, POD, BUCKET, AT, State.OK, {"error": "", **seen}) for what, seen in probes]
    result = SectionResult()
    artifact_policies.analyze(Context(TARGET, EvidenceSet(rows), NOW), result)
    return {item.id.partition(".")[2] for item in result.findings}, result


def refused(text: str, code: str = "AccessDenied") -> tuple[str, dict[str, Any]]:
    return "probe.s3_canary", {"result": "denied", "code": code, "operation": "PutObject", "error": text}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, set()),
        ({"inline": READS}, {"role_policy_denies"}),
        ({"inline": READS, "state": State.PARTIAL}, set()),
        ({"boundary": READS}, {"permissions_boundary_denies"}),
        ({"inline": READS, "boundary": READS}, {"role_policy_denies"}),
        ({"inline": READS, "policy": statement("Allow", {"AWS": ARN})}, set()),
        (
            {"inline": READS, "policy": statement("Allow", {"AWS": f"arn:aws:iam::{ACCOUNT}:root"})},
            {"role_policy_denies"},
        ),
        ({"inline": READS, "policy": {"denied": "s3:GetBucketPolicy"}}, set()),
        ({"policy": statement("Deny", {"AWS": ARN})}, {"bucket_policy_denies"}),
        ({"policy": statement("Deny", {"AWS": f"arn:aws:iam::{ACCOUNT}:root"})}, {"bucket_policy_denies"}),
        ({"policy": statement("Deny", "*", Condition={"Bool": {"aws:SecureTransport": "false"}})}, set()),
        ({"policy": statement("Deny", "*", Condition={"StringNotEquals": {"aws:SourceVpce": "vpce-1"}})}, set()),
    ],
)
def test_policies_that_can_be_read(given: dict[str, Any], expected: set[str]) -> None:
    assert judged(**given)[0] == expected


@pytest.mark.parametrize(
    ("given", "text", "expected"),
    [
        (
            {"policy": statement("Deny", "*", Condition={"StringNotEquals": {"aws:SourceVpce": "vpce-1"}})},
            "with an explicit deny in a resource-based policy",
            {"bucket_policy_denies"},
        ),
        ({}, "with an explicit deny in a service control policy", {"guardrail_denies"}),
        ({}, "because no VPC endpoint policy allows the s3:PutObject action", {"guardrail_denies"}),
        ({}, "is not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms:x", {"encryption_key_denied"}),
        ({"inline": READS}, "because no identity-based policy allows the s3:PutObject action", {"role_policy_denies"}),
    ],
)
def test_what_only_the_refusal_says(given: dict[str, Any], text: str, expected: set[str]) -> None:
    found, result = judged(**given, probes=(refused(text),))
    assert found == expected
    assert all(item.measured for item in result.findings)


def test_a_key_of_ones_own_is_named() -> None:
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "key-1"}}]}
    _found, result = judged(encryption=rules, probes=(refused("The key is disabled", "KMS.DisabledException"),))
    assert [(item.id, item.object) for item in result.findings] == [("artifact_store.encryption_key_denied", "key-1")]


def test_a_policy_at_odds_with_the_pod_is_undetermined() -> None:
    found, result = judged(inline=NOTHING, probes=(("probe.s3_list", {"result": "ok"}),))
    assert found == {"role_policy_denies"}
    assert result.findings[0].facts["denied"] == ["s3:GetObject", "s3:PutObject"]
    assert "s3:ListBucket" in result.unknown[0].what


@pytest.mark.parametrize(("pattern", "allowed"), [("ml/*", True), ("other/*", False)])
def test_a_folder_as_mlflow_lists_it(pattern: str, allowed: bool) -> None:
    folder = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{BUCKET}"}
    condition = {"Condition": {"StringLike": {"s3:prefix": [pattern]}}}
    objects = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": OBJECTS}
    found, _result = judged(inline={"Statement": [{**folder, **condition}, objects]})
    assert found == (set() if allowed else {"role_policy_denies"})
