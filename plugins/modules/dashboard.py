#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dashboard
short_description: Open or close the dashboard of one MLflow tracking server
version_added: 0.1.0
description:
  - Diagnoses the server, takes an ingress whose page opens, or starts a port-forward in the background that lasts when
    the pod is replaced, and proves that the page opens.
  - Reads the C(mlflow_*) variables of the role C(mlops.mlflow_runbook.mlflow); C(mlflow_dashboard_state) says
    whether the dashboard shall be open.
  - Listens on loopback only, ends only processes that it started itself, and leaves none behind when it fails.
  - Starts and ends nothing in check mode.
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
requirements:
  - psutil
extends_documentation_fragment:
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Open the dashboard of the server of namespace mlflow
  mlops.mlflow_runbook.dashboard:
  vars:
    mlflow_namespace: mlflow

- name: Close it
  mlops.mlflow_runbook.dashboard:
  vars:
    mlflow_namespace: mlflow
    mlflow_dashboard_state: absent
"""

RETURN = r"""
address:
  description: URL of the page; empty when the dashboard was closed.
  returned: success
  type: str
  sample: http://127.0.0.1:5000/
state:
  description: C(present) or C(absent).
  returned: always
  type: str
  sample: present
way:
  description: What leads to the server.
  returned: success
  type: str
  sample: kubectl port-forward to deployment/mlflow
pid:
  description: Process in the background; 0 when there is none.
  returned: success
  type: int
  sample: 4711
status:
  description: Status of the server; empty when the dashboard was closed.
  returned: success
  type: str
  sample: healthy
causes:
  description: Ids of the causes of what is wrong with the server.
  returned: success
  type: list
  elements: str
  sample: []
notes:
  description: What a person should know, such as which process has the port that was asked for.
  returned: success
  type: list
  elements: str
  sample: []
"""
