# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names outside the cluster (AWS services, database endpoints): one zone file that the cluster's CoreDNS serves.

The zone is the root, so that a name without a record is NXDOMAIN and never asked anywhere else. CoreDNS looks at the
serial every two seconds and answers are cached for five, so a change is seen after seven at most.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Mapping
from pathlib import Path

from tests.lab import settings

TTL = 5


def folder() -> Path:
    """Folder with the zone file; CoreDNS mounts it."""
    path = settings.state_dir() / "dns"
    path.mkdir(parents=True, exist_ok=True)
    return path


def zone_text(records: Mapping[str, str], serial: int) -> str:
    """The root zone with one A record per name; ``*.`` at the start of a name is a wildcard."""
    lines = [
        f"$TTL {TTL}",
        f". IN SOA ns.lab. hostmaster.lab. {serial} 7200 1800 86400 {TTL}",
        ". IN NS ns.lab.",
        f"ns.lab. IN A {settings.NODE_ADDRESS}",
    ]
    lines += [f"{name.rstrip('.')}. IN A {address}" for name, address in sorted(records.items())]
    return "\n".join(lines) + "\n"


def records(owner: str) -> dict[str, str]:
    """The records that ``owner`` has set."""
    return _load().get(owner, {})


def set_records(owner: str, records: Mapping[str, str]) -> None:
    """Make ``records`` (name to IPv4 address) the whole set of ``owner``; other owners' records stay.

    An empty mapping takes them all away.
    """
    with (folder() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        owners = _load()
        owners[owner] = dict(records)
        settings.write_text(folder() / "records.json", json.dumps(owners, indent=1, sort_keys=True))
        everything = {name: address for owned in owners.values() for name, address in owned.items()}
        settings.write_text(folder() / "zone", zone_text(everything, _next_serial()))


def _load() -> dict[str, dict[str, str]]:
    path = folder() / "records.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _next_serial() -> int:
    """A serial above the last one, also for several changes within one second."""
    zone = folder() / "zone"
    last = int(zone.read_text(encoding="utf-8").split("hostmaster.lab. ")[1].split()[0]) if zone.exists() else 0
    return max(last + 1, int(time.time()))
