# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a page in a headless Chromium: wait until it shows a link with a text, and take a picture of it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tests.lab.browser import browser

WIDTH, HEIGHT = 1000, 560
SECONDS = 90.0


def look(address: str, link: str, picture: Path) -> None:
    """Open a page; BrowserError when no link of that text appears on it.

    Args:
        address: URL of the page.
        link: text of the link.
        picture: PNG to write.
    """
    shown = f"[...document.querySelectorAll('a')].some(item => item.textContent.trim() === {json.dumps(link)})"
    with browser() as page:
        page.resize(WIDTH, HEIGHT)
        page.open(address)
        page.wait_for(shown, SECONDS)
        page.screenshot(picture, whole=False)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.look", description=__doc__)
    parser.add_argument("address", help="URL of the page")
    parser.add_argument("link", help="text of a link that has to be there")
    parser.add_argument("picture", type=Path, help="PNG to write")
    arguments = parser.parse_args()
    look(arguments.address, arguments.link, arguments.picture)


if __name__ == "__main__":
    main()
