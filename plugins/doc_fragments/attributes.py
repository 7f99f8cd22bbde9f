# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all modules of this collection support."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of the in-process actions."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Runs in check mode without writing anything.
    support: full
  diff_mode:
    description: Shows what changes.
    support: none
  action:
    description: Runs in the controller's process as an action plugin.
    support: full
"""
