# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text for the ticket: what happened, and one question for each team."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from ..core.report import HEADLINES, cause_lines, impact_lines, short_time

TEAMS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Database": (("database",), ("database.", "latency.database", "probe.login", "probe.query", "aws.db", "aws.rds")),
    "Network": (("network",), ("network_policy.", "service.", "probe.tcp", "probe.dns", "aws.security", "aws.network")),
    "Cloud": (("cloud identity", "cloud"), ("artifact_store.", "aws.", "probe.sts", "probe.s3", "probe.identity")),
    "ML platform": (("ML platform", "Kubernetes platform"), ("pods.", "web_server.", "logs.", "kubernetes.", "probe.")),
}
"""Each team, the owners of causes that it stands for, and what its questions are about."""

QUIET = frozenset({"healthy", "recovered"})
WIDTH = 100


def ticket(report: Mapping[str, Any], bundle: str) -> str:
    """Write the text.

    Args:
        report: the report of the diagnosis.
        bundle: file name of the archive that it goes with.
    """
    verdict, server = report["verdict"], report["server"]
    name = f"{server['namespace']}/{server['name'] or '?'}"
    lines = [f"MLflow {name} {HEADLINES[verdict['status']]} ({short_time(report['started'])})", ""]
    lines += wrapped("Cause: ", [line for line in cause_lines(report) if not line.startswith("(")])
    lines += wrapped("Impact: ", impact_lines(verdict["impact"]))
    since = [cause["since"] for cause in verdict["causes"] if cause["since"]]
    lines += wrapped("Since: ", [short_time(min(since))] if since else [])
    lines += wrapped("Tried: ", [f"{item['step']}: {report['outcome'] or 'no outcome'}" for item in report["actions"]])
    lines += ["", "One question for each team", ""]
    lines += [line for team in TEAMS for line in [*wrapped(f"{team}: ", [question(team, report)]), ""]]
    return "\n".join([*lines, f"Attached: {bundle} (redacted; read report.html first, then connections.txt)", ""])


def wrapped(label: str, texts: list[str]) -> list[str]:
    text = "; ".join(texts)
    hanging = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": "  "}
    return textwrap.wrap(label + text, WIDTH, **hanging) if text else []  # type: ignore[arg-type]


def question(team: str, report: Mapping[str, Any]) -> str:
    """Return the one question for a team: about its own cause, about what we could not see, or about its changes."""
    owners, topics = TEAMS[team]
    verdict = report["verdict"]
    mine = [cause for cause in verdict["causes"] if cause["owner"] in owners]
    if mine:
        return about_cause(mine)
    if verdict["causes"]:
        first = verdict["causes"][0]
        return (
            f"nothing to repair on your side was found (the owner of {first['object']} is {first['owner']}). "
            f"Was anything changed at {subject(team, report['server'])}{since_of(first)}?"
        )
    if verdict["status"] in QUIET:
        over = verdict.get("recovered")
        period = f" between {short_time(over['from'])} and {short_time(over['to'])}" if over else " in the last day"
        return f"nothing fails now. Did anything on your side change{period}?"
    hidden = [item for item in verdict["unknown"] if item["what"].startswith(topics)]
    if any(item["id"] == "pods.starting" for item in report["findings"]):
        return "the server is starting and no cause was found so far. Did you change or restart anything just now?"
    if hidden:
        return (
            f"we could not see {hidden[0]['what']} ({hidden[0]['why']}). Can you look, or grant {hidden[0]['needs']}?"
        )
    return f"no cause was found. Can you see {subject(team, report['server'])} failing or changed on your side?"


def about_cause(causes: list[Mapping[str, Any]]) -> str:
    first = causes[0]
    more = f" (and {len(causes) - 1} more, see the report)" if len(causes) > 1 else ""
    action = f": {first['next'][0]}" if first["next"] else ""
    return f"{first['summary']}{more}. Can you put it right{action}? And what changed there{since_of(first)}?"


def since_of(cause: Mapping[str, Any]) -> str:
    return f" around {short_time(cause['since'])}" if cause["since"] else " in the last day"


def subject(team: str, server: Mapping[str, Any]) -> str:
    """Name what a team owns of this server."""
    host = (server.get("backend") or {}).get("host") or ""
    names = {
        "Database": server.get("db_instance_identifier") or host or "its database",
        "Network": f"the way from namespace {server['namespace']} to {host or 'its database'}",
        "Cloud": server.get("role_name") or server.get("bucket") or "its role and bucket",
        "ML platform": f"{str(server.get('kind', 'workload')).lower()} {server['name'] or '?'}",
    }
    return str(names[team])
