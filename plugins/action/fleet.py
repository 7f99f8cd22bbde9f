# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a run found on all its servers, and refuse two hosts that are one server."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ansible.utils.display import Display
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.fleet import Server, fleet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import fleet_text
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.action import RunbookAction
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.html import fleet_page
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.run import read_json, write_whole

display = Display()
ASSESSMENT, REPORT = "mlflow_assessment", "mlflow_result"
"""What the role ``mlflow`` registers for each host."""


class ActionModule(RunbookAction):
    """Run the ``fleet`` action."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {"check": {"type": "bool", "default": False}}

    def perform(self, arguments: dict[str, Any]) -> dict[str, Any]:
        hosts = list(self.variables.get("ansible_play_hosts_all") or [self.host])
        known = {host: self.variables["hostvars"].raw_get(host) for host in hosts}
        same = one_server(known)
        result: dict[str, Any] = {"changed": False, "failed": bool(same), "msg": same, "report": ""}
        if arguments["check"]:
            return result
        settings = self.settings(writes=False)
        if settings.check_mode:
            return {**result, "msg": same or "check mode writes no reports, and so none on all servers"}
        folder = Path(settings.report_dir)
        document = fleet([server_of(host, known[host], folder) for host in hosts])
        result["report"] = publish(document, folder)
        display.display("\n" + fleet_text(document) + f"Report: {result['report']}\n")
        return result if same else {**result, "counts": document["counts"]}


def one_server(known: Mapping[str, Mapping[str, Any]]) -> str:
    """Name the hosts that resolve to one Deployment; empty when there are none.

    Args:
        known: the variables of each host.
    """
    hosts: dict[str, list[str]] = {}
    for host, variables in known.items():
        server = str((variables.get(ASSESSMENT) or {}).get("server") or "")
        if server:
            hosts.setdefault(server, []).append(host)
    return "; ".join(
        f"hosts {' and '.join(names)} are one server, {server.partition(' ')[0]}; expected one host for each server"
        for server, names in hosts.items()
        if len(names) > 1
    )


def server_of(host: str, variables: Mapping[str, Any], folder: Path) -> Server:
    """Read the report of one host back.

    Raises:
        RunError: the report is not JSON.
    """
    path = str((variables.get(REPORT) or {}).get("report") or "")
    report = read_json(Path(path), None) if path else None
    if report is None:
        return Server(host, "", "", None, "there is no report on it: its diagnosis failed")
    return Server(host, path, os.path.relpath(Path(path).with_suffix(".html"), folder), report)


def publish(document: Mapping[str, Any], folder: Path) -> str:
    """Write JSON, text and HTML; return the path of the JSON."""
    documents = {
        "html": fleet_page(document),
        "txt": fleet_text(document),
        "json": json.dumps(document, indent=1, sort_keys=True) + "\n",
    }
    for suffix, written in documents.items():
        write_whole(folder / f"fleet.{suffix}", written)
    return str(folder / "fleet.json")
