# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.lab.repairs``: what goes wrong around repairs, tried live on one server."""

from __future__ import annotations

import argparse
import shutil
import sys
import time

from tests.lab import clients, kube, servers, settings
from tests.lab.faults import phases
from tests.lab.repairs.scenarios import SCENARIOS
from tests.lab.repairs.stage import Stage
from tests.lab.settings import LabError

KEPT, WRITES = "app.kubernetes.io/managed-by=mlflow-runbook", "mlflow-runbook.mlops/writes"
MOST_WRITES = 3
"""Of the five that the collection allows itself in an hour, what other servers may have used."""

OUTPUT = settings.REPOSITORY / "build" / "repairs"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m tests.lab.repairs", description=__doc__)
    top.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, separated by commas (default: all)")
    top.add_argument("--server", default="repairs", help="name of the server that is made for it")
    return top


def require_quiet(server: str) -> None:
    """LabError when repairs of other servers have used up what the collection allows itself in a cluster in an hour."""
    leases = kube.list_objects("coordination.k8s.io/v1", "Lease", None, KEPT)
    others = {
        lease["metadata"]["namespace"]: lease["metadata"].get("annotations", {}).get(WRITES, "")
        for lease in leases
        if lease["metadata"]["namespace"] != server
    }
    writes = sum(len([moment for moment in text.split(",") if moment]) for text in others.values())
    if writes > MOST_WRITES:
        raise LabError(f"{writes} writes are recorded on {', '.join(others)}: the cluster's rate would refuse more")


def main() -> int:
    """Try the scenarios one after the other; 0 when all went as they say."""
    arguments = parser().parse_args()
    names = arguments.only.split(",")
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        print(f"there is no scenario {unknown[0]}; known: {', '.join(SCENARIOS)}", file=sys.stderr)
        return 1
    failed = []
    shutil.rmtree(OUTPUT, ignore_errors=True)
    try:
        require_quiet(arguments.server)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    server = servers.add(arguments.server)
    try:
        clients.add(server.name)
        for name in names:
            phases.ready(server)
            started = time.monotonic()
            try:
                SCENARIOS[name](Stage(server, OUTPUT / name))
                result = "as it should be"
            except LabError as error:
                failed.append(name)
                result = f"FAILED: {error}"
            print(f"{name}: {result} ({time.monotonic() - started:.0f} s)", flush=True)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        servers.remove(server.name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
