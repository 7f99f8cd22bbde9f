# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes resource quantities (Kubernetes documentation, Resource units)."""

from __future__ import annotations

SUFFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3}


def cores(quantity: str) -> float:
    """Return a CPU quantity in cores.

    Raises:
        ValueError: the text is not a CPU quantity.
    """
    number = quantity.rstrip("numk")
    return float(number) * SUFFIXES[quantity[len(number) :]]
