# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening and closing one server's dashboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.calls import CallFailed, Deadline
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients.kubernetes import ClusterReader
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.probe_spec import authorization
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.dashboard import choose_way
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.redaction import Redactor
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.workload import workload_name
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.dashboard import (
    hopeless,
    ingress_addresses,
    worker_note,
)

from .diagnose import Diagnosis, utc_now
from .forwards import LOOPBACK, MORE_PORTS, SUFFIX, Forward, ForwardError, default_folder, holder, is_free, only_one
from .page_visit import Visit, visit, visit_patiently
from .run import server_folder

HOSTS = (LOOPBACK, "localhost")
"""Names under which a browser may ask; MLflow may allow only one. A name can lead elsewhere, so it comes second."""

SAME = ("target", "server_port", "prefix", "cluster_uid")
"""What a forward that is open must agree with to be the one that is wanted."""


class DashboardError(Exception):
    """The dashboard could not be opened or closed; the text says why."""


@dataclass
class Result:
    """What became of it."""

    state: str
    changed: bool = False
    address: str = ""
    way: str = ""
    pid: int = 0
    log: str = ""
    proof: str = ""
    notes: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)


class Opening:
    """Opens the dashboard of a server that was just diagnosed.

    Args:
        settings: the variables.
        diagnosis: a fresh look at the server.
        folder: of the records.
    """

    def __init__(self, settings: Settings, diagnosis: Diagnosis, folder: Path) -> None:
        target = diagnosis.analysis.discovery.target
        if target is None:
            raise DashboardError(diagnosis.analysis.discovery.problem)
        self.settings, self.diagnosis, self.target = settings, diagnosis, target
        self.verdict = diagnosis.analysis.verdict
        self.context = Context(target, diagnosis.collected.evidence, datetime.now(UTC))
        self.server: Mapping[str, Any] = diagnosis.report["server"]
        self.headers = authorization(settings)
        self.path = server_folder(str(folder), self.server).with_suffix(SUFFIX)
        self.result = Result("present")

    def run(self) -> Result:
        """Open it, or find it open.

        Raises:
            DashboardError: it does not open; no process of ours is left then.
        """
        redactor = Redactor(self.diagnosis.collected.secrets)
        try:
            with only_one(self.path):
                self._run(Forward(self.path))
        except (DashboardError, ForwardError) as failure:
            raise DashboardError(redactor.text("; ".join([str(failure), *self.result.done]))) from None
        self.result.notes = [redactor.text(note) for note in self.result.notes]
        return self.result

    def _run(self, forward: Forward) -> None:
        reason = hopeless(self.context, self.verdict)
        if reason:
            self.close(forward, "nothing can answer")
            raise DashboardError(reason)
        if self.by_ingress(forward):
            self.close(forward, "an ingress leads there")
        elif not self.is_open(forward):
            self.open(forward)

    def by_ingress(self, forward: Forward) -> bool:
        """Take an ingress whose page opens from here; say of every other one why it does not."""
        if self.settings.dashboard_way not in ("auto", "ingress"):
            return False
        for address, name in ingress_addresses(self.context):
            seen = visit(address, self.headers)
            if not seen.problem:
                self.opened(seen, f"ingress/{name}")
                return True
            self.result.notes.append(f"ingress/{name} does not open from here: {address}: {seen.problem}")
        if self.settings.dashboard_way == "ingress":
            self.close(forward, "an ingress is wanted now")
            raise DashboardError("; ".join(self.result.notes) or "no ingress with a host leads to the server's Service")
        return False

    def opened(self, seen: Visit, way: str) -> None:
        self.result.address, self.result.proof, self.result.way = seen.address, seen.proof, way
        if seen.login:
            self.result.notes.append(
                "set mlflow_tracking_username and mlflow_tracking_password to prove what is behind it"
            )

    def close(self, forward: Forward, why: str) -> None:
        if not forward.record or self.settings.check_mode:
            return
        ended = forward.end()
        if ended:
            self.result.changed = True
            self.result.done.append(f"closed the port-forward of before ({', '.join(ended)}): {why}")

    def wanted(self) -> dict[str, Any]:
        return {
            "cluster": self.server["cluster"],
            "cluster_uid": self.server["cluster_uid"],
            "namespace": self.target.namespace,
            "name": self.target.name,
            "target": workload_name(self.context),
            "server_port": self.target.port,
            "prefix": self.target.static_prefix,
        }

    def is_open(self, forward: Forward) -> bool:
        """Find the port-forward of an earlier run; end it when it is not what is wanted or leads nowhere."""
        record = forward.record
        if not record:
            return False
        if not forward.alive:
            self.close(forward, "only a part of it was still running")
            return False
        wanted = self.wanted()
        differs = [name for name in SAME if record.get(name) != wanted[name]]
        asked = self.settings.dashboard_way
        if asked not in ("auto", record["way"]):
            differs.append("way")
        if differs:
            self.close(forward, f"another {' and '.join(differs)} is wanted now")
            return False
        seen = self.look(record["port"])
        if seen.problem:
            self.close(forward, f"stale: {seen.problem}")
            return False
        self.opened(seen, self.way_text(record["way"]))
        self.result.pid, self.result.log = record["process"]["pid"], str(forward.log)
        self.explain()
        return True

    def look(self, port: int) -> Visit:
        """Open the page through a port, under the first name for it that MLflow allows."""
        all_seen = []
        for host in HOSTS:
            all_seen.append(visit_patiently(f"http://{host}:{port}{self.target.static_prefix}/", self.headers))
            if not all_seen[-1].problem:
                return all_seen[-1]
        return all_seen[0]

    def way_text(self, way: str) -> str:
        through = "kubectl port-forward" if way == "kubectl" else "port-forward through the API"
        return f"{through} to {workload_name(self.context)}"

    def open(self, forward: Forward) -> None:
        kubectl = shutil.which("kubectl") or ""
        way = choose_way(self.settings.dashboard_way, self.settings.kubernetes, os.environ, kubectl)
        if way == "kubectl" and not kubectl:
            raise DashboardError("mlflow_dashboard_way is 'kubectl', but there is no kubectl on the PATH")
        ports = list(range(self.settings.dashboard_port, min(self.settings.dashboard_port + MORE_PORTS, 65536)))
        self.result.changed = True
        if self.settings.check_mode:
            self.would_open(ports, way)
            return
        forward.end()  # removes the record of a process that is gone
        starting = forward.start(self.order(way, kubectl), ports, {**self.wanted(), "way": way, "since": utc_now()})
        try:
            seen = self.look(forward.record["port"])
            if seen.problem:
                raise DashboardError(f"the page does not open: {seen.problem}")
            starting.keep()
        except BaseException:
            starting.give_up()
            raise
        self.say_taken(ports[: ports.index(forward.record["port"])])
        self.opened(seen, self.way_text(way))
        self.result.pid, self.result.log = forward.record["process"]["pid"], str(forward.log)
        self.result.done.append(f"started the port-forward (process {self.result.pid})")
        self.explain()

    def order(self, way: str, kubectl: str) -> dict[str, Any]:
        if way == "api":
            return {
                "kind": "api",
                "options": dict(self.settings.kubernetes),
                "namespace": self.target.namespace,
                "selector": dict(self.target.selector),
                "port": self.target.port,
            }
        options = []
        for name in ("kubeconfig", "context"):
            value = self.settings.kubernetes.get(name) or os.environ.get(f"K8S_AUTH_{name.upper()}")
            options += [f"--{name}={value}"] if value else []
        place = [f"--namespace={self.target.namespace}", "port-forward", f"--address={LOOPBACK}"]
        return {
            "kind": "kubectl",
            "command": [kubectl, *options, *place, workload_name(self.context), f":{self.target.port}"],
        }

    def would_open(self, ports: list[int], way: str) -> None:
        free = next((port for port in ports if is_free(port)), 0)
        if not free:
            raise DashboardError(f"no local port of {ports[0]} to {ports[-1]} is free")
        self.say_taken(ports[: ports.index(free)])
        self.result.address, self.result.way = (
            f"http://{LOOPBACK}:{free}{self.target.static_prefix}/",
            self.way_text(way),
        )
        self.explain()

    def say_taken(self, ports: list[int]) -> None:
        for port in ports:
            ours = dashboard_on(port, self.path.parent)
            self.result.notes.append(f"local port {port} is taken by {ours or holder(port)}")

    def explain(self) -> None:
        if note := worker_note(self.context, self.verdict):
            self.result.notes.append(note)


