# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delays packets that the packet filter hands over (NFQUEUE): ``python -m tests.lab.delay QUEUE MILLISECONDS``.

The kernel has no netem here, so this does its work for one direction: each packet is let through unchanged, later.
Wire format: linux/netfilter/nfnetlink.h and nfnetlink_queue.h.
"""

from __future__ import annotations

import collections
import select
import socket
import struct
import sys
import time

NETLINK_NETFILTER = 12
SUBSYSTEM = 3 << 8  # NFNL_SUBSYS_QUEUE
PACKET, VERDICT, CONFIG = SUBSYSTEM | 0, SUBSYSTEM | 1, SUBSYSTEM | 2
REQUEST, ACKNOWLEDGE = 1, 4
ACCEPT = 1
CFG_CMD, CFG_PARAMS, CFG_MAXLEN = 1, 2, 3
COMMAND_BIND = 1
COPY_META = 1
ATTRIBUTE_PACKET_HEADER, ATTRIBUTE_VERDICT_HEADER = 1, 2
QUEUE_LENGTH = 65536


def attribute(kind: int, payload: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def message(kind: int, flags: int, queue: int, attributes: bytes) -> bytes:
    """One nfnetlink message for a queue."""
    header = struct.pack("=IHHII", 20 + len(attributes), kind, flags, 0, 0)
    return header + struct.pack("!BBH", socket.AF_UNSPEC, 0, queue) + attributes


def packet_ids(data: bytes) -> list[int]:
    """Ids of the packets that one read from the socket announces."""
    found = []
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        position = 20
        while kind == PACKET and position + 4 <= length:
            size, name = struct.unpack_from("=HH", data, position)
            if name & 0x7FFF == ATTRIBUTE_PACKET_HEADER:
                found.append(struct.unpack_from("!I", data, position + 4)[0])
                break
            position += size + (-size % 4)
        data = data[length + (-length % 4) :]
    return found


def main(queue: int, seconds: float) -> None:
    """Let every packet of the queue through ``seconds`` after it came; ends only by a signal."""
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    channel.bind((0, 0))
    settings = (
        attribute(CFG_CMD, struct.pack("!BBH", COMMAND_BIND, 0, socket.AF_INET)),
        attribute(CFG_PARAMS, struct.pack("!IB", 0, COPY_META)),
        attribute(CFG_MAXLEN, struct.pack("!I", QUEUE_LENGTH)),
    )
    for setting in settings:
        channel.send(message(CONFIG, REQUEST, queue, setting))
    waiting: collections.deque[tuple[float, int]] = collections.deque()
    while True:
        wait = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        if select.select([channel], [], [], wait)[0]:
            due = time.monotonic() + seconds
            waiting.extend((due, packet) for packet in packet_ids(channel.recv(65536)))
        while waiting and waiting[0][0] <= time.monotonic():
            verdict = attribute(ATTRIBUTE_VERDICT_HEADER, struct.pack("!II", ACCEPT, waiting.popleft()[1]))
            channel.send(message(VERDICT, REQUEST, queue, verdict))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) / 1000)
