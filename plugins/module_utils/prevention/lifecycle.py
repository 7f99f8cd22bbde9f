# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dates after which AWS supports something no more, for when AWS itself cannot be asked."""

from __future__ import annotations

STANDARD_SUPPORT = {
    ("postgres", "9"): "2022-01-18",
    ("postgres", "10"): "2023-04-17",
    ("postgres", "11"): "2024-02-29",
    ("postgres", "12"): "2025-02-28",
    ("postgres", "13"): "2026-02-28",
    ("postgres", "14"): "2027-02-28",
    ("postgres", "15"): "2028-02-29",
    ("postgres", "16"): "2029-02-28",
    ("postgres", "17"): "2030-02-28",
}
"""Engine and major version, and the end of RDS standard support.

Source: Amazon RDS for PostgreSQL release notes, "Release calendars for Amazon RDS for PostgreSQL".
"""

AUTHORITIES = {
    "rds-ca-2015": "2020-03-05",
    "rds-ca-2019": "2024-08-22",
    "rds-ca-rsa2048-g1": "2061-05-01",
    "rds-ca-rsa4096-g1": "2121-05-01",
    "rds-ca-ecc384-g1": "2121-05-01",
}
"""Certificate authorities of RDS and when the first of their regions expires.

Source: Amazon RDS user guide, "Certificate authorities": 40 and 100 years from May 2021; rds-ca-2019 by region.
"""
