#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: in_pod
short_description: Carry out a permitted step inside the server's pod
version_added: 0.1.0
description:
  - Ends one abandoned database session of the server's own user, or removes old files from the artifact cache.
  - Enters only pods whose memory has room for it.
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
options:
  change:
    description: The change that C(mlops.mlflow_runbook.guard) has permitted.
    type: dict
    required: true
  run:
    description: The C(run) of the assessment that knows the server's pods.
    type: str
    required: true
extends_documentation_fragment:
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Act inside the server's pod
  mlops.mlflow_runbook.in_pod:
    change: "{{ permission['change'] }}"
    run: "{{ assessment['run'] }}"
"""

RETURN = r"""
results:
  description: What each pod answered.
  returned: always
  type: list
  elements: dict
  sample: [{pod: mlflow-1, removed: 12, bytes: 40960}]
"""
