# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes quantities."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.quantity import byte_count

MIB = 1 << 20


@pytest.mark.parametrize(
    ("quantity", "size"),
    [
        ("512Mi", 512 * MIB),
        ("1.5Gi", 1536 * MIB),
        ("351432Ki", 351432 << 10),
        ("1000", 1000),
        ("2M", 2000000),
        ("1m", None),
        (None, None),
    ],
)
def test_byte_count(quantity: str | None, size: int | None) -> None:
    assert byte_count(quantity) == size
