# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CloudWatch alarms on the database: whether somebody hears of a full volume or of the last connection in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.evidence import CLOUD, Evidence
from ..core.findings import Context
from .database import instance_of, without_instance
from .items import Item, Patch, missing, ok, unknown, unseen, weak
from .server import database_look

RIGHT = "cloudwatch:DescribeAlarms"
FREE_SHARE = 0.10
"""RDS scales storage below 10 % free; a person should hear of it no later (RDS user guide, storage autoscaling)."""
USED_SHARE = 0.80
"""Field guide section 5: more than 80 % of the connections is no room for one more pod."""
GIB = 2**30
BELOW = ("LessThanThreshold", "LessThanOrEqualToThreshold")
ABOVE = ("GreaterThanThreshold", "GreaterThanOrEqualToThreshold")
Alarm = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """An alarm that should be there; ``figure`` is its threshold, ``None`` when it cannot be worked out."""

    id: str
    metric: str
    statistic: str
    comparisons: tuple[str, ...]
    figure: float | None
    unit: str


def judge(context: Context) -> list[Item]:
    """Judge the alarms that are about this instance and could tell somebody."""
    dummy, instance = instance_of(context)
    look = context.evidence.first("aws.alarms", CLOUD)
    size = int((instance or {}).get("AllocatedStorage") or 0)
    most = available(context)
    wanted = (
        Wanted("alarms.storage", "FreeStorageSpace", "Minimum", BELOW, size * GIB * FREE_SHARE or None, "bytes"),
        Wanted("alarms.connections", "DatabaseConnections", "Maximum", ABOVE, most and most * USED_SHARE, "sessions"),
    )
    return [one(context, item, instance, look, most, size) for item in wanted]


def available(context: Context) -> int | None:
    """Return how many connections ordinary roles may have, when the database was seen."""
    look = database_look(context)
    if look is None or not look.seen or "max_connections" not in look.value:
        return None
    return int(look.value["max_connections"]) - int(look.value["reserved"])


def one(
    context: Context,
    wanted: Wanted,
    instance: Mapping[str, Any] | None,
    look: Evidence | None,
    most: int | None,
    size: int,
) -> Item:
    if look is None and instance is None:
        return without_instance(context, wanted.id, instance_of(context)[0])
    if look is None or not look.seen:
        return unseen(wanted.id, look, RIGHT)
    name = look.subject
    alarms = [item for item in look.value["items"] if item["metric"] == wanted.metric]
    patches = proposal(wanted, name, look)
    if not alarms:
        if not look.conclusive:
            return unknown(wanted.id, f"not all alarms could be read: {look.detail}", RIGHT, look)
        return missing(wanted.id, f"no alarm watches {wanted.metric} of {name}", patches, look)
    problems = [f"{item['name']}: {problem(wanted, item, look, most, size)}" for item in alarms]
    good = [item["name"] for item in alarms if not problem(wanted, item, look, most, size)]
    if good:
        return ok(wanted.id, f"alarm {', '.join(good)} watches {wanted.metric} of {name}", look)
    return weak(wanted.id, "; ".join(problems), patches, look)


def problem(wanted: Wanted, alarm: Alarm, look: Evidence, most: int | None, size: int) -> str:
    """Return why an alarm would not help; empty when it would."""
    if alarm["comparison"] not in wanted.comparisons and alarm["comparison"]:
        return f"compares the wrong way round ({alarm['comparison']})"
    if not alarm["actions_enabled"] or not (alarm["actions"] or in_composite(alarm, look)):
        return "tells nobody (no action, or actions are off)"
    threshold = alarm["threshold"]
    if threshold is None:
        return ""
    if wanted.metric == "FreeStorageSpace" and not 0 < threshold < size * GIB:
        return f"its threshold of {threshold:.0f} bytes is none of a volume of {size} GiB"
    if wanted.metric == "DatabaseConnections" and most is not None and threshold >= most:
        return f"its threshold of {threshold:.0f} is never reached: ordinary roles may have {most} connections"
    return ""


def in_composite(alarm: Alarm, look: Evidence) -> bool:
    """Tell whether a composite alarm that tells somebody goes by this one."""
    return any(
        f'"{alarm["name"]}"' in row["rule"] or f"({alarm['name']})" in row["rule"] for row in look.value["composites"]
    )


def proposal(wanted: Wanted, name: str, look: Evidence) -> tuple[Patch, ...]:
    """Return the alarm as Terraform and as a command; it tells the topic that other alarms here tell, if any does."""
    topics = look.value.get("topics") or []
    topic = topics[0] if topics else "$ALARM_TOPIC_ARN"
    figure = f"{wanted.figure:.0f}" if wanted.figure else "<80 % of max_connections>"
    alarm = f"{name}-{'free-storage' if wanted.metric == 'FreeStorageSpace' else 'connections'}"
    action = f'"{topics[0]}"' if topics else "var.alarm_topic_arn"
    first = "" if topics else "# ALARM_TOPIC_ARN: the SNS topic that reaches whoever is on call\n"
    command = (
        f"aws cloudwatch put-metric-alarm --alarm-name {alarm} --namespace AWS/RDS --metric-name {wanted.metric} "
        f"--dimensions Name=DBInstanceIdentifier,Value={name} --statistic {wanted.statistic} --period 300 "
        f"--evaluation-periods 2 --comparison-operator {wanted.comparisons[0]} --threshold {figure} "
        f"--treat-missing-data missing --alarm-actions {topic}"
    )
    block = "\n".join(
        [
            f'resource "aws_cloudwatch_metric_alarm" "{wanted.id.replace(".", "_")}" {{',
            f'  alarm_name          = "{alarm}"',
            '  namespace           = "AWS/RDS"',
            f'  metric_name         = "{wanted.metric}"',
            f'  dimensions          = {{ DBInstanceIdentifier = "{name}" }}',
            f'  statistic           = "{wanted.statistic}"',
            "  period              = 300",
            "  evaluation_periods  = 2",
            f'  comparison_operator = "{wanted.comparisons[0]}"',
            f"  threshold           = {figure} # {wanted.unit}",
            f"  alarm_actions       = [{action}]",
            "}",
        ]
    )
    return Patch("terraform", block), Patch("aws", first + command)
