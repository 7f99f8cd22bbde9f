# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.tools.pages``: write the generated pages of ``docs``."""

from __future__ import annotations

from tests.lab.settings import REPOSITORY, write_text
from tests.tools.pages import catalogue, marked, parity, restricted

PAGES = {"parity.md": parity.page, "catalogue.md": catalogue.page}


def main() -> None:
    """Write all of them; the restricted operators' table only where there are results."""
    for name, page in PAGES.items():
        write_text(REPOSITORY / "docs" / name, page())
    found = restricted.results(REPOSITORY / "build")
    if found.keys() - {"full"}:
        marked.replace(REPOSITORY / "docs" / "restricted-operators.md", "results", restricted.table(found))


if __name__ == "__main__":
    main()
