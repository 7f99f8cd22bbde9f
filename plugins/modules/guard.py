#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guard
short_description: Decide right before a write whether a step may be carried out
version_added: 0.1.0
description:
  - Diagnoses again and asks every guard; nothing is written when one refuses.
  - Takes the server's Lease, and records the step and its undo, before it permits anything.
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
options:
  step:
    description: Name of the step.
    type: str
    required: true
extends_documentation_fragment:
  - mlops.mlflow_runbook.assessment
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Ask the guards
  mlops.mlflow_runbook.guard:
    step: restore_security_group_rule
    run: "{{ assessment['run'] }}"
    report_digest: "{{ assessment['report_digest'] }}"
"""

RETURN = r"""
permitted:
  description: Whether the step may be carried out now.
  returned: always
  type: bool
  sample: false
refused:
  description: Each guard that refuses, and why.
  returned: always
  type: list
  elements: dict
  sample: [{guard: allowed, reason: restore_security_group_rule is not named in mlflow_allowed_steps}]
write:
  description: Which kind of change it is, C(patch), C(delete), C(ec2), C(rds), C(pod) or C(none); empty without one.
  returned: always
  type: str
  sample: patch
change:
  description: The exact change, in the words of the module that makes it.
  returned: always
  type: dict
  sample: {}
attempt:
  description: Id of the recorded attempt.
  returned: always
  type: str
  sample: 0f1e2d3c4b5a6978
"""
