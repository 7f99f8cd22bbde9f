# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs the probe for its way into a pod: sources and specification in one document, read from standard input."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from . import common, container, database, disk, network, repairs, script, storage, web

MODULES = (common, network, container, disk, database, web, storage, repairs, script)

PROGRAM = """\
import sys, json, types
document = json.loads(sys.stdin.buffer.read(int(sys.argv[1])))
package = types.ModuleType("probe")
package.__path__ = []
sys.modules["probe"] = package
for name, source in document["modules"]:
    module = types.ModuleType("probe." + name)
    module.__package__ = "probe"
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(compile(source, name + ".py", "exec"), module.__dict__)
module.main(document["wanted"])
"""
"""What ``python3 -c`` is given; it holds no secret."""


def document(wanted: Mapping[str, Any]) -> str:
    """Return what the program reads: the probe's modules, each after those that it imports, and what is wanted."""
    modules = [(module.__name__.rpartition(".")[2], inspect.getsource(module)) for module in MODULES]
    return json.dumps({"modules": modules, "wanted": wanted})
