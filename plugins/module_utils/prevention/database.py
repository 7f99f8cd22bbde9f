# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The RDS instance: what saves the data, and what will stop being supported."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ..core.discovery_stores import SERVERLESS, dialect
from ..core.evidence import CLOUD, Evidence, State
from ..core.findings import Context, parse_time
from .items import Item, Patch, missing, ok, unknown, unseen, weak
from .lifecycle import AUTHORITIES, STANDARD_SUPPORT

RETENTION_DAYS = 7
HEADROOM = 1.26
"""AWS recommends a maximum of at least 26 % more than what is allocated (RDS user guide, storage autoscaling)."""
GROWTH = 2
SOON = timedelta(days=180)
CERTIFICATE_SOON = timedelta(days=30)
RECENT_BACKUP = timedelta(hours=24)
NEW_AUTHORITY = "rds-ca-rsa2048-g1"
RIGHT = "rds:DescribeDBInstances"
ITEMS = (
    "database.automated_backups",
    "database.backup_retention",
    "database.deletion_protection",
    "database.multi_az",
    "database.storage_autoscaling",
    "database.engine_end_of_life",
    "database.certificate_authority",
)
Instance = Mapping[str, Any]


def instance_of(context: Context) -> tuple[Evidence | None, Instance | None]:
    """Return what was seen of the RDS instance, and the instance when it was."""
    look = context.evidence.first("aws.db_instance", CLOUD)
    return look, look.value if look is not None and look.seen else None


def without_instance(context: Context, id_: str, look: Evidence | None) -> Item:
    """Say why there is no RDS instance to judge, and what would reveal one."""
    kind = dialect(context.target.backend)
    if kind in SERVERLESS:
        return unknown(id_, f"the backend store is a {kind} in the pod: nothing backs it up", "a PostgreSQL database")
    if look is None:
        return unknown(id_, "it is not known which RDS instance the database is", "mlflow_db_instance_identifier")
    if look.state in (State.FORBIDDEN, State.UNREACHABLE):
        return unseen(id_, look, RIGHT)
    return unknown(id_, f"no such RDS instance: {look.detail}", "mlflow_db_instance_identifier", look)


def judge(context: Context) -> list[Item]:
    """Judge everything about the instance; without one every item is unknown."""
    look, instance = instance_of(context)
    if instance is None:
        return [without_instance(context, id_, look) for id_ in ITEMS]
    name = str(instance["DBInstanceIdentifier"])
    return [
        automated_backups(context, instance, name, look),
        backup_retention(instance, name, look),
        switch(instance, name, look, "deletion_protection", "DeletionProtection", "--deletion-protection"),
        switch(instance, name, look, "multi_az", "MultiAZ", "--multi-az"),
        storage_autoscaling(instance, name, look),
        engine_end_of_life(context, instance, name, look),
        certificate_authority(context, instance, name, look),
    ]


def change(name: str, option: str, terraform: str, note: str = "") -> tuple[Patch, ...]:
    """Return an RDS setting as Terraform, which most likely owns the instance, and as a command."""
    command = f"aws rds modify-db-instance --db-instance-identifier {name} {option} --apply-immediately"
    return (
        Patch("terraform", f"# in the aws_db_instance {name}\n{terraform}"),
        Patch("aws", f"{note and f'# {note}' + chr(10)}{command}"),
    )


def days_to_keep(instance: Instance) -> int:
    return int(instance.get("BackupRetentionPeriod") or 0)


def keep(name: str) -> tuple[Patch, ...]:
    option = f"--backup-retention-period {RETENTION_DAYS}"
    return change(name, option, f"backup_retention_period = {RETENTION_DAYS}")


def automated_backups(context: Context, instance: Instance, name: str, look: Evidence | None) -> Item:
    """Backups are on when they are kept for a day or more; the latest restorable time says whether they work."""
    id_ = "database.automated_backups"
    if not days_to_keep(instance):
        return missing(id_, f"{name} keeps no automated backups", keep(name), look)
    latest = instance.get("LatestRestorableTime")
    if latest and context.now - parse_time(latest) > RECENT_BACKUP:
        check = Patch("aws", f"aws rds describe-events --source-identifier {name} --source-type db-instance")
        return weak(id_, f"{name} can be restored only up to {latest}: backups are behind", (check,), look)
    until = f", restorable up to {latest}" if latest else ""
    return ok(id_, f"{name} is backed up every day{until}", look)


def backup_retention(instance: Instance, name: str, look: Evidence | None) -> Item:
    days = days_to_keep(instance)
    summary = f"backups of {name} are kept for {days} day{'' if days == 1 else 's'}"
    if days >= RETENTION_DAYS:
        return ok("database.backup_retention", summary, look)
    if not days:
        return missing("database.backup_retention", f"backups of {name} are not kept", keep(name), look)
    return weak("database.backup_retention", f"{summary}, less than {RETENTION_DAYS}", keep(name), look)


