#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: revoke_rule
short_description: Take back security-group rules that a step has put in
version_added: 0.1.0
description:
  - Revokes exactly the rules that are named, and no other.
  - There is no module of C(amazon.aws) that removes single rules.
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
options:
  change:
    description: The undo that C(mlops.mlflow_runbook.attempt) has returned.
    type: dict
    required: true
extends_documentation_fragment:
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Take the ingress back
  mlops.mlflow_runbook.revoke_rule:
    change: "{{ undo['change'] }}"
"""

RETURN = r"""
msg:
  description: Why it failed.
  returned: always
  type: str
  sample: ""
"""
