# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long each layer takes, from the name to the artifact call, as the server's own pod measured it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.evidence import Evidence
from ..core.findings import Context
from ..core.workload import probes_from_server, result_of
from ..sections.latency import (
    SLOW_CALL_SECONDS,
    SLOW_LOOKUP_SECONDS,
    SLOW_STORAGE_SECONDS,
    calls,
    seconds,
)
from ..sections.logs import SERVER_ERROR
from ..sections.web_server import HONEST
from .proof import one_line, probed

SLOW_CONNECT_SECONDS = 1.0
"""A lost first packet is sent again after one second (RFC 6298); inside a region a connection takes a millisecond."""

SAID = 80


def layers(context: Context) -> list[dict[str, Any]]:
    """Return each layer that was measured: its name, seconds, what was said, whether it failed or is slow."""
    host = str(context.target.backend.get("host") or "")
    ports = [item for item in probes_from_server(context, "probe.tcp") if item.subject.rpartition(":")[0] == host]
    measured: tuple[tuple[str, Iterable[Evidence], float], ...] = (
        ("name", probes_from_server(context, "probe.dns", host), SLOW_LOOKUP_SECONDS),
        ("connect", ports, SLOW_CONNECT_SECONDS),
        ("/health", calls(context, "/health"), SLOW_CALL_SECONDS),
        ("database call", calls(context, HONEST), SLOW_CALL_SECONDS),
        ("artifact call", calls(context, "mlflow-artifacts/artifacts"), SLOW_STORAGE_SECONDS),
    )
    return [layer(name, list(items), limit) for name, items, limit in measured if items]


def layer(name: str, items: list[Evidence], limit: float) -> dict[str, Any]:
    """Describe one layer by its best measurement: what one pod can do is possible."""
    best = min(items, key=lambda item: (result_of(item) != "ok", seconds(item)))
    failed = result_of(best) != "ok" or int(best.value.get("status") or 200) >= SERVER_ERROR
    return {
        "layer": name,
        "seconds": round(seconds(best), 3),
        "limit": limit,
        "failed": failed,
        "slow": seconds(best) >= limit,
        "said": one_line(probed(best.value), SAID),
    }
