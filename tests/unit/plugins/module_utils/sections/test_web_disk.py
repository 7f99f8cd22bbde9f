# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full file system in the pod: what is measured there outweighs what the log says."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import API, POD, Evidence, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Finding
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import logs, web_server

from .conftest import AT, MakeContext, deployment, listed, probe, server_pod

FULL = "OSError: [Errno 28] No space left on device"
UPLOADED = '10.0.0.9 - "PUT /api/2.0/mlflow-artifacts/artifacts/1/a.bin HTTP/1.1" 200'
REFUSED = UPLOADED.replace(" 200", " 500")
MEBIBYTE = 1 << 20


def room(free: int, inodes: int = 100, total: int = 16 * MEBIBYTE, mount: str = "/tmp") -> dict[str, Any]:
    sizes = {"total_bytes": total, "free_bytes": free, "total_inodes": 200, "free_inodes": inodes}
    return {"folder": "/tmp", "mount": mount, "type": "tmpfs", **sizes}


def disk(free: int, inodes: int = 100, old: int = 0, total: int = 16 * MEBIBYTE) -> Evidence:
    cache = {**room(free, inodes, total), "old_files": old, "old_bytes": old}
    return probe("disk", "", place=POD, temporary=room(free, inodes, total), cache=cache, probe_pod="mlflow-1")


def log(*lines: tuple[str, str], container: str = "mlflow") -> Evidence:
    rows = [{"at": at, "text": text} for at, text in lines]
    return Evidence("kubernetes.pod_log", API, f"mlflow-1/{container}/current", AT, State.OK, {"lines": rows})


def pods() -> Evidence:
    pod = server_pod()
    mount = {"name": "scratch", "mountPath": "/tmp"}
    pod["spec"]["containers"][0] |= {"name": "mlflow", "volumeMounts": [mount]}
    pod["spec"]["volumes"] = [{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}]
    running: dict[str, Any] = {"state": {"running": {}}}
    pod["status"]["containerStatuses"] = [{"name": name, **running} for name in ("mlflow", "side")]
    return listed("pods", pod)


def found(context: MakeContext, *evidence: Evidence) -> dict[str, Finding]:
    seen = context(pods(), listed("deployments", deployment()), *evidence)
    return {item.id: item for item in [*web_server.analyze(seen).findings, *logs.analyze(seen).findings]}


CAUSE, SAID = "web_server.artifact_disk_full", "logs.temporary_folder_full"
LATE, EARLY = "2026-01-01T11:59:50Z", "2026-01-01T11:59:00Z"


@pytest.mark.parametrize(
    ("free", "inodes", "total", "expected"),
    [
        (0, 100, 16 * MEBIBYTE, True),
        (4096, 100, 16 * MEBIBYTE, True),
        (8 * MEBIBYTE, 0, 16 * MEBIBYTE, True),
        (8 * MEBIBYTE, 100, 16 * MEBIBYTE, False),
        (2 * MEBIBYTE, 100, 1000 * MEBIBYTE, False),
        (MEBIBYTE // 2, 100, 1000 * MEBIBYTE, True),
        (MEBIBYTE // 2, 100, MEBIBYTE, False),
    ],
)
def test_a_full_file_system(context: MakeContext, free: int, inodes: int, total: int, expected: bool) -> None:
    assert (CAUSE in found(context, disk(free, inodes, total=total), log((LATE, FULL)))) is expected


def test_a_line_is_no_proof_against_a_measurement(context: MakeContext) -> None:
    listing = '10.0.0.9 - "GET /api/2.0/mlflow-artifacts/artifacts?path= HTTP/1.1" 200'
    names = found(context, disk(8 * MEBIBYTE), probe("s3_list", "b", place=POD), log((EARLY, FULL), (LATE, listing)))
    assert CAUSE not in names
    assert SAID in names


def test_the_log_speaks_for_a_pod_that_was_not_entered(context: MakeContext) -> None:
    assert CAUSE in found(context, log((LATE, FULL)))
    assert CAUSE not in found(context, log((LATE, FULL), container="side"))
    assert not found(context, log((EARLY, FULL), (LATE, UPLOADED))).keys() & {CAUSE, SAID}


def test_somebody_has_to_have_failed(context: MakeContext) -> None:
    assert found(context, disk(0))[CAUSE].facts["later"]  # nobody could read the log
    assert CAUSE not in found(context, disk(0), log((LATE, "started")))
    assert CAUSE not in found(context, disk(0), log((EARLY, REFUSED), (LATE, UPLOADED)))
    assert CAUSE in found(context, disk(0), log((EARLY, UPLOADED), (LATE, FULL)))
    assert CAUSE in found(context, disk(0), log((EARLY, UPLOADED), (LATE, REFUSED)))


def test_what_can_be_cleared_is_said(context: MakeContext) -> None:
    cause = found(context, disk(0, old=4096), log((LATE, FULL)))[CAUSE]
    assert cause.facts["clearable_bytes"] == 4096
    assert not cause.facts["later"]
    assert cause.facts["volume"] == "scratch"
    assert "emptyDir of 16Mi in memory" in cause.summary
