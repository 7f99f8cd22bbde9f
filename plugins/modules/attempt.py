#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: attempt
short_description: Keep the record of a step beside the server
version_added: 0.1.0
description:
  - Records in the ConfigMap C(mlflow-runbook-<deployment>) that a step was written, or what became of it.
  - With C(resume), judges a step whose run was killed. With C(undo), returns the change that takes the last step back.
  - Holds and gives back the Lease of the same name; C(held) fails when it is not ours any more.
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
options:
  state:
    description: What to record.
    type: str
    required: true
    choices: [held, written, judged, resume, undo, release]
  attempt:
    description: Id of the attempt, for C(written) and C(judged).
    type: str
    default: ""
  outcome:
    description: What became of it, for C(judged).
    type: str
    default: ""
extends_documentation_fragment:
  - mlops.mlflow_runbook.assessment
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Judge what an earlier run could not finish
  mlops.mlflow_runbook.attempt:
    state: resume
    run: "{{ assessment['run'] }}"
    report_digest: "{{ assessment['report_digest'] }}"
"""

RETURN = r"""
refused:
  description: Whether the last step must not be taken back, since somebody else changed the same fields.
  returned: always
  type: bool
  sample: false
permitted:
  description: Whether there is a change to take the last step back with.
  returned: always
  type: bool
  sample: false
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
outcome:
  description: What became of the attempt.
  returned: always
  type: str
  sample: fixed
msg:
  description: What was found, in a sentence.
  returned: always
  type: str
  sample: no step is recorded that could be taken back
"""
