# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server with a fault of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.lab import clients, servers, settings
from tests.lab.faults import model, phases, playbooks, reading
from tests.lab.repairs.stage import Stage, require

FAULTS = settings.REPOSITORY / "tests" / "faults"


@contextmanager
def faulty(stage: Stage, name: str) -> Iterator[Stage]:
    """Put a fault in until its symptom shows; afterwards all is well again and nothing remembered.

    The stage that comes back has the server that the fault needs, and gives repairs what the fault's file gives them.
    """
    fault = reading.read_all(FAULTS, [name])[name]
    with suited(stage, fault) as found:
        if fault.baseline:
            playbooks.diagnose(found.server, found.reports)
        injection = phases.inject(name, fault, FAULTS, found.server)
        try:
            for seen in phases.prove(fault.symptom, injection):
                require(seen.holds, f"the fault is not in: {seen.text}")
            yield found
        finally:
            phases.restore(fault, injection)
            phases.forget_repairs(found.server)


@contextmanager
def suited(stage: Stage, fault: model.Fault) -> Iterator[Stage]:
    """The stage with a server that suits the fault, which may be its own.

    A server that has just recovered from something else is not simply healthy, and leaves no baseline.
    """
    given = dict(fault.expect.variables)
    if fault.server == model.ServerSpec() and not fault.baseline:
        yield replace(stage, given=given)
        return
    server = servers.add(f"{stage.server.name}-other", fault.server.layout, **fault.server.overrides)
    try:
        clients.add(server.name)
        phases.ready(server)
        yield replace(stage, server=server, given=given)
    finally:
        servers.remove(server.name)
