# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The AWS side of the lab: starts and stops the emulation and lays out what every server shares."""

from __future__ import annotations

import sys
import time
from typing import Any

from tests.lab import aws, database, dns, identity, metadata, network, postgres, processes, settings
from tests.lab.settings import LabError

DAEMON = "aws-emulation"
FORWARD = "aws"
account_id = settings.AWS_ACCOUNT_ID
region = settings.AWS_REGION
GLOBAL_SERVICES = ("s3", "sts", "iam")


def admin(service: str) -> Any:
    """A boto3 client of the emulation with all rights, for the lab itself; works on the host."""
    return aws.admin(service)


def records() -> dict[str, str]:
    """Host names of AWS services and their addresses inside the lab, ``*.`` for any name below."""
    zone = f"{settings.AWS_REGION}.amazonaws.com"
    names = {f"*.{zone}": settings.AWS_OTHER_ADDRESS}
    for service, address in settings.AWS_ADDRESSES.items():
        names[f"{service}.{zone}"] = address
        if service in GLOBAL_SERVICES:
            names[f"{service}.amazonaws.com"] = address
    for suffix in (f"s3.{zone}", "s3.amazonaws.com"):
        names[f"*.{suffix}"] = settings.AWS_ADDRESSES["s3"]
    return names


def up() -> None:
    """Start the emulation, unless it runs, and create what all servers share.

    The emulation's state is in memory: a new one starts empty, so databases of an earlier one are removed.
    """
    if processes.alive(DAEMON) and aws.administrator_file().exists():
        return
    down()
    for address in [*settings.AWS_ADDRESSES.values(), settings.AWS_OTHER_ADDRESS]:
        network.add_address(address)
    dns.set_records("cloud", records())
    postgres.template()
    processes.start(DAEMON, [sys.executable, "-m", "tests.lab.emulation"])
    _wait_until_ready()
    network.forward(FORWARD, settings.HOST_AWS_PORT, unix_socket=aws.unix_socket())
    identity.create_account()
    metadata.up()


def _wait_until_ready(timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not aws.administrator_file().exists():
        if not processes.alive(DAEMON) or time.monotonic() > deadline:
            raise LabError(f"the AWS emulation did not start; see {settings.logs_dir() / DAEMON}.log")
        time.sleep(0.1)


def down() -> None:
    """Stop the emulation and remove every database; nothing happens when nothing is there."""
    metadata.down()
    processes.stop(f"{FORWARD}-out")
    processes.stop(DAEMON)
    database.clear()
    for file in (*aws.folder().glob("*.json"), aws.unix_socket()):
        file.unlink(missing_ok=True)


def status() -> dict[str, Any]:
    """What runs: ``{"emulation": bool, "databases": {identifier: bool}}``."""
    running = {instance.identifier: database.is_running(instance.identifier) for instance in database.instances()}
    return {"emulation": processes.alive(DAEMON), "databases": running}
