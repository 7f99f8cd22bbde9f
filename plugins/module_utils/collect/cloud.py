# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWS describes of one server's database, role and bucket."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..clients.aws import CloudReader
from ..clients.calls import Observation
from ..core.discovery_stores import shared_endpoint
from ..core.evidence import CLOUD, Evidence, State
from ..core.iam_policy import as_list
from .threads import Job, Notebook, together

EVENT_MINUTES = 24 * 60
METRIC_MINUTES = 60
METRIC_SECONDS = 60
METRICS = {
    "DatabaseConnections": "Average",
    "CPUUtilization": "Average",
    "FreeStorageSpace": "Minimum",
    "FreeableMemory": "Minimum",
    "ReadLatency": "Average",
    "WriteLatency": "Average",
    "BurstBalance": "Minimum",
    "EBSIOBalance%": "Minimum",
    "EBSByteBalance%": "Minimum",
}
MOST_ADDRESSES = 100
BUCKET_PARTS = {
    "versioning": ("get_bucket_versioning", "Status"),
    "encryption": ("get_bucket_encryption", "ServerSideEncryptionConfiguration"),
    "policy": ("get_bucket_policy", "Policy"),
    "public_access_block": ("get_public_access_block", "PublicAccessBlockConfiguration"),
}


def referenced_groups(groups: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the security groups that inbound rules name as their source."""
    found = {
        pair["GroupId"]
        for group in groups
        for rule in group.get("IpPermissions") or []
        for pair in rule.get("UserIdGroupPairs") or []
        if pair.get("GroupId")
    }
    return sorted(found)


def prefix_lists_of(groups: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the prefix lists that inbound rules name as their source."""
    found = {
        item["PrefixListId"]
        for group in groups
        for rule in group.get("IpPermissions") or []
        for item in rule.get("PrefixListIds") or []
    }
    return sorted(found)


def metric_queries(identifier: str) -> list[dict[str, Any]]:
    """Build one question for every metric of an instance."""
    return [
        {
            "Id": name[0].lower() + name[1:].rstrip("%"),
            "Label": name,
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/RDS",
                    "MetricName": name,
                    "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": identifier}],
                },
                "Period": METRIC_SECONDS,
                "Stat": statistic,
            },
        }
        for name, statistic in METRICS.items()
    ]


