# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The artifact bucket: can a deleted model be brought back, and can a stranger read it."""

from __future__ import annotations

from typing import Any

from ..core.evidence import CLOUD, Evidence
from ..core.findings import Context
from .items import Item, Patch, missing, ok, unknown, unseen, weak

RIGHTS = {
    "versioning": "s3:GetBucketVersioning",
    "encryption": "s3:GetEncryptionConfiguration",
    "public_access_block": "s3:GetBucketPublicAccessBlock",
}
BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
NONCURRENT_DAYS = 90


def judge(context: Context) -> list[Item]:
    """Judge versioning, encryption and the public access block."""
    return [versioning(context), encryption(context), public_access(context)]


def part(context: Context, id_: str, name: str) -> tuple[Evidence | None, Any, Item | None]:
    """Return the look at the bucket, one of its parts, and the item that says why the part was not seen."""
    look, right = context.evidence.first("aws.bucket", CLOUD), RIGHTS[name]
    target = context.target
    if target.artifact_endpoint:
        why = f"artifacts are in an S3-compatible store at {target.artifact_endpoint}, which AWS knows nothing of"
        return look, None, unknown(id_, why, "the store's own settings")
    if look is None:
        return look, None, unknown(id_, "it is not known which bucket the artifacts are in", "mlflow_artifact_bucket")
    if not look.seen:
        return look, None, unseen(id_, look, right)
    value = look.value.get(name)
    if isinstance(value, dict) and "denied" in value:
        return look, None, unknown(id_, f"not allowed to look: {value['denied']}", str(value["denied"]), look)
    if isinstance(value, dict) and "unreachable" in value:
        return look, None, unknown(id_, f"could not look: {value['unreachable']}", right, look)
    return look, value, None


def versioning(context: Context) -> Item:
    id_ = "storage.versioning"
    look, value, why = part(context, id_, "versioning")
    if why is not None:
        return why
    bucket = context.target.bucket
    if value == "Enabled":
        return ok(id_, f"versions of the objects in {bucket} are kept", look)
    command = f"aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled"
    block = "\n".join(
        [
            'resource "aws_s3_bucket_versioning" "artifacts" {',
            f'  bucket = "{bucket}"',
            "  versioning_configuration {",
            '    status = "Enabled"',
            "  }",
            "}",
            f"# and a lifecycle rule that expires noncurrent versions, after {NONCURRENT_DAYS} days for example",
        ]
    )
    patches = (Patch("terraform", block), Patch("aws", command))
    if value == "Suspended":
        return weak(id_, f"versioning of {bucket} is suspended", patches, look)
    return missing(id_, f"{bucket} keeps no versions", patches, look)


def encryption(context: Context) -> Item:
    id_ = "storage.encryption"
    look, value, why = part(context, id_, "encryption")
    if why is not None:
        return why
    bucket = context.target.bucket
    rules = [row.get("ApplyServerSideEncryptionByDefault") or {} for row in (value or {}).get("Rules") or []]
    kinds = [row["SSEAlgorithm"] for row in rules if row.get("SSEAlgorithm")]
    if kinds:
        return ok(id_, f"objects in {bucket} are encrypted with {kinds[0]}", look)
    rule = '{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}'
    command = f"aws s3api put-bucket-encryption --bucket {bucket} --server-side-encryption-configuration '{rule}'"
    block = "\n".join(
        [
            'resource "aws_s3_bucket_server_side_encryption_configuration" "artifacts" {',
            f'  bucket = "{bucket}"',
            "  rule {",
            "    apply_server_side_encryption_by_default {",
            '      sse_algorithm = "AES256"',
            "    }",
            "  }",
            "}",
        ]
    )
    patches = (Patch("terraform", block), Patch("aws", command))
    return missing(id_, f"{bucket} has no default encryption", patches, look)


def public_access(context: Context) -> Item:
    id_ = "storage.public_access"
    look, value, why = part(context, id_, "public_access_block")
    if why is not None:
        return why
    bucket = context.target.bucket
    off = [name for name in BLOCKS if not (value or {}).get(name)]
    if not off:
        return ok(id_, f"{bucket} blocks all public access", look)
    settings = ",".join(f"{name}=true" for name in BLOCKS)
    command = f"aws s3api put-public-access-block --bucket {bucket} --public-access-block-configuration {settings}"
    rows = ("block_public_acls      ", "ignore_public_acls     ", "block_public_policy    ", "restrict_public_buckets")
    block = "\n".join(
        [
            'resource "aws_s3_bucket_public_access_block" "artifacts" {',
            f'  bucket                  = "{bucket}"',
            *(f"  {row} = true" for row in rows),
            "}",
        ]
    )
    patches = (Patch("terraform", block), Patch("aws", command))
    if len(off) == len(BLOCKS):
        return missing(id_, f"{bucket} itself blocks no public access", patches, look)
    return weak(id_, f"{bucket} does not set {', '.join(off)}", patches, look)