def switch(instance: Instance, name: str, look: Evidence | None, slug: str, field: str, option: str) -> Item:
    """Judge a setting that is on or off."""
    id_ = f"database.{slug}"
    if field not in instance:
        return unknown(id_, f"AWS does not tell {field} of {name}", RIGHT, look)
    words = slug.replace("_", " ")
    if instance[field]:
        return ok(id_, f"{words} of {name} is on", look)
    return missing(id_, f"{words} of {name} is off", change(name, option, f"{slug} = true"), look)


def storage_autoscaling(instance: Instance, name: str, look: Evidence | None) -> Item:
    """A maximum that the volume has nearly reached helps no more."""
    id_ = "database.storage_autoscaling"
    allocated = int(instance.get("AllocatedStorage") or 0)
    most = int(instance.get("MaxAllocatedStorage") or 0)
    wanted = max(allocated * GROWTH, 1)
    patches = change(name, f"--max-allocated-storage {wanted}", f"max_allocated_storage = {wanted}")
    if most <= allocated:
        return missing(id_, f"{name} has {allocated} GiB and does not grow", patches, look)
    if most < allocated * HEADROOM:
        return weak(id_, f"{name} has {allocated} GiB and grows only to {most} GiB", patches, look)
    return ok(id_, f"{name} has {allocated} GiB and grows to {most} GiB", look)


def engine_end_of_life(context: Context, instance: Instance, name: str, look: Evidence | None) -> Item:
    """Ask AWS for the end of standard support; what it does not tell stands in our own table."""
    id_ = "database.engine_end_of_life"
    engine, version = str(instance.get("Engine", "")), str(instance.get("EngineVersion", ""))
    major = version.partition(".")[0]
    told = context.evidence.first("aws.engine_lifecycle", CLOUD)
    end = told.value.get("standard_support_end") if told is not None and told.seen else None
    end = end or STANDARD_SUPPORT.get((engine, major))
    if not end:
        return unknown(
            id_, f"the end of {engine} {major} is not known here", "rds:DescribeDBMajorEngineVersions", look, told
        )
    left = day(end) - context.now
    upgrade = "--engine-version <the newest of the next major version> --allow-major-version-upgrade"
    note = "take a snapshot first; try it on a restored copy; it is an outage of minutes"
    terraform = 'engine_version = "<the newest of the next major version>"\nallow_major_version_upgrade = true'
    patches = change(name, upgrade, terraform, note)
    if left <= timedelta():
        return missing(id_, f"{engine} {version} of {name} left standard support on {end}", patches, look, told)
    if left <= SOON:
        return weak(id_, f"{engine} {version} of {name} leaves standard support on {end}", patches, look, told)
    return ok(id_, f"{engine} {version} of {name} is in standard support until {end}", look, told)


def certificate_authority(context: Context, instance: Instance, name: str, look: Evidence | None) -> Item:
    """Judge the certificate of the server and the authority that signed it."""
    id_ = "database.certificate_authority"
    details = instance.get("CertificateDetails") or {}
    authority = str(instance.get("CACertificateIdentifier") or details.get("CAIdentifier") or "")
    told = context.evidence.first("aws.certificate_authority", CLOUD)
    end = told.value.get("valid_till") if told is not None and told.seen else None
    end = end or AUTHORITIES.get(authority)
    own = details.get("ValidTill")
    note = "clients that verify the certificate need the bundle global-bundle.pem first"
    renew = change(
        name, f"--ca-certificate-identifier {NEW_AUTHORITY}", f'ca_cert_identifier = "{NEW_AUTHORITY}"', note
    )
    if not end:
        return unknown(
            id_, f"the end of {authority or 'its authority'} is not known here", "rds:DescribeCertificates", look, told
        )
    until = f"{authority} is valid until {end[:10]}"
    if day(end) <= context.now:
        return missing(id_, f"{authority}, the authority of {name}, expired on {end[:10]}", renew, look, told)
    if day(end) - context.now <= SOON:
        return weak(id_, f"{authority}, the authority of {name}, expires on {end[:10]}", renew, look, told)
    if own and parse_time(own) - context.now <= CERTIFICATE_SOON:
        return weak(id_, f"the certificate of {name} ends on {own[:10]}; {until}", renew, look, told)
    return ok(id_, until, look, told)


def day(text: str) -> datetime:
    """Read a date, or a moment, as a moment in UTC."""
    return parse_time(text) if "T" in text else datetime.fromisoformat(text).replace(tzinfo=UTC)
