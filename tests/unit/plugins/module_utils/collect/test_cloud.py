# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of AWS, and what becomes of the answers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import Deadline, Observation
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect import cloud
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.threads import Notebook, together
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import Evidence, EvidenceSet, State

INSTANCE = {
    "DBInstanceIdentifier": "db-1",
    "Endpoint": {"Address": "db-1.example"},
    "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-1"}],
    "DBSubnetGroup": {"Subnets": [{"SubnetIdentifier": "subnet-1"}]},
}
GROUP = {"GroupId": "sg-1", "IpPermissions": [{"UserIdGroupPairs": [{"GroupId": "sg-nodes"}]}]}
ROLE = "arn:aws:iam::1:role/r"
HEALTHY: dict[str, Any] = {
    "get_caller_identity": {"Account": "1", "Arn": "arn:user"},
    "describe_db_instances": {"DBInstances": [INSTANCE]},
    "describe_events": {"Events": [{"Message": "restarted"}]},
    "describe_security_groups": {"SecurityGroups": [GROUP]},
    "describe_network_interfaces": {"NetworkInterfaces": [{"NetworkInterfaceId": "eni-1"}]},
    "describe_subnets": {"Subnets": []},
    "describe_network_acls": {"NetworkAcls": []},
    "get_metric_data": {
        "MetricDataResults": [{"Label": "CPUUtilization", "Timestamps": ["b", "a"], "Values": [2.0, 1.0]}]
    },
    "get_role": {"Role": {"Arn": ROLE, "PermissionsBoundary": {"PermissionsBoundaryArn": "arn:boundary"}}},
    "list_role_policies": {"PolicyNames": ["mlflow-s3"]},
    "get_role_policy": {"PolicyDocument": {"Statement": []}},
    "list_attached_role_policies": {"AttachedPolicies": [{"PolicyArn": "arn:attached"}]},
    "get_policy": {"Policy": {"DefaultVersionId": "v2"}},
    "get_policy_version": {"PolicyVersion": {"Document": {"Version": "v2"}}},
    "head_bucket": {"BucketRegion": "us-west-2"},
    "get_bucket_versioning": {"Status": "Enabled"},
    "get_bucket_encryption": {"ServerSideEncryptionConfiguration": {}},
    "get_bucket_policy": {"Policy": '{"Statement": []}'},
    "get_public_access_block": {"PublicAccessBlockConfiguration": {}},
}


class FakeCloud:
    """Stands for CloudReader: an answer or an observation by operation."""

    region = "us-west-2"

    def __init__(self, **changes: Any) -> None:
        self.answers = {**HEALTHY, **changes}
        self.deadline = Deadline(5)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, service: str, method: str, **given: Any) -> Observation:
        self.asked.append((method, given))
        found = self.answers[method]
        return found if isinstance(found, Observation) else Observation(State.OK, found)


def collect(
    notebook: Notebook, identifier: str = "db-1", host: str = "", **changes: Any
) -> tuple[EvidenceSet, FakeCloud]:
    reader = FakeCloud(**changes)
    collector = cloud.CloudCollector(reader, notebook, ["10.90.0.1"])  # type: ignore[arg-type]
    return EvidenceSet(together(collector.jobs(identifier, host, ROLE, "b"), reader.deadline)), reader


def first(evidence: EvidenceSet, what: str) -> Evidence:
    found = evidence.first(f"aws.{what}")
    assert found is not None
    return found


def test_everything(notebook: Notebook) -> None:
    evidence, reader = collect(notebook)
    assert {item.state for item in evidence} == {State.OK}
    assert evidence.value("aws.caller_identity") == {"account": "1", "arn": "arn:user", "region": "us-west-2"}
    assert evidence.value("aws.db_instance", subject="db-1") == INSTANCE
    assert evidence.value("aws.metrics")["CPUUtilization"]["points"] == [["a", 1.0], ["b", 2.0]]
    assert evidence.value("aws.network_interfaces") == {"items": [{"NetworkInterfaceId": "eni-1"}]}
    policies = evidence.value("aws.role_policies")
    assert policies["inline"] == {"mlflow-s3": {"Statement": []}}
    assert policies["attached"] == {"arn:attached": {"Version": "v2"}}
    assert policies["boundary"] == {"Version": "v2"}
    assert evidence.value("aws.bucket")["policy"] == {"Statement": []}
    filters = [given["Filters"][0]["Name"] for method, given in reader.asked if method == "describe_network_interfaces"]
    assert filters == ["group-id", "addresses.private-ip-address"]


def test_the_instance_is_found_by_its_address(notebook: Notebook) -> None:
    evidence, _dummy = collect(notebook, identifier="", host="db-1.example")
    assert evidence.value("aws.db_instance", subject="db-1") == INSTANCE
    assert first(evidence, "metrics").state is State.OK
    evidence, _dummy = collect(notebook, identifier="", host="other.example")
    assert first(evidence, "db_instance").state is State.ABSENT


def test_nothing_named_nothing_asked(notebook: Notebook) -> None:
    reader = FakeCloud()
    collector = cloud.CloudCollector(reader, notebook, [])  # type: ignore[arg-type]
    assert len(collector.jobs("", "", "", "")) == 1


