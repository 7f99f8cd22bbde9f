#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: replay
short_description: Judge a bundle again
version_added: 0.1.0
description:
  - Judges the evidence of a bundle that M(mlops.mlflow_runbook.escalate) wrote, without a cluster and without AWS.
  - Says whether the verdict is the recorded one.
  - Refuses an archive that is damaged, was changed or is no bundle; nothing of it is unpacked to a disk.
  - Reads the variable C(mlflow_bundle).
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
options: {}
extends_documentation_fragment:
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Judge a bundle that came with a ticket
  mlops.mlflow_runbook.replay:
  vars:
    mlflow_bundle: /tmp/mlflow-mlflow-mlflow-20261122T215412Z.tar.gz
"""

RETURN = r"""
status:
  description: Status of the server, as judged now.
  returned: success
  type: str
  sample: down
causes:
  description: Ids of the causes, as judged now.
  returned: success
  type: list
  elements: str
  sample: [database.security_group_closed]
same:
  description: Whether the verdict is the recorded one.
  returned: success
  type: bool
  sample: true
"""
