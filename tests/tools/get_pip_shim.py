# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for get-pip.py: installs pip from the wheel that Python itself carries, so that no host has to be reached.

ansible-test bootstraps its virtual environments with the file of that name in its cache folder.
"""

from __future__ import annotations

import ensurepip
import sys
from pathlib import Path

bundled = Path(ensurepip.__file__).parent / "_bundled"
sys.path.insert(0, str(next(bundled.glob("pip-*.whl"))))

from pip._internal.cli.main import main  # noqa: E402

arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(main(["install", *arguments]))
