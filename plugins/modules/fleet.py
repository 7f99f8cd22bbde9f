#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet
short_description: Report on all servers of a run
version_added: 0.1.0
description:
  - Writes C(fleet.json), C(fleet.txt) and C(fleet.html) into C(mlflow_report_dir) of the host that runs it, the worst
    server first and what several servers share only once, and shows the text.
  - Meant to run once, after every host of the play has its report; it reads what the role C(mlflow) registered.
  - Fails when two hosts are one server. Writes nothing in check mode.
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
options:
  check:
    description: Only look for hosts that are one server; needs the assessments and no reports.
    type: bool
    default: false
extends_documentation_fragment:
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Report on all servers
  mlops.mlflow_runbook.fleet:
  run_once: true
  when: ansible_play_hosts_all | length > 1
"""

RETURN = r"""
report:
  description: Path of the JSON document; empty in check mode.
  returned: always
  type: str
  sample: /home/me/.local/state/mlops-mlflow-runbook/reports/fleet.json
counts:
  description: Number of servers of each status.
  returned: when the report was written
  type: dict
  sample: {"down": 1, "healthy": 3}
"""
