# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Terraform's outputs tell of a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.terraform import read_outputs

ARN = "arn:aws:iam::123456789012:role/mlflow"


def document(**values: Any) -> str:
    return json.dumps({name: {"sensitive": False, "type": "string", "value": value} for name, value in values.items()})


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("db_instance_identifier", "platform-mlflow", "db_instance_identifier", "platform-mlflow"),
        ("mlflow_rds_instance_id", "platform-mlflow", "db_instance_identifier", "platform-mlflow"),
        ("rds_endpoint", "x.abc.us-west-2.rds.amazonaws.com:5432", "db_host", "x.abc.us-west-2.rds.amazonaws.com"),
        ("database_host", "db.internal.example", "db_host", "db.internal.example"),
        ("artifact_bucket", "platform-artifacts", "artifact_bucket", "platform-artifacts"),
        ("mlflow_bucket_name", "platform-artifacts", "artifact_bucket", "platform-artifacts"),
        ("mlflow_role_arn", ARN, "role_arn", ARN),
        ("aws_region", "eu-central-1", "region", "eu-central-1"),
    ],
)
def test_names_and_forms(name: str, value: str, field: str, expected: str) -> None:
    assert read_outputs(document(**{name: value})) == {field: (expected, name)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("db_password_id", "pa ss"),
        ("bucket_arn", "arn:aws:s3:::b"),
        ("rds_endpoint", "no-dots"),
        ("region", "everywhere"),
        ("role_arn", "mlflow"),
        ("vpc_id", "vpc-1"),
        ("artifact_bucket", 7),
    ],
)
def test_what_does_not_fit_is_left_aside(name: str, value: Any) -> None:
    assert read_outputs(document(**{name: value})) == {}


def test_of_several_the_one_that_names_mlflow() -> None:
    found = read_outputs(document(logs_bucket="platform-logs", artifacts_bucket="platform-artifacts"))
    assert found == {"artifact_bucket": ("platform-artifacts", "artifacts_bucket")}
    assert read_outputs(document(logs_bucket="platform-logs", data_bucket="platform-data")) == {}


def test_objects_are_looked_into_and_secrets_are_not() -> None:
    text = json.dumps(
        {
            "mlflow": {"sensitive": False, "value": {"bucket_name": "runs", "role_arn": ARN, "replicas": 2}},
            "db_host": {"sensitive": True, "value": "db.internal.example"},
        }
    )
    assert read_outputs(text) == {
        "artifact_bucket": ("runs", "mlflow_bucket_name"),
        "role_arn": (ARN, "mlflow_role_arn"),
    }


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": {"type": "string"}}'])
def test_other_documents_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_outputs(text)