@pytest.mark.parametrize("state", [State.FORBIDDEN, State.ABSENT, State.UNREACHABLE])
def test_an_instance_that_cannot_be_read(notebook: Notebook, state: State) -> None:
    evidence, _dummy = collect(notebook, describe_db_instances=Observation(state, detail="why"))
    assert (first(evidence, "db_instance").state, first(evidence, "db_instance").detail) == (state, "why")
    assert evidence.first("aws.security_groups") is None


def test_denied_parts_make_it_partial(notebook: Notebook) -> None:
    denied = Observation(State.FORBIDDEN, detail="s3:GetBucketPolicy")
    hidden = Observation(State.FORBIDDEN, detail="iam:GetRolePolicy")
    evidence, _dummy = collect(notebook, get_bucket_policy=denied, get_role_policy=hidden)
    assert first(evidence, "bucket").state is State.PARTIAL
    assert first(evidence, "bucket").value["policy"] == {"denied": "s3:GetBucketPolicy"}
    assert first(evidence, "role_policies").state is State.PARTIAL
    assert first(evidence, "role_policies").detail == "iam:GetRolePolicy"


def test_nothing_of_a_bucket_may_be_seen(notebook: Notebook) -> None:
    methods = (
        "head_bucket",
        "get_bucket_versioning",
        "get_bucket_encryption",
        "get_bucket_policy",
        "get_public_access_block",
    )
    changes: dict[str, Any] = {name: Observation(State.FORBIDDEN, detail=f"s3:{name}") for name in methods}
    evidence, _dummy = collect(notebook, **changes)
    assert first(evidence, "bucket").state is State.FORBIDDEN
    changes["get_bucket_policy"] = Observation(State.UNREACHABLE, detail="AWS does not accept our credentials")
    evidence, _reader = collect(notebook, **changes)
    assert first(evidence, "bucket").detail == "AWS does not accept our credentials"


def test_a_bucket_or_role_that_does_not_exist(notebook: Notebook) -> None:
    gone = Observation(State.ABSENT, detail="NoSuchBucket")
    evidence, reader = collect(notebook, head_bucket=gone, get_role=Observation(State.ABSENT, detail="NoSuchEntity"))
    assert first(evidence, "bucket").state is State.ABSENT
    assert first(evidence, "role_policies").state is State.ABSENT
    assert "get_bucket_policy" not in [method for method, dummy in reader.asked]


@pytest.mark.parametrize("arn", [ROLE, ROLE.replace(":1:", ":2:")])
def test_a_role_of_another_account(notebook: Notebook, arn: str) -> None:
    caller = {"Account": "2", "Arn": "arn:user"}
    answer = {"Role": {"Arn": arn}} if arn != ROLE else Observation(State.ABSENT, detail="NoSuchEntity")
    evidence, _reader = collect(notebook, get_caller_identity=caller, get_role=answer)
    assert first(evidence, "role").state is State.UNREACHABLE
    assert first(evidence, "role_policies").detail == "the role is in account 1, our credentials are for account 2"


def test_a_policy_that_is_no_document() -> None:
    assert cloud.decode_policy("not json") == "not json"


def test_prefix_lists_are_read_where_a_rule_names_one(notebook: Notebook) -> None:
    rule = {"IpPermissions": [{"PrefixListIds": [{"PrefixListId": "pl-1"}]}]}
    entries = {"Entries": [{"Cidr": "10.0.0.0/8"}]}
    groups = {"SecurityGroups": [rule]}
    evidence, _dummy = collect(notebook, describe_security_groups=groups, get_managed_prefix_list_entries=entries)
    assert evidence.value("aws.prefix_lists") == {"items": {"pl-1": ["10.0.0.0/8"]}}
    denied = Observation(State.FORBIDDEN, detail="ec2:GetManagedPrefixListEntries")
    evidence, _dummy = collect(notebook, describe_security_groups=groups, get_managed_prefix_list_entries=denied)
    assert first(evidence, "prefix_lists").state is State.FORBIDDEN


CLUSTER = {
    "DBClusterMembers": [
        {"DBInstanceIdentifier": "reader", "IsClusterWriter": False},
        {"DBInstanceIdentifier": "writer", "IsClusterWriter": True},
    ]
}


@pytest.mark.parametrize(("kind", "member"), [("cluster", "writer"), ("cluster-ro", "reader")])
def test_an_aurora_cluster_leads_to_the_instance_behind_its_endpoint(
    notebook: Notebook, kind: str, member: str
) -> None:
    host = f"runs.{kind}-abc.us-west-2.rds.amazonaws.com"
    evidence, reader = collect(notebook, identifier="", host=host, describe_db_clusters={"DBClusters": [CLUSTER]})
    assert first(evidence, "db_cluster").value == CLUSTER
    assert first(evidence, "metrics").subject == member
    asked = [given for method, given in reader.asked if method == "describe_db_instances"]
    assert asked == [{"DBInstanceIdentifier": member}]


def test_a_cluster_that_may_not_be_read(notebook: Notebook) -> None:
    denied = Observation(State.FORBIDDEN, detail="rds:DescribeDBClusters")
    host = "runs.cluster-abc.us-west-2.rds.amazonaws.com"
    evidence, _dummy = collect(notebook, identifier="", host=host, describe_db_clusters=denied)
    assert first(evidence, "db_cluster").state is State.FORBIDDEN
