# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CloudWatch metrics of the namespace ``AWS/RDS``, measured on the lab's PostgreSQL servers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends
from moto.core.utils import utcnow

from tests.lab import database, postgres, processes, settings
from tests.lab.emulation import behaviour

NAMESPACE = "AWS/RDS"
GIBIBYTE = 2**30
# db.t4g.micro: one GiB of memory, two vCPUs.
MEMORY_BYTES = GIBIBYTE
PROCESSORS = 2
UNITS = {
    "DatabaseConnections": "Count",
    "CPUUtilization": "Percent",
    "FreeStorageSpace": "Bytes",
    "FreeableMemory": "Bytes",
    "ReadLatency": "Seconds",
    "WriteLatency": "Seconds",
}
STATISTICS = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
       (SELECT sum(pg_database_size(oid)) FROM pg_database),
       (SELECT sum(blks_read) FROM pg_stat_database), (SELECT sum(blk_read_time) FROM pg_stat_database),
       (SELECT wal_write FROM pg_stat_wal), (SELECT wal_write_time FROM pg_stat_wal)
"""


@dataclass(frozen=True)
class Sample:
    """Counters of one server at one moment: times in seconds, sizes in bytes."""

    at: float
    connections: int
    size: int
    cpu: float
    memory: int
    reads: int
    read_time: float
    writes: int
    write_time: float


def metrics(before: Sample | None, now: Sample, storage_bytes: int) -> dict[str, float]:
    """Values of the metrics; rates need an earlier sample."""
    values = {
        "DatabaseConnections": float(now.connections),
        "FreeStorageSpace": float(max(0, storage_bytes - now.size)),
        "FreeableMemory": float(max(0, MEMORY_BYTES - now.memory)),
    }
    if before is not None:
        busy = (now.cpu - before.cpu) / (now.at - before.at) / PROCESSORS * 100
        values["CPUUtilization"] = min(100.0, max(0.0, busy))
        values["ReadLatency"] = _per(now.read_time - before.read_time, now.reads - before.reads)
        values["WriteLatency"] = _per(now.write_time - before.write_time, now.writes - before.writes)
    return values


def _per(seconds: float, operations: int) -> float:
    return max(0.0, seconds) / operations if operations > 0 else 0.0


class Collector:
    """Measures every running server and puts the values into the emulation."""

    def __init__(self) -> None:
        self.last: dict[str, Sample] = {}

    def collect(self) -> None:
        """Measure once; a stopped server gives no values, as on AWS."""
        for instance in database.instances():
            described = behaviour.rds().databases.get(instance.identifier)
            pid = processes.pid_of(instance.daemon)
            if described is None or pid is None or described.status != "available":
                self.last.pop(instance.identifier, None)
                continue
            now = sample(instance, pid)
            values = metrics(self.last.get(instance.identifier), now, described.allocated_storage * GIBIBYTE)
            self.last[instance.identifier] = now
            _put(instance.identifier, values)


def sample(instance: database.DatabaseInstance, pid: int) -> Sample:
    """Read the counters of the server whose first process is ``pid``."""
    with postgres.connect(instance.folder, "postgres") as connection:
        row = connection.execute(STATISTICS).fetchone()
    assert row is not None
    connections, size, reads, read_ms, writes, write_ms = (float(value or 0) for value in row)
    cpu, memory = _usage(pid)
    return Sample(
        at=time.monotonic(),
        connections=int(connections),
        size=int(size),
        cpu=cpu,
        memory=memory,
        reads=int(reads),
        read_time=read_ms / 1000,
        writes=int(writes),
        write_time=write_ms / 1000,
    )


def _usage(pid: int) -> tuple[float, int]:
    """CPU seconds (ended children included) and private memory of a process and its children."""
    ticks, pages = 0, 0
    for process in [pid, *_children(pid)]:
        try:
            fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            resident, shared = Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(int(field) for field in fields[11 : 15 if process == pid else 13])
        pages += int(resident) - int(shared)
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE")


def _children(pid: int) -> Iterable[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [int(word) for word in text.split()]


def _put(identifier: str, values: dict[str, float]) -> None:
    backend: Any = cloudwatch_backends[settings.AWS_ACCOUNT_ID][settings.AWS_REGION]
    dimensions = [{"Name": "DBInstanceIdentifier", "Value": identifier}]
    data = [
        {"MetricName": name, "Value": value, "Unit": UNITS[name], "Dimensions": dimensions, "Timestamp": utcnow()}
        for name, value in values.items()
    ]
    backend.put_metric_data(NAMESPACE, data)
