# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes resource quantities (Kubernetes documentation, Resource units)."""

from __future__ import annotations

import re
from typing import Any

SUFFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3}
BYTE_UNITS = {
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "": 1,
}
BYTES = re.compile(r"^(?P<number>\d+(?:\.\d+)?)(?P<unit>[KMGT]i|[kMGT]|)$")


def cores(quantity: str) -> float:
    """Return a CPU quantity in cores.

    Raises:
        ValueError: the text is not a CPU quantity.
    """
    number = quantity.rstrip("numk")
    return float(number) * SUFFIXES[quantity[len(number) :]]


def byte_count(quantity: Any) -> int | None:
    """Read a memory quantity, such as ``512Mi``, in bytes; None when it is none."""
    match = BYTES.match(str(quantity or ""))
    return int(float(match["number"]) * BYTE_UNITS[match["unit"]]) if match else None
