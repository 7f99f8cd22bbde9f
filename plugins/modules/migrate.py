#!/usr/bin/python
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work in the controller's process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: migrate
short_description: Upgrade the database schema of one MLflow tracking server
version_added: 0.1.0
description:
  - Reads the schema's revision and the one that the image expects with a copy of the server's pod, and refuses unless
    the operator confirmed exactly these two.
  - Wants or takes an RDS snapshot, scales the server to zero, waits until nobody uses the database, upgrades it once in
    a Job with the server's image, environment and identity, reads the revision again and gives the replicas back.
  - No password stands on a command line or in the output. The attempt and its undo are recorded first.
  - Reads the C(mlflow_*) variables of the role C(mlops.mlflow_runbook.mlflow). Changes nothing in check mode.
author: ["mlops.mlflow_runbook contributors (!UNKNOWN)"]
requirements:
  - kubernetes
  - boto3
extends_documentation_fragment:
  - mlops.mlflow_runbook.attributes
"""

EXAMPLES = r"""
- name: Migrate the database of the server of namespace mlflow
  mlops.mlflow_runbook.migrate:
  vars:
    mlflow_namespace: mlflow
    mlflow_migrate_confirm: "0584bdc529eb:bda7b8c39065"
"""

RETURN = r"""
state:
  description:
    - C(current) when there was nothing to do, C(refused), C(planned) in check mode, C(migrated), C(failed) when the
      schema and the replicas are what they were, C(stopped) when the server had to stay at zero.
  returned: always
  type: str
  sample: migrated
current:
  description: Revision of the schema before.
  returned: always
  type: str
  sample: 0584bdc529eb
target:
  description: Newest revision that the image knows.
  returned: always
  type: str
  sample: bda7b8c39065
replicas:
  description: Replicas that the server has at the end.
  returned: always
  type: int
  sample: 1
snapshot:
  description: RDS snapshot to go back to; empty when there is none.
  returned: always
  type: str
  sample: mlflow-mlflow-db-20261127-160300
outcome:
  description: C(fixed), C(improved), C(unchanged), C(unknown); empty when nothing was begun.
  returned: always
  type: str
  sample: fixed
status:
  description: Status of the server at the end.
  returned: always
  type: str
  sample: healthy
causes:
  description: Ids of the causes of what is wrong with the server at the end.
  returned: always
  type: list
  elements: str
  sample: []
reasons:
  description: Why it was refused.
  returned: always
  type: list
  elements: str
  sample: []
"""
