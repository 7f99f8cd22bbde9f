# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure parts of the emulated cloud: metrics, packet delay, error answers."""

from __future__ import annotations

import struct

from tests.lab import delay
from tests.lab.emulation import errors
from tests.lab.emulation.metrics import Sample, metrics


def test_metrics_need_two_samples_for_rates() -> None:
    first = Sample(at=0, connections=3, size=100, cpu=1.0, memory=50, reads=10, read_time=1.0, writes=0, write_time=0)
    second = Sample(at=10, connections=4, size=100, cpu=3.0, memory=50, reads=20, read_time=2.0, writes=0, write_time=0)
    assert set(metrics(None, first, 1000)) == {"DatabaseConnections", "FreeStorageSpace", "FreeableMemory"}
    values = metrics(first, second, 1000)
    assert values["CPUUtilization"] == 10.0
    assert values["ReadLatency"] == 0.1
    assert values["WriteLatency"] == 0.0
    assert values["FreeStorageSpace"] == 900.0


def test_packet_ids_are_read_from_netlink_messages() -> None:
    header = delay.attribute(delay.ATTRIBUTE_PACKET_HEADER, struct.pack("!IHB", 7, 0x800, 1))
    other = delay.attribute(9, b"abc")
    data = delay.message(delay.PACKET, 0, 100, other + header) + delay.message(delay.VERDICT, 0, 100, header)
    assert delay.packet_ids(data) == [7]


def test_refusals_are_in_the_service_s_own_words() -> None:
    ec2 = errors.access_denied("ec2", "arn:u", "ec2:StopInstances", "*", "no policy")
    logs = errors.access_denied("logs", "arn:u", "logs:GetLogEvents", "*", "no policy")
    assert (ec2.code, logs.code) == ("UnauthorizedOperation", "AccessDeniedException")
    assert b"<Response><Errors>" in errors.render("ec2", ec2, "r")[1]
    assert errors.render("logs", logs, "r")[1].startswith(b'{"__type": "AccessDeniedException"')
    assert (
        b"<Error><Code>AccessDenied</Code>" in errors.render("s3", errors.credentials_failure("s3", "unsigned"), "r")[1]
    )
