# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import CLOUD, Evidence, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.prevention.items import Grade

from .conftest import Audited, patched

OK, WEAK, MISSING, UNKNOWN = Grade.OK, Grade.WEAK, Grade.MISSING, Grade.UNKNOWN


@pytest.mark.parametrize(
    ("id_", "change", "grade", "words"),
    [
        ("automated_backups", {"BackupRetentionPeriod": 0}, MISSING, "keeps no automated backups"),
        ("automated_backups", {"LatestRestorableTime": "2026-01-01T00:00:00Z"}, WEAK, "backups are behind"),
        ("backup_retention", {"BackupRetentionPeriod": 6}, WEAK, "6 days"),
        ("backup_retention", {"BackupRetentionPeriod": 1}, WEAK, "1 day,"),
        ("backup_retention", {"BackupRetentionPeriod": 0}, MISSING, "not kept"),
        ("deletion_protection", {"DeletionProtection": False}, MISSING, "off"),
        ("multi_az", {"MultiAZ": False}, MISSING, "off"),
        ("storage_autoscaling", {"MaxAllocatedStorage": 20}, MISSING, "does not grow"),
        ("storage_autoscaling", {"MaxAllocatedStorage": None}, MISSING, "does not grow"),
        ("storage_autoscaling", {"MaxAllocatedStorage": 25}, WEAK, "only to 25 GiB"),
        ("storage_autoscaling", {"MaxAllocatedStorage": 26}, OK, "26 GiB"),
        ("engine_end_of_life", {"EngineVersion": "12.22"}, MISSING, "left standard support on 2025-02-28"),
        ("engine_end_of_life", {"EngineVersion": "14.20"}, WEAK, "leaves standard support on 2027-02-28"),
        ("engine_end_of_life", {"EngineVersion": "99.1"}, UNKNOWN, "not known"),
        ("certificate_authority", {"CACertificateIdentifier": "rds-ca-2019"}, MISSING, "expired on 2024-08-22"),
        ("certificate_authority", {"CACertificateIdentifier": "own-ca"}, UNKNOWN, "not known"),
        (
            "certificate_authority",
            {"CertificateDetails": {"ValidTill": "2026-12-10T00:00:00Z"}},
            WEAK,
            "ends on 2026-12-10",
        ),
    ],
)
def test_an_instance_with_a_gap(audited: Audited, id_: str, change: dict[str, Any], grade: Grade, words: str) -> None:
    audited.at(datetime(2026, 11, 27, 15, 20, tzinfo=UTC))
    item = audited.change("aws.db_instance", lambda value: value.update(change))[f"database.{id_}"]
    assert (item.grade, words in item.summary) == (grade, True), item.summary
    assert bool(item.patches) == (grade in (WEAK, MISSING))
    assert bool(item.needs) == (grade is UNKNOWN)


def test_what_aws_tells_goes_before_our_own_table(audited: Audited) -> None:
    at = next(item.at for item in audited.evidence)
    audited.drop("aws.engine_lifecycle", "aws.certificate_authority")
    audited.evidence.add(
        Evidence("aws.engine_lifecycle", CLOUD, "postgres 15", at, State.OK, {"standard_support_end": "2020-01-01"}),
        Evidence("aws.certificate_authority", CLOUD, "ca", at, State.OK, {"valid_till": "2020-01-01T00:00:00Z"}),
    )
    assert audited["database.engine_end_of_life"].grade is MISSING
    assert audited["database.certificate_authority"].grade is MISSING


def test_an_instance_that_does_not_exist_is_unknown(audited: Audited) -> None:
    audited.hide("aws.db_instance", State.ABSENT, "no RDS instance has the address db")
    item = audited["database.multi_az"]
    assert item.grade is UNKNOWN
    assert item.needs == "mlflow_db_instance_identifier"


def alarm(audited: Audited, metric: str, **change: Any) -> Audited:
    """Keep of the recorded alarms those that tell somebody, and change the one on a metric."""

    def alter(value: Any) -> None:
        value["items"] = [row for row in value["items"] if row["actions"]]
        for row in value["items"]:
            row.update(change if row["metric"] == metric else {})

    return audited.change("aws.alarms", alter)


@pytest.mark.parametrize(
    ("metric", "id_", "change", "words"),
    [
        ("FreeStorageSpace", "storage", {"actions": []}, "tells nobody"),
        ("FreeStorageSpace", "storage", {"actions_enabled": False}, "tells nobody"),
        ("FreeStorageSpace", "storage", {"comparison": "GreaterThanThreshold"}, "wrong way round"),
        ("FreeStorageSpace", "storage", {"threshold": 50 * 2**30}, "none of a volume of 20 GiB"),
        ("DatabaseConnections", "connections", {"threshold": 57}, "never reached"),
        ("DatabaseConnections", "connections", {"comparison": "LessThanThreshold"}, "wrong way round"),
    ],
)
def test_an_alarm_that_would_not_help(
    audited: Audited, metric: str, id_: str, change: dict[str, Any], words: str
) -> None:
    item = alarm(audited, metric, **change)[f"alarms.{id_}"]
    assert item.grade is WEAK
    assert words in item.summary
    assert "put-metric-alarm" in patched(item, "aws")


