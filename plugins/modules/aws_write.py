#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aws_write
short_description: Write to AWS what no module writes by itself
version_added: 0.1.0
description:
  - Makes exactly one call, which revokes the rules that are named and no other, or starts or stops one RDS instance.
  - There is no module of C(amazon.aws) that removes single rules; the one for instances compares and modifies other
    settings of the instance as well.
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
options:
  change:
    description: What C(mlops.mlflow_runbook.guard) or C(mlops.mlflow_runbook.attempt) has returned as C(change).
    type: dict
    required: true
extends_documentation_fragment:
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Take the ingress back
  mlops.mlflow_runbook.aws_write:
    change: "{{ undo['change'] }}"
"""

RETURN = r"""
msg:
  description: Why it failed.
  returned: always
  type: str
  sample: ""
"""
