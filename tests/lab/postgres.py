# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL clusters as processes: one folder each, run by the system user ``postgres``.

That user may not enter a person's home, where the lab's state lies. So each server runs in a mount namespace of its
own in which its folder is bound to /mnt; the mount ends with the process.
"""

from __future__ import annotations

import hashlib
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg

from tests.lab import processes, settings
from tests.lab.settings import LabError

BINARIES = Path("/usr/lib/postgresql/15/bin")
USER = "postgres"
SUPERUSER = "postgres"
PORT = 5432
MOUNT = Path("/mnt")
INITDB_OPTIONS = ("--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", f"--username={SUPERUSER}")
# The lab's data may be lost with the machine, so nothing is flushed; RDS flushes, which only makes writes slower.
SETTINGS: Mapping[str, str] = {
    "port": str(PORT),
    "unix_socket_directories": f"'{MOUNT}'",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    # Files in the data folder: nothing stays in /dev/shm after a SIGKILL.
    "dynamic_shared_memory_type": "mmap",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "max_worker_processes": "2",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "superuser_reserved_connections": "3",
    "password_encryption": "scram-sha-256",
    "ssl": "on",
    "ssl_cert_file": "'server.crt'",
    "ssl_key_file": "'server.key'",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_line_prefix": "'%m [%p] %q%u@%d from %h '",
    "track_io_timing": "on",
    "track_wal_io_timing": "on",
}
# Local connections are the lab's own: the socket's folder is closed to everybody but root and the server.
HBA = f"""local all all trust
hostssl all {SUPERUSER} 0.0.0.0/0 reject
hostssl all all 0.0.0.0/0 scram-sha-256
"""


def as_server(folder: Path, argv: Sequence[str]) -> list[str]:
    """``argv`` run as the server's user with ``folder`` at /mnt."""
    script = f'mount --bind "$0" {MOUNT} && exec setpriv --reuid={USER} --regid={USER} --init-groups -- "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(folder), *argv]


def template() -> Path:
    """An empty cluster to copy, made once per PostgreSQL version and options."""
    version = processes.run([str(BINARIES / "postgres"), "--version"])
    key = hashlib.sha256(" ".join([version, *INITDB_OPTIONS]).encode()).hexdigest()[:16]
    folder = settings.cache_dir() / "postgresql" / key
    if not folder.exists():
        work = folder.with_suffix(".new")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        shutil.chown(work, USER, USER)
        initdb = [str(BINARIES / "initdb"), *INITDB_OPTIONS, f"--pgdata={MOUNT}/data"]
        processes.run(as_server(work, initdb), timeout=120, cwd="/")
        work.rename(folder)
    return folder


def create(folder: Path, address: str, max_connections: int, certificate: tuple[Path, Path]) -> None:
    """Make a cluster in ``folder`` that listens on ``address`` with TLS; it is not started."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    shutil.chown(folder, USER, USER)
    processes.run(["cp", "-a", "--reflink=auto", str(template() / "data"), str(folder / "data")])
    options = {**SETTINGS, "listen_addresses": f"'{address}'", "max_connections": str(max_connections)}
    files = {
        "postgresql.conf": "".join(f"{name} = {value}\n" for name, value in options.items()),
        "pg_hba.conf": HBA,
        "server.crt": certificate[0].read_text(encoding="utf-8"),
        "server.key": certificate[1].read_text(encoding="utf-8"),
    }
    for name, text in files.items():
        path = folder / "data" / name
        settings.write_text(path, text, mode=0o600)
        shutil.chown(path, USER, USER)


def start(name: str, folder: Path, timeout: float = 20.0) -> None:
    """Start the cluster as daemon ``name`` and wait until it answers; nothing happens when it runs."""
    processes.start(name, as_server(folder, [str(BINARIES / "postgres"), "-D", f"{MOUNT}/data"]), cwd="/")
    deadline = time.monotonic() + timeout
    while True:
        try:
            connect(folder, "postgres").close()
            return
        except psycopg.Error as error:
            if time.monotonic() > deadline or not processes.alive(name):
                raise LabError(f"{name} does not answer; see {settings.logs_dir() / name}.log") from error
            time.sleep(0.05)


def stop(name: str, timeout: float = 10.0) -> None:
    """Stop the daemon ``name`` by a fast shutdown (sessions are ended), after ``timeout`` seconds by force."""
    processes.signal_daemon(name, signal.SIGINT)
    deadline = time.monotonic() + timeout
    while processes.alive(name) and time.monotonic() < deadline:
        processes.reap()
        time.sleep(0.05)
    processes.stop(name)


def remove(name: str, folder: Path) -> None:
    """Stop the daemon ``name`` and delete its folder, with the shared memory that a killed server leaves behind."""
    stop(name)
    record = folder / "data" / "postmaster.pid"
    if record.exists():
        segment = record.read_text(encoding="utf-8").splitlines()[6:7]
        if segment:
            processes.run(["ipcrm", "-m", segment[0].split()[1]], check=False)
    shutil.rmtree(folder)


def connect(folder: Path, database: str, user: str = SUPERUSER) -> psycopg.Connection:
    """A connection over the local socket of a cluster, autocommit; usable from the host."""
    return psycopg.connect(
        host=str(folder), port=PORT, dbname=database, user=user, autocommit=True, connect_timeout=5,
        application_name="lab",
    )  # fmt: skip