def close_all(settings: Settings, folder: Path) -> Result:
    """Close the dashboards of a namespace's servers, as far as they are of the same cluster; no cluster is asked.

    Raises:
        ForwardError: a process of ours does not end, or its port is not free afterwards.
    """
    result = Result("absent")
    try:
        cluster = ClusterReader(settings.kubernetes, Deadline(1.0)).cluster_name()
    except CallFailed:
        cluster = ""
    for path in sorted(folder.glob("*" + SUFFIX)):
        forward = Forward(path)
        record = forward.record
        if record.get("namespace") != settings.namespace or (cluster and record.get("cluster") != cluster):
            continue
        if settings.deployment and record.get("name") != settings.deployment:
            continue
        result.changed = True
        if settings.check_mode:
            result.done.append(f"would close the port-forward on port {record['port']}")
            continue
        with only_one(path):
            port = record["port"]
            ended = forward.end()
        free = "it is free now" if is_free(port) else f"it is taken by {holder(port)}"
        what = f"ended {' and '.join(ended)}" if ended else "its process was gone already"
        result.done.append(f"closed the port-forward on port {port}: {what}, {free}")
    return result


def dashboard_on(port: int, folder: Path) -> str:
    """Name the server whose dashboard we opened on a local port; empty when it is none of ours."""
    for path in folder.glob("*" + SUFFIX):
        forward = Forward(path)
        if forward.record.get("port") == port and forward.alive:
            return f"the dashboard of {forward.record['namespace']}/{forward.record['name']}"
    return ""


def records_folder() -> Path:
    return default_folder(os.environ)
