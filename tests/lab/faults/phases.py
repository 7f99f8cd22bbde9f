# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault from injection to restoration, in phases."""

from __future__ import annotations

from pathlib import Path

from tests.lab import clients, kube, servers, settings
from tests.lab.faults import actions, model, reading, symptoms
from tests.lab.faults import injection as injections
from tests.lab.faults.injection import Injection
from tests.lab.settings import LabError

RESTORED_WITHIN = 150.0
HEALTHY_RUNS = 2


def inject(name: str, fault: model.Fault, folder: Path, server: servers.Server) -> Injection:
    """Put a fault in a server; what was done when an action fails is taken back."""
    injection = Injection(name, folder, server)
    injection.save()
    try:
        actions.perform_all(fault.inject, injection)
    except BaseException:
        restore(fault, injection, prove=False)
        raise
    return injection


def inject_by_name(server: str, name: str, folder: Path) -> list[symptoms.Result]:
    """Put the fault ``name`` of a folder in a server and leave it there; returns what the proofs of it saw.

    Raises LabError when the server has a fault already.
    """
    if server in (taken := injections.current()):
        raise LabError(f"the server {server} has the fault {taken[server]}; take it back first")
    fault = reading.read_all(folder, [name])[name]
    ready(servers.get(server))
    return prove(fault.symptom, inject(name, fault, folder, servers.get(server)))


def restore_by_name(server: str) -> None:
    """Take back the fault that is in a server; LabError when there is none or its client does not log again."""
    injection = injections.resume(server)
    restore(reading.read_all(injection.folder, [injection.fault])[injection.fault], injection)


def enter(phase: model.PhaseName, actions_of_phase: list[model.Action], injection: Injection) -> None:
    """Do what makes the phase: new pods for ``restarted``; no events and short logs for ``aged``."""
    server = injection.server
    if phase == "restarted":
        pods = model.Delete(apiVersion="v1", kind="Pod", selector=server.selector)
        actions.perform(model.Action(delete=pods), injection)
    if phase == "aged":
        age(server)
    actions.perform_all(actions_of_phase, injection)


def age(server: servers.Server) -> None:
    """Let the events of the server's namespace expire and its pods' logs be rotated away."""
    for event in kube.list_objects("v1", "Event", server.namespace):
        kube.delete("v1", "Event", event["metadata"]["name"], server.namespace, wait=False)
    for log in (settings.state_dir() / "pods").glob(f"{server.namespace}_*/*/*.log"):
        with log.open("r+b") as file:
            file.truncate(0)


def prove(proofs: list[model.Proof], injection: Injection) -> list[symptoms.Result]:
    """Try the proofs of a phase."""
    return symptoms.prove_all(proofs, injection)


def restore(fault: model.Fault, injection: Injection, *, prove: bool = True) -> None:
    """Take the fault back: undo what the lab noted, then do what the file says; the client has to log again.

    Raises LabError when an action fails or, with ``prove``, when the client does not log again.
    """
    actions.undo_all(injection)
    actions.perform_all(fault.restore, injection)
    injection.forget()
    if prove:
        clients.wait(injection.server.name, ok=True, timeout=RESTORED_WITHIN, rounds=HEALTHY_RUNS)


def forget_repairs(server: servers.Server) -> None:
    """Remove what the collection keeps about its repairs of a server, so that the next fault is its first one."""
    for version, kind in (("coordination.k8s.io/v1", "Lease"), ("v1", "ConfigMap")):
        kube.delete(version, kind, f"mlflow-runbook-{server.deployment}", server.namespace, wait=False)


def ready(server: servers.Server, timeout: float = 120.0) -> None:
    """Give the server a client, unless it has one, and wait until it logs; LabError when it does not."""
    if kube.get("apps/v1", "Deployment", clients.deployment(server.name), clients.NAMESPACE) is None:
        clients.add(server.name)
    try:
        clients.wait(server.name, ok=True, timeout=timeout, rounds=HEALTHY_RUNS)
    except LabError as error:
        raise LabError(f"the server {server.name} is not healthy before the fault: {error}") from error
