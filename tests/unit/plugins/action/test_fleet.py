# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the page on all servers finds the report of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.action import fleet


@pytest.mark.parametrize(
    ("place", "link"),
    [("reports/one/latest.json", "one/latest.html"), ("elsewhere/latest.json", "../elsewhere/latest.html")],
)
def test_hosts_may_keep_their_reports_in_folders_of_their_own(tmp_path: Path, place: str, link: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"schema": 1}), encoding="utf-8")
    server = fleet.server_of("one", {fleet.REPORT: {"report": str(path)}}, tmp_path / "reports")
    assert server.page == link