def test_no_alarm_at_all(audited: Audited) -> None:
    audited.change("aws.alarms", lambda value: value.update(items=[], topics=[]))
    storage = audited["alarms.storage"]
    assert storage.grade is MISSING
    assert "--threshold 2147483648" in patched(storage, "aws")
    assert "$ALARM_TOPIC_ARN" in patched(storage, "aws")
    assert "--threshold 46" in patched(audited["alarms.connections"], "aws")


def test_a_topic_that_other_alarms_tell_is_proposed(audited: Audited) -> None:
    audited.change("aws.alarms", lambda value: value.update(items=[], topics=["arn:aws:sns:r:1:team"]))
    assert "--alarm-actions arn:aws:sns:r:1:team" in patched(audited["alarms.storage"], "aws")


def test_an_alarm_may_tell_by_a_composite_one(audited: Audited) -> None:
    def compose(value: Any) -> None:
        value["items"] = [row for row in value["items"] if row["actions"]]
        for row in value["items"]:
            row["actions"] = []
        name = next(row["name"] for row in value["items"] if row["metric"] == "FreeStorageSpace")
        value["composites"] = [{"name": "all", "rule": f'ALARM("{name}")'}]

    audited.change("aws.alarms", compose)
    assert audited["alarms.storage"].grade is OK
    assert audited["alarms.connections"].grade is WEAK


@pytest.mark.parametrize(
    ("part", "value", "id_", "grade"),
    [
        ("versioning", None, "versioning", MISSING),
        ("versioning", "Suspended", "versioning", WEAK),
        ("versioning", {"denied": "s3:GetBucketVersioning"}, "versioning", UNKNOWN),
        ("versioning", {"unreachable": "timed out"}, "versioning", UNKNOWN),
        ("encryption", None, "encryption", MISSING),
        ("public_access_block", None, "public_access", MISSING),
        ("public_access_block", {"BlockPublicAcls": True}, "public_access", WEAK),
    ],
)
def test_a_bucket_with_a_gap(audited: Audited, part: str, value: Any, id_: str, grade: Grade) -> None:
    item = audited.change("aws.bucket", lambda bucket: bucket.update({part: value}))[f"storage.{id_}"]
    assert item.grade is grade
    assert bool(item.patches) == (grade is not UNKNOWN)


def grant(audited: Audited, action: str, resource: str) -> Audited:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return audited.change("aws.role_policies", lambda value: value["inline"].update(more={"Statement": [statement]}))


@pytest.mark.parametrize(
    ("action", "resource", "words"),
    [
        ("s3:*", "*", "read other buckets"),
        ("s3:Get*", "arn:aws:s3:::*", "read other buckets"),
        ("*", "*", "delete the database"),
        ("secretsmanager:GetSecretValue", "*", "read secrets"),
    ],
)
def test_a_role_that_may_too_much(audited: Audited, action: str, resource: str, words: str) -> None:
    item = grant(audited, action, resource)["identity.least_privilege"]
    assert item.grade is WEAK
    assert words in item.summary
    assert "delete-role-policy --role-name pv --policy-name more" in patched(item, "aws")


def test_a_boundary_takes_back_what_policies_grant(audited: Audited) -> None:
    grant(audited, "*", "*").change("aws.role_policies", lambda value: value.update(boundary={"Statement": []}))
    assert audited["identity.least_privilege"].grade is OK


@pytest.mark.parametrize(
    ("condition", "grade", "words"),
    [
        ({"StringLike": {"{i}:sub": "system:serviceaccount:*:*"}}, WEAK, "any service account of the cluster"),
        ({"StringLike": {"{i}:sub": "system:serviceaccount:pv:*", "{i}:aud": "sts.amazonaws.com"}}, WEAK, "namespace"),
        ({"StringEquals": {"{i}:sub": "system:serviceaccount:pv:mlflow"}}, WEAK, "any audience"),
        (
            {"StringEquals": {"{i}:sub": "system:serviceaccount:pv:mlflow", "{i}:aud": "sts.amazonaws.com"}},
            OK,
            "pv/mlflow alone",
        ),
    ],
)
def test_who_may_take_the_role(audited: Audited, condition: Any, grade: Grade, words: str) -> None:
    def trust(value: Any) -> None:
        statement = value["AssumeRolePolicyDocument"]["Statement"]
        statement = statement[0] if isinstance(statement, list) else statement
        issuer = statement["Principal"]["Federated"].partition(":oidc-provider/")[2]
        statement["Condition"] = {
            operator: {key.format(i=issuer): text for key, text in block.items()}
            for operator, block in condition.items()
        }

    item = audited.change("aws.role", trust)["identity.trust"]
    assert (item.grade, words in item.summary) == (grade, True), item.summary


def test_a_server_without_a_role(audited: Audited) -> None:
    def forget(value: Any) -> None:
        for item in value["items"]:
            item["metadata"].pop("annotations", None)

    audited.change("kubernetes.serviceaccounts", forget)
    item = audited["identity.least_privilege"]
    assert item.grade is MISSING
    assert "whatever role the node has" in item.summary
    assert "eks.amazonaws.com/role-arn" in patched(item, "kubectl")
