# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static keys that are refused, and a token that is not there."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import artifact_store

from .conftest import MakeContext, deployment, listed, probe

BUCKET = "runs"
ROLE = "arn:aws:iam::1:role/mlflow"


def with_keys() -> dict[str, Any]:
    found = deployment()
    reference = {"secretKeyRef": {"name": "aws-keys", "key": "id"}}
    found["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "AWS_ACCESS_KEY_ID", "valueFrom": reference}]
    return found


def causes(context: Any) -> dict[str, str]:
    return {item.id: item.object for item in artifact_store.analyze(context).findings}


def refused(what: str, code: str, **more: Any) -> Any:
    return probe(what, BUCKET, "denied", "pod", code=code, error=f"({code}) when calling", **more)


def test_keys_that_aws_does_not_know_are_named_by_their_secret(context: MakeContext) -> None:
    made = context(
        listed("deployments", with_keys()),
        probe("identity", "", place="pod", static_keys=True, token_file=False, role_arn=None),
        refused("sts", "InvalidClientTokenId", operation="GetCallerIdentity"),
        refused("s3_list", "InvalidAccessKeyId", operation="ListObjectsV2"),
        bucket=BUCKET,
    )
    assert causes(made)["artifact_store.static_keys_refused"] == "secret/aws-keys"


def test_keys_that_work_are_no_fault_though_a_policy_may_be(context: MakeContext) -> None:
    made = context(
        listed("deployments", with_keys()),
        probe("identity", "", place="pod", static_keys=True),
        probe("sts", "", place="pod", arn="arn:aws:iam::1:user/ci"),
        refused("s3_list", "AccessDenied", operation="ListObjectsV2"),
        bucket=BUCKET,
    )
    assert "artifact_store.static_keys_refused" not in causes(made)


def test_keys_hide_the_role_that_would_be_allowed(context: MakeContext) -> None:
    made = context(
        listed("deployments", with_keys()),
        probe("identity", "", place="pod", static_keys=True, role_arn=ROLE),
        probe("sts", "", place="pod", arn="arn:aws:iam::1:user/ci"),
        refused("s3_list", "AccessDenied", operation="ListObjectsV2"),
        bucket=BUCKET,
        role_arn=ROLE,
        role_name="mlflow",
    )
    assert causes(made)["artifact_store.static_keys_refused"] == "secret/aws-keys"


def test_a_token_that_is_not_mounted(context: MakeContext) -> None:
    gone = probe("s3_list", BUCKET, "error", "pod", code="FileNotFoundError", operation="", error="No such file")
    identity: dict[str, Any] = {"role_arn": ROLE, "static_keys": False}
    made = context(probe("identity", "", place="pod", token_file=False, **identity), gone, bucket=BUCKET)
    assert causes(made)["artifact_store.token_missing"] == "deployment/mlflow"
    made = context(probe("identity", "", place="pod", token_file=True, **identity), gone, bucket=BUCKET)
    assert "artifact_store.token_missing" not in causes(made)


def cut_off(**port: Any) -> list[Any]:
    return [
        probe("s3_list", BUCKET, "timeout", "pod", error="no answer"),
        probe("tcp", "s3.us-west-2.amazonaws.com:443", place="pod", **port),
    ]


def test_a_call_that_was_left_behind_is_no_route_that_is_closed(context: MakeContext) -> None:
    result = artifact_store.analyze(context(*cut_off(), bucket=BUCKET))
    assert "artifact_store.unreachable" not in {item.id for item in result.findings}
    assert any("S3 and STS answer" in item.what for item in result.unknown)


def test_a_time_out_of_the_library_counts_where_the_pod_is_quick(context: MakeContext) -> None:
    late = probe("s3_list", BUCKET, "timeout", "pod", error="Read timeout", code="ReadTimeoutError")
    port = probe("tcp", "s3.us-west-2.amazonaws.com:443", place="pod")
    quick = probe("login", "db.example.com:5432", place="pod", seconds=0.02)
    assert "artifact_store.unreachable" in causes(context(late, port, quick, bucket=BUCKET))
    starved = probe("s3_list", BUCKET, "timeout", "pod", error="Read timeout", code="ReadTimeoutError", seconds=21.8)
    assert "artifact_store.unreachable" not in causes(context(starved, port, quick, bucket=BUCKET))
    busy = probe("login", "db.example.com:5432", place="pod", seconds=0.9)
    assert "artifact_store.unreachable" not in causes(context(late, port, busy, bucket=BUCKET))


def test_an_answer_of_s3_outweighs_a_call_that_was_late(context: MakeContext) -> None:
    late = probe("sts", "", "timeout", "pod", error="Read timeout", code="ReadTimeoutError", seconds=9.4)
    listed_now = probe("s3_list", BUCKET, place="pod", seconds=7.8)
    port = probe("tcp", "s3.us-west-2.amazonaws.com:443", place="pod")
    assert "artifact_store.unreachable" not in causes(context(late, listed_now, port, bucket=BUCKET))
