# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The account's people and places: operator, network, roles of servers, buckets."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from tests.lab import aws, settings

ISSUER = f"kubernetes.default.svc.{settings.CLUSTER_DOMAIN}"
AUDIENCE = "sts.amazonaws.com"
SERVER_POLICY = "mlflow-s3"
PREFIX = "mlops-platform-dev"
VPC_NETWORKS = ("10.90.0.0/16", "10.91.0.0/16")
SUBNETS = {
    f"{PREFIX}-nodes-a": ("10.90.0.0/26", "a"),
    f"{PREFIX}-database-a": ("10.90.0.64/26", "a"),
    f"{PREFIX}-database-b": ("10.90.0.128/26", "b"),
    f"{PREFIX}-pods-a": (settings.POD_NETWORK, "a"),
}
SUBNET_GROUP = f"{PREFIX}-database"
NODE_GROUP = f"{PREFIX}-nodes"
NODE_ROLE = f"{PREFIX}-node"
# Part of the VPC in which the lab has nothing.
NOBODY = "10.90.64.0/20"
# What a cautious administrator gives to the one who diagnoses: reads, and the two repairs there are in AWS.
OPERATOR_ACTIONS = (
    "rds:Describe*", "rds:ListTagsForResource", "ec2:Describe*", "ec2:GetManagedPrefixListEntries",
    "iam:GetRole", "iam:GetRolePolicy", "iam:GetPolicy",
    "iam:GetPolicyVersion", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies", "iam:ListOpenIDConnectProviders",
    "iam:GetOpenIDConnectProvider", "s3:ListBucket", "s3:GetBucket*", "s3:GetEncryptionConfiguration",
    "s3:GetLifecycleConfiguration", "cloudwatch:GetMetricData", "cloudwatch:GetMetricStatistics",
    "cloudwatch:ListMetrics", "cloudwatch:DescribeAlarms", "logs:Describe*", "logs:FilterLogEvents",
    "logs:GetLogEvents", "sts:GetCallerIdentity", "ec2:AuthorizeSecurityGroupIngress",
    "rds:StartDBInstance", "rds:StopDBInstance", "rds:CreateDBSnapshot",
)  # fmt: skip
PUBLIC_ACCESS_BLOCK = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
SERVER_OBJECT_ACTIONS = (
    "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """Where a server's database stands.

    Attributes:
        vpc_id: the account's one VPC.
        subnet_group: RDS subnet group.
        node_security_group_id: group of nodes and pods, shared by all servers.
        security_group_id: group in front of this server's database.
    """

    vpc_id: str
    subnet_group: str
    node_security_group_id: str
    security_group_id: str


def policy(*statements: Mapping[str, Any]) -> str:
    """A policy document of Allow statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **entry} for entry in statements]})


def create_account() -> None:
    """Create what all servers share: identity provider, operator, VPC, subnets, node interface, unrelated groups."""
    aws.admin("iam").create_open_id_connect_provider(
        Url=f"https://{ISSUER}", ClientIDList=[AUDIENCE], ThumbprintList=["0" * 40]
    )
    _create_shared_network()
    create_operator(aws.OPERATOR)


def create_operator(user: str, *, allowed: bool = True) -> None:
    """Create the IAM user of an operator with an access key, unless it is there; ``allowed`` gives it its actions."""
    if aws.operator_file(user).exists():
        return
    iam = aws.admin("iam")
    iam.create_user(UserName=user)
    if allowed:
        document = policy({"Action": list(OPERATOR_ACTIONS), "Resource": "*"})
        iam.put_user_policy(UserName=user, PolicyName="diagnose", PolicyDocument=document)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    content = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
    settings.write_text(aws.operator_file(user), json.dumps(content), mode=0o600)


def operator_arn(user: str) -> str:
    """ARN of an operator's IAM user."""
    return f"arn:aws:iam::{settings.AWS_ACCOUNT_ID}:user/{user}"


