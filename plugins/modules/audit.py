#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: audit
short_description: Judge what prevents incidents of a tracking server
version_added: 0.1.0
description:
  - Reads the server's Kubernetes objects, its RDS instance, alarms, bucket, role and alert rules, and judges each item.
  - Writes JSON, text and HTML below C(mlflow_report_dir), shows the text and sets statistics.
  - Never writes to the server; enters one of its pods for the limits of its database, if C(mlflow_probe_pods) is on.
  - In check mode it enters no pod and writes no report.
  - A gap is no failure unless C(mlflow_fail_on) says C(cause), or C(unknown) for what could not be seen as well.
  - Takes its settings from the variables of the role C(mlops.mlflow_runbook.mlflow).
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
options: {}
extends_documentation_fragment:
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Audit
  mlops.mlflow_runbook.audit:
  register: prevention_audit
"""

RETURN = r"""
status:
  description: The worst that was found, C(weak), C(unknown) or C(ok).
  returned: always
  type: str
  sample: weak
missing:
  description: Ids of the items that are not there at all.
  returned: always
  type: list
  elements: str
  sample: [database.multi_az]
weak:
  description: Ids of the items that are there and do not help enough.
  returned: always
  type: list
  elements: str
  sample: [pods.readiness]
unknown:
  description: Ids of the items that could not be looked at.
  returned: always
  type: list
  elements: str
  sample: [alerts.pool_exhaustion]
report:
  description: Path of the JSON report; empty in check mode.
  returned: always
  type: str
  sample: /home/me/.local/state/mlops-mlflow-runbook/reports/lab_mlflow_mlflow/prevention-20261122T215412Z.json
"""
