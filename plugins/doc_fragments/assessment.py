# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules take that go on from an assessment."""

from __future__ import annotations


class ModuleDocFragment:
    """The files of an earlier M(mlops.mlflow_runbook.assess), and the proof that they are unchanged."""

    DOCUMENTATION = r"""
options:
  run:
    description: The C(run) of the assessment to go on from.
    type: str
    required: true
  report_digest:
    description: The C(report_digest) of that assessment; another report in its folder is refused.
    type: str
    required: true
"""
