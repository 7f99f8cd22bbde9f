#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Write and show the report of an assessment
version_added: 0.1.0
description:
  - Writes JSON, text and HTML below C(mlflow_report_dir), shows the text and sets statistics.
  - Writes nothing in check mode.
  - Fails as C(mlflow_fail_on) says.
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
options:
  require_repair:
    description: Fail unless the server is healthy or was repaired.
    type: bool
    default: false
  first_run:
    description: The C(run) of the assessment that a repair began with; its refusals are reported, its files removed.
    type: str
    default: ""
  interrupted:
    description: Name of a step whose write failed; the report says why and what became of it, and the task fails.
    type: str
    default: ""
extends_documentation_fragment:
  - mlops.mlflow_runbook.assessment
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Report
  mlops.mlflow_runbook.report:
    run: "{{ assessment['run'] }}"
    report_digest: "{{ assessment['report_digest'] }}"
"""

RETURN = r"""
status:
  description: Status of the server.
  returned: always
  type: str
  sample: healthy
causes:
  description: Ids of the causes.
  returned: always
  type: list
  elements: str
  sample: []
outcome:
  description: Outcome of a repair.
  returned: always
  type: str
  sample: fixed
report:
  description: Path of the JSON report; empty in check mode.
  returned: always
  type: str
  sample: /home/me/.local/state/mlops-mlflow-runbook/reports/lab_mlflow_mlflow/20261122T215412Z.json
"""