def metric_points(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return each metric's points, oldest first."""
    return {
        row["Label"]: {
            "points": sorted([at, value] for at, value in zip(row["Timestamps"], row["Values"], strict=False))
        }
        for row in answer.get("MetricDataResults") or []
    }


def trusted_providers(role: Mapping[str, Any]) -> list[str]:
    """Return the OpenID Connect providers that a role's trust policy names."""
    found = set()
    for statement in as_list((role.get("AssumeRolePolicyDocument") or {}).get("Statement")):
        principal = statement.get("Principal") or {}
        trusted = as_list(principal.get("Federated")) if isinstance(principal, dict) else []
        found |= {str(arn) for arn in trusted if ":oidc-provider/" in str(arn)}
    return sorted(found)


def combined(value: Any, parts: Iterable[Observation]) -> Observation:
    """Bind several calls into one observation: what was denied makes it partial."""
    lost = sorted({part.detail for part in parts if part.state in (State.FORBIDDEN, State.UNREACHABLE)})
    return Observation(State.PARTIAL if lost else State.OK, value, ", ".join(lost))


class CloudCollector:
    """Reads what belongs to one server.

    Args:
        reader: AWS.
        notebook: where times come from.
        addresses: the nodes' and pods' addresses, whose network interfaces tell their security groups.
    """

    def __init__(self, reader: CloudReader, notebook: Notebook, addresses: Iterable[str]) -> None:
        self.reader = reader
        self.notebook = notebook
        self.addresses = sorted(set(addresses))[:MOST_ADDRESSES]

    def jobs(self, identifier: str, host: str, role_arn: str, bucket: str) -> list[Job]:
        """Return jobs for all that is named; an empty name is not asked for.

        Args:
            identifier: RDS instance identifier.
            host: database host, to find the instance when the identifier is unknown.
            role_arn: IAM role of the server.
            bucket: S3 bucket.
        """
        jobs: list[Job] = [self._caller]
        if identifier or host:
            jobs.append(lambda: self.database(identifier, host))
        if identifier:
            jobs += [lambda: self._events(identifier), lambda: self._metrics(identifier)]
        if role_arn:
            jobs.append(lambda: self.role(role_arn))
        if bucket:
            jobs.append(lambda: self._bucket(bucket))
        return jobs

    def database(self, identifier: str, host: str) -> list[Evidence]:
        """Read the instance and the network around it; of an Aurora cluster the one that its endpoint leads to."""
        kind, cluster = shared_endpoint(host)
        if not identifier and kind.startswith("cluster"):
            return self._cluster(cluster, reader=kind == "cluster-ro")
        if identifier:
            seen = self.reader.call("rds", "describe_db_instances", DBInstanceIdentifier=identifier)
        else:
            seen = self.reader.call("rds", "describe_db_instances")
        if not seen.seen:
            return [self._note("db_instance", identifier or host, seen)]
        found = [item for item in seen.value["DBInstances"] if identifier or self._address(item) == host]
        if not found:
            reason = f"no RDS instance has the address {host}"
            return [self._note("db_instance", host, Observation(State.ABSENT, detail=reason))]
        instance = found[0]
        name = instance["DBInstanceIdentifier"]
        evidence = [self._note("db_instance", name, Observation(State.OK, instance))]
        more: list[Job] = [lambda: self._security_groups(instance), lambda: self._subnets(instance)]
        more.append(lambda: self._network_acls(instance))
        if not identifier:
            more += [lambda: self._events(name), lambda: self._metrics(name)]
        return evidence + together(more, self.reader.deadline)

    def _cluster(self, name: str, *, reader: bool) -> list[Evidence]:
        """Read an Aurora cluster, and its writer (or a reader) with the network around it."""
        seen = self.reader.call("rds", "describe_db_clusters", DBClusterIdentifier=name)
        if not seen.seen or not seen.value["DBClusters"]:
            return [self._note("db_cluster", name, seen if not seen.seen else Observation(State.ABSENT))]
        cluster = seen.value["DBClusters"][0]
        evidence = [self._note("db_cluster", name, Observation(State.OK, cluster))]
        members = sorted(cluster.get("DBClusterMembers") or [], key=lambda row: bool(row["IsClusterWriter"]) == reader)
        if not members:
            return evidence
        member = members[0]["DBInstanceIdentifier"]
        jobs: list[Job] = [lambda: self.database(member, ""), lambda: self._events(member)]
        return evidence + together([*jobs, lambda: self._metrics(member)], self.reader.deadline)

    @staticmethod
    def _address(instance: Mapping[str, Any]) -> str:
        return str((instance.get("Endpoint") or {}).get("Address", ""))

    def _note(self, what: str, subject: str, seen: Observation) -> Evidence:
        return self.notebook.note(f"aws.{what}", CLOUD, subject, seen)

    def _items(self, what: str, subject: str, seen: Observation, key: str) -> Evidence:
        value = Observation(seen.state, {"items": seen.value[key]}, seen.detail) if seen.seen else seen
        return self._note(what, subject, value)

    def _caller(self) -> list[Evidence]:
        seen = self.reader.call("sts", "get_caller_identity")
        if seen.seen:
            region = self.reader.region
            seen = Observation(State.OK, {"account": seen.value["Account"], "arn": seen.value["Arn"], "region": region})
        return [self._note("caller_identity", "", seen)]

    def _events(self, identifier: str) -> list[Evidence]:
        seen = self.reader.call(
            "rds", "describe_events", SourceIdentifier=identifier, SourceType="db-instance", Duration=EVENT_MINUTES
        )
        return [self._items("rds_events", identifier, seen, "Events")]

    def _metrics(self, identifier: str) -> list[Evidence]:
        now = datetime.datetime.fromisoformat(self.notebook.clock().replace("Z", "+00:00"))
        seen = self.reader.call(
            "cloudwatch",
            "get_metric_data",
            MetricDataQueries=metric_queries(identifier),
            StartTime=now - datetime.timedelta(minutes=METRIC_MINUTES),
            EndTime=now,
        )
        if seen.seen:
            seen = Observation(State.OK, metric_points(seen.value))
        return [self._note("metrics", identifier, seen)]

    def _security_groups(self, instance: Mapping[str, Any]) -> list[Evidence]:
        """Read the instance's groups and the interfaces that decide who belongs to the groups which they name."""
        subject = instance["DBInstanceIdentifier"]
        ids = [item["VpcSecurityGroupId"] for item in instance.get("VpcSecurityGroups") or []]
        if not ids:
            return [self._note("security_groups", subject, Observation(State.OK, {"items": []}))]
        seen = self.reader.call("ec2", "describe_security_groups", GroupIds=ids)
        evidence = [self._items("security_groups", subject, seen, "SecurityGroups")]
        described = seen.value["SecurityGroups"] if seen.seen else []
        evidence += self._prefix_lists(subject, prefix_lists_of(described))
        groups = referenced_groups(described)
        filters = []
        if groups:
            filters.append({"Name": "group-id", "Values": groups})
        if self.addresses:
            filters.append({"Name": "addresses.private-ip-address", "Values": self.addresses})
        parts = [self.reader.call("ec2", "describe_network_interfaces", Filters=[item]) for item in filters]
        rows = [row for part in parts if part.seen for row in part.value["NetworkInterfaces"]]
        found = {row["NetworkInterfaceId"]: row for row in rows}
        lost = parts and not any(part.seen for part in parts)
        value = parts[0] if lost else combined({"items": list(found.values())}, parts)
        return [*evidence, self._note("network_interfaces", subject, value)]

    def _prefix_lists(self, subject: str, ids: list[str]) -> list[Evidence]:
        """Read the ranges of prefix lists, of which a group's description has only the names."""
        if not ids:
            return []
        seen = {name: self.reader.call("ec2", "get_managed_prefix_list_entries", PrefixListId=name) for name in ids}
        ranges = {name: [row["Cidr"] for row in part.value["Entries"]] for name, part in seen.items() if part.seen}
        parts = list(seen.values())
        value = combined({"items": ranges}, parts) if ranges else parts[0]
        return [self._note("prefix_lists", subject, value)]

    def _subnet_ids(self, instance: Mapping[str, Any]) -> list[str]:
        rows = (instance.get("DBSubnetGroup") or {}).get("Subnets") or []
        return [row["SubnetIdentifier"] for row in rows]

    def _subnets(self, instance: Mapping[str, Any]) -> list[Evidence]:
        ids = self._subnet_ids(instance)
        if not ids:
            return []
        seen = self.reader.call("ec2", "describe_subnets", SubnetIds=ids)
        return [self._items("subnets", instance["DBInstanceIdentifier"], seen, "Subnets")]

    def _network_acls(self, instance: Mapping[str, Any]) -> list[Evidence]:
        ids = self._subnet_ids(instance)
        if not ids:
            return []
        seen = self.reader.call(
            "ec2", "describe_network_acls", Filters=[{"Name": "association.subnet-id", "Values": ids}]
        )
        return [self._items("network_acls", instance["DBInstanceIdentifier"], seen, "NetworkAcls")]

    def role(self, role_arn: str) -> list[Evidence]:
        """Read the role; one of the same name in another account is none of the server's."""
        role = role_arn.rpartition("/")[2]
        seen = self.reader.call("iam", "get_role", RoleName=role)
        if seen.state is State.ABSENT or (seen.seen and seen.value["Role"]["Arn"] != role_arn):
            seen = self._in_its_account(role_arn, seen)
        facts = seen.value["Role"] if seen.seen else None
        policies = seen if seen.state is not State.OK else self._policies(role, facts or {})
        return [
            self._note("role", role, Observation(seen.state, facts, seen.detail)),
            self._note("role_policies", role, policies),
            *[self._provider(arn) for arn in trusted_providers(facts or {})],
        ]

    def _provider(self, arn: str) -> Evidence:
        """Read an identity provider that the role trusts: a trust in one that is gone admits nobody."""
        seen = self.reader.call("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)
        if seen.seen:
            seen = Observation(State.OK, {"audiences": seen.value.get("ClientIDList") or []})
        return self._note("identity_provider", arn, seen)

    def _in_its_account(self, role_arn: str, seen: Observation) -> Observation:
        """Return an answer about a role, unless our credentials belong to another account than the role."""
        caller = self.reader.call("sts", "get_caller_identity")
        wanted, ours = role_arn.split(":")[4], caller.value["Account"] if caller.seen else "unknown"
        if wanted == ours:
            return Observation(State.ABSENT, detail=seen.detail or f"no role {role_arn}")
        reason = f"the role is in account {wanted}, our credentials are for account {ours}"
        return Observation(State.UNREACHABLE, detail=reason)

    def _policies(self, role: str, facts: Mapping[str, Any]) -> Observation:
        """Read every policy that limits or grants what the role may do."""
        inline_names = self.reader.call("iam", "list_role_policies", RoleName=role)
        attached_names = self.reader.call("iam", "list_attached_role_policies", RoleName=role)
        parts = [inline_names, attached_names]
        if not inline_names.seen and not attached_names.seen:
            return inline_names
        inline, attached = {}, {}
        for name in inline_names.value["PolicyNames"] if inline_names.seen else []:
            seen = self.reader.call("iam", "get_role_policy", RoleName=role, PolicyName=name)
            parts.append(seen)
            if seen.seen:
                inline[name] = seen.value["PolicyDocument"]
        for row in attached_names.value["AttachedPolicies"] if attached_names.seen else []:
            seen = self._managed(row["PolicyArn"])
            parts.append(seen)
            if seen.seen:
                attached[row["PolicyArn"]] = seen.value
        boundary_arn = (facts.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn")
        boundary = self._managed(boundary_arn) if boundary_arn else Observation(State.OK)
        return combined({"inline": inline, "attached": attached, "boundary": boundary.value}, [*parts, boundary])

    def _managed(self, arn: str) -> Observation:
        policy = self.reader.call("iam", "get_policy", PolicyArn=arn)
        if not policy.seen:
            return policy
        version = policy.value["Policy"]["DefaultVersionId"]
        seen = self.reader.call("iam", "get_policy_version", PolicyArn=arn, VersionId=version)
        return Observation(State.OK, seen.value["PolicyVersion"]["Document"]) if seen.seen else seen

    def _bucket(self, bucket: str) -> list[Evidence]:
        """Ask for the bucket itself; its other properties only when it exists."""
        head = self.reader.call("s3", "head_bucket", Bucket=bucket)
        if head.state in (State.ABSENT, State.UNREACHABLE):
            return [self._note("bucket", bucket, head)]
        value: dict[str, Any] = {"region": head.value.get("BucketRegion", "") if head.seen else {"denied": head.detail}}
        parts = [head]
        for name, (method, key) in BUCKET_PARTS.items():
            seen = self.reader.call("s3", method, Bucket=bucket)
            parts.append(seen)
            value[name] = seen.value.get(key) if seen.seen else None
            if seen.state is State.FORBIDDEN:
                value[name] = {"denied": seen.detail}
            elif seen.state is State.UNREACHABLE:
                value[name] = {"unreachable": seen.detail}
        if not any(part.seen for part in parts):
            # a refused HEAD has no body, so only the other calls tell rejected credentials from a missing right
            return [
                self._note("bucket", bucket, next((part for part in parts if part.state is State.UNREACHABLE), head))
            ]
        if isinstance(value["policy"], str):
            value["policy"] = decode_policy(value["policy"])
        return [self._note("bucket", bucket, combined(value, parts))]


def decode_policy(text: str) -> Any:
    """Return a bucket policy's document, or its text when it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text