def _create_shared_network() -> None:
    ec2 = aws.admin("ec2")
    vpc_id = ec2.create_vpc(CidrBlock=VPC_NETWORKS[0], TagSpecifications=_name("vpc", PREFIX))["Vpc"]["VpcId"]
    ec2.associate_vpc_cidr_block(VpcId=vpc_id, CidrBlock=VPC_NETWORKS[1])
    subnets = {}
    for name, (cidr, zone) in SUBNETS.items():
        subnets[name] = ec2.create_subnet(
            VpcId=vpc_id,
            CidrBlock=cidr,
            AvailabilityZone=f"{settings.AWS_REGION}{zone}",
            TagSpecifications=_name("subnet", name),
        )["Subnet"]["SubnetId"]
    aws.admin("rds").create_db_subnet_group(
        DBSubnetGroupName=SUBNET_GROUP,
        DBSubnetGroupDescription="databases",
        SubnetIds=[subnets[f"{PREFIX}-database-a"], subnets[f"{PREFIX}-database-b"]],
    )
    nodes = _create_group(NODE_GROUP, vpc_id, "nodes and pods of the cluster")
    ec2.authorize_security_group_ingress(
        GroupId=nodes, IpPermissions=[_permission("-1", None, group=nodes, description="node to node")]
    )
    prefixes = ipaddress.ip_network(settings.POD_NETWORK).subnets(new_prefix=28)
    ec2.create_network_interface(
        SubnetId=subnets[f"{PREFIX}-nodes-a"],
        PrivateIpAddress=settings.NODE_ADDRESS,
        Groups=[nodes],
        Ipv4Prefixes=[{"Ipv4Prefix": str(prefix)} for prefix in prefixes],
        Description=f"aws-K8S-{settings.NODE_NAME}",
    )
    _create_unrelated_groups(vpc_id)


def _create_unrelated_groups(vpc_id: str) -> None:
    """Groups that look alike and have nothing to do with MLflow."""
    ec2 = aws.admin("ec2")
    unrelated = (("bastion", 22, "203.0.113.0/28"), ("load-balancer", 443, "0.0.0.0/0"), ("airflow-rds", 5432, NOBODY))
    for name, port, cidr in unrelated:
        group = _create_group(f"{PREFIX}-{name}", vpc_id, name)
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[_permission("tcp", port, cidr=cidr)])


def create_network(name: str) -> Network:
    """Create the security group ``<name>-rds`` for one server's database.

    Its first rule lets the nodes' group reach 5432; two more have nothing to do with the server.
    """
    ec2 = aws.admin("ec2")
    nodes = _find_group(NODE_GROUP)
    group = _create_group(f"{name}-rds", nodes["VpcId"], f"database of {name}")
    ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            _permission("tcp", 5432, group=nodes["GroupId"], description="MLflow pods"),
            _permission("tcp", 5432, cidr="10.90.0.200/32", description="database administrators"),
            _permission("tcp", 9187, cidr=NOBODY, description="metrics exporter"),
        ],
    )
    return Network(nodes["VpcId"], SUBNET_GROUP, nodes["GroupId"], group)


def remove_network(name: str) -> None:
    """Remove the security group of ``create_network``, if it is there."""
    groups = _groups(f"{name}-rds")
    for group in groups:
        aws.admin("ec2").delete_security_group(GroupId=group["GroupId"])


def create_bucket(name: str) -> None:
    """Create a private bucket in the lab's region, encrypted as every bucket of AWS is."""
    s3 = aws.admin("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": settings.AWS_REGION})
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(PUBLIC_ACCESS_BLOCK, True))
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}
    s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})


def remove_bucket(name: str) -> None:
    """Remove a bucket with everything in it, if it is there."""
    s3 = aws.admin("s3")
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            keys = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
            if keys:
                s3.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})
        s3.delete_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise


def trust_policy(namespace: str, service_account: str) -> str:
    """Trust policy that lets pods of one service account assume a role (IRSA)."""
    provider = f"arn:aws:iam::{settings.AWS_ACCOUNT_ID}:oidc-provider/{ISSUER}"
    subject = f"system:serviceaccount:{namespace}:{service_account}"
    return policy(
        {
            "Principal": {"Federated": provider},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {f"{ISSUER}:aud": AUDIENCE, f"{ISSUER}:sub": subject}},
        }
    )


