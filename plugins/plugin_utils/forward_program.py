# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that the background process behind an open dashboard begins with: it finds the collection, then runs it.

The orders come as one line of JSON on standard input, so that the argument list holds nothing but the server's name.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from ansible.plugins.loader import init_plugin_loader

FORWARDER = "ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.forwarder"


def main() -> None:
    """Read the orders, make collections importable as Ansible does, and carry the orders out."""
    orders = json.loads(sys.stdin.readline())
    init_plugin_loader(orders["collection_paths"])
    importlib.import_module(FORWARDER).carry_out(orders)


if __name__ == "__main__":
    os.umask(0o077)
    main()
