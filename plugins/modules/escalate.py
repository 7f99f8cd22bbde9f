#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: escalate
short_description: Diagnose one MLflow tracking server and write a bundle for another team
version_added: 0.1.0
description:
  - Collects and judges as M(mlops.mlflow_runbook.assess) does, reads CloudWatch Logs too, and writes one archive.
  - Looks through it for every secret that was met and for all that looks like one; on a hit it fails and writes none.
  - Reads the C(mlflow_*) variables of the role C(mlops.mlflow_runbook.mlflow).
  - Changes nothing except for short-lived probe pods; in check mode not even those, and writes no archive.
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
options: {}
extends_documentation_fragment:
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Write a bundle of the server of namespace mlflow
  mlops.mlflow_runbook.escalate:
  vars:
    mlflow_namespace: mlflow
  register: escalation
"""

RETURN = r"""
bundle:
  description: Path of the archive; empty in check mode.
  returned: success
  type: str
  sample: /home/me/reports/lab_mlflow_mlflow/mlflow-mlflow-mlflow-20261122T215412Z.tar.gz
size:
  description: Bytes of the archive.
  returned: success
  type: int
  sample: 51234
left_out:
  description: What the archive does not hold, and why.
  returned: success
  type: list
  elements: str
  sample: ["CloudWatch Logs: all of it (forbidden: logs:DescribeLogGroups)"]
run:
  description: Folder with the report and the evidence, for M(mlops.mlflow_runbook.report).
  returned: success
  type: str
  sample: /tmp/mlflow-runbook-x1
report_digest:
  description: SHA-256 of the report in that folder.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
status:
  description: C(healthy), C(degraded), C(down), C(at_risk), C(recovered) or C(unknown).
  returned: success
  type: str
  sample: down
causes:
  description: Ids of the causes.
  returned: success
  type: list
  elements: str
  sample: [database.security_group_closed]
"""
