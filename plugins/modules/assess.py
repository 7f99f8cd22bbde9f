#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: assess
short_description: Diagnose one MLflow tracking server
version_added: 0.1.0
description:
  - Collects evidence from Kubernetes, AWS and inside the pod network, judges it and makes a plan.
  - Reads the C(mlflow_*) variables of the role C(mlops.mlflow_runbook.mlflow).
  - Changes nothing except for short-lived probe pods; in check mode not even those.
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
options:
  sections:
    description: Judge only these sections.
    type: list
    elements: str
  writes:
    description: Whether the playbook may write; a near miss of a variable's name is then an error.
    type: bool
    default: false
  verify:
    description: Result of an earlier run of this module; looks again until the answer is stable and judges the outcome.
    type: dict
  undone:
    description: Whether the last step was taken back; then what it took away has to be there again.
    type: bool
    default: false
  instead_of:
    description: The C(run) of an earlier assessment that this one replaces; what was noted there is kept.
    type: str
    default: ""
extends_documentation_fragment:
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Diagnose the server of namespace mlflow
  mlops.mlflow_runbook.assess:
  vars:
    mlflow_namespace: mlflow
"""

RETURN = r"""
run:
  description: Folder with the report and the evidence, for the next task.
  returned: always
  type: str
  sample: /tmp/mlflow-runbook-x1
report_digest:
  description: SHA-256 of the report in that folder.
  returned: always
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
status:
  description: C(healthy), C(degraded), C(down), C(at_risk), C(recovered) or C(unknown).
  returned: always
  type: str
  sample: down
causes:
  description: Ids of the causes.
  returned: always
  type: list
  elements: str
  sample: [database.security_group_closed]
plan_digest:
  description: Digest of the plan, which an approval names.
  returned: always
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
steps:
  description: The plan's steps that are allowed by name, each with the section that carries it out.
  returned: always
  type: list
  elements: dict
  sample: [{step: restore_security_group_rule, section: database}]
outcome:
  description: C(fixed), C(improved), C(unchanged), C(worse) or C(unknown) when an earlier run was verified.
  returned: always
  type: str
  sample: fixed
done:
  description: Whether nothing else is to be tried after this verification.
  returned: always
  type: bool
  sample: true
"""