def server_policy(bucket: str) -> str:
    """What a tracking server needs of its bucket."""
    arn = f"arn:aws:s3:::{bucket}"
    return policy(
        {"Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": arn},
        {"Action": list(SERVER_OBJECT_ACTIONS), "Resource": f"{arn}/*"},
    )


def create_server_role(name: str, namespace: str, service_account: str, bucket: str) -> str:
    """Create the IAM role ``name`` for a server's pods, with the inline policy ``mlflow-s3``; return its ARN."""
    iam = aws.admin("iam")
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust_policy(namespace, service_account))["Role"]
    iam.put_role_policy(RoleName=name, PolicyName=SERVER_POLICY, PolicyDocument=server_policy(bucket))
    return str(role["Arn"])


def create_node_role() -> None:
    """Create the nodes' own role, unless it is there; it may do what a kubelet needs, and nothing with buckets."""
    iam = aws.admin("iam")
    trusted = {"Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    try:
        iam.create_role(RoleName=NODE_ROLE, AssumeRolePolicyDocument=policy(trusted))
    except iam.exceptions.EntityAlreadyExistsException:
        return
    allowed = {"Action": ["ec2:Describe*", "ecr:BatchGetImage", "ecr:GetAuthorizationToken"], "Resource": "*"}
    iam.put_role_policy(RoleName=NODE_ROLE, PolicyName="worker-node", PolicyDocument=policy(allowed))


def remove_server_role(name: str) -> None:
    """Remove a role with its inline and attached policies, if it is there."""
    iam = aws.admin("iam")
    try:
        for policy_name in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=policy_name)
        for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
        iam.delete_role(RoleName=name)
    except iam.exceptions.NoSuchEntityException:
        return


def create_database_interface(identifier: str, address: str, security_group_id: str) -> None:
    """Create the network interface that RDS keeps in the database's subnet."""
    ec2 = aws.admin("ec2")
    last = int(address.rpartition(".")[2])
    name = f"{PREFIX}-database-{'a' if last < 128 else 'b'}"
    subnet = ec2.describe_subnets(Filters=[{"Name": "tag:Name", "Values": [name]}])["Subnets"][0]
    ec2.create_network_interface(
        SubnetId=subnet["SubnetId"],
        PrivateIpAddress=address,
        Groups=[security_group_id],
        Description="RDSNetworkInterface",
        TagSpecifications=_name("network-interface", identifier),
    )


def remove_database_interface(identifier: str) -> None:
    """Remove the interface of ``create_database_interface``, if it is there."""
    ec2 = aws.admin("ec2")
    filters = [{"Name": "tag:Name", "Values": [identifier]}]
    for interface in ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]:
        ec2.delete_network_interface(NetworkInterfaceId=interface["NetworkInterfaceId"])


def _name(resource_type: str, name: str) -> list[dict[str, Any]]:
    return [{"ResourceType": resource_type, "Tags": [{"Key": "Name", "Value": name}]}]


def _create_group(name: str, vpc_id: str, description: str) -> str:
    answer = aws.admin("ec2").create_security_group(
        GroupName=name, Description=description, VpcId=vpc_id, TagSpecifications=_name("security-group", name)
    )
    return str(answer["GroupId"])


def _groups(name: str) -> list[dict[str, Any]]:
    answer = aws.admin("ec2").describe_security_groups(Filters=[{"Name": "group-name", "Values": [name]}])
    groups: list[dict[str, Any]] = answer["SecurityGroups"]
    return groups


def _find_group(name: str) -> dict[str, Any]:
    return _groups(name)[0]


def _permission(
    protocol: str, port: int | None, *, cidr: str | None = None, group: str | None = None, description: str = ""
) -> dict[str, Any]:
    permission: dict[str, Any] = {"IpProtocol": protocol}
    if port is not None:
        permission |= {"FromPort": port, "ToPort": port}
    if cidr:
        permission["IpRanges"] = [{"CidrIp": cidr, "Description": description}]
    if group:
        permission["UserIdGroupPairs"] = [{"GroupId": group, "Description": description}]
    return permission
