# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at the pages of reports in a real browser, as a person does on a phone and at a desk.

``check`` judges the pages of recorded evidence; ``shoot`` writes pictures of given reports.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.fleet import Server, fleet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import before
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.html import fleet_page, page

from tests.lab.browser import Page, browser
from tests.recorded import report_on

RECORDS = (
    "database_and_bucket_broken",
    "database_connections_exhausted_restarted",
    "database_recovered",
    "healthy",
    "ingress_backend_port_wrong",
    "latency_database_slow",
    "network_policy",
    "out_of_memory",
    "packets_dropped",
    "role_policy_denies",
    "security_group_closed_connections_alive",
    "selector_matches_nothing",
    "two_servers",
)
SIZES = {"phone": (390, 844), "desk": (1100, 800)}
FAULTS = Path(__file__).with_name("page_faults.js")


def pages() -> Iterator[tuple[str, str]]:
    """Yield names and pages: one for each kind of answer, one after a repair, one of many servers."""
    for name in RECORDS:
        yield name, page(report_on(name))
    action = {"step": "restore_security_group_rule", "changed": True, "diff": [], "seconds": 1.0}
    earlier = before(report_on("security_group_rule_removed"))
    yield "repaired", page({**report_on("healthy"), "outcome": "fixed", "actions": [action], "before": earlier})
    long = report_on("out_of_memory")
    long["verdict"]["causes"][0] |= {"summary": "x" * 10_000, "object": "\u202eyrtsiger" * 20}
    long["server"]["name"] = "tracking-server-" * 10
    yield "long", page(long)
    servers = [Server(name, "", f"{name}/latest.html", report_on(name)) for name in RECORDS]
    yield "fleet", fleet_page(fleet([*servers, Server("twin", "", "twin/latest.html", report_on("out_of_memory"))]))


def faults_of(tab: Page, name: str, html: str, folder: Path) -> list[str]:
    """Return everything that is wrong with a page on any screen."""
    path = folder / f"{name}.html"
    path.write_text(html, encoding="utf-8")
    found = []
    for size, (width, height) in SIZES.items():
        for dark in (False, True):
            tab.resize(width, height, phone=size == "phone", dark=dark)
            tab.open(path.as_uri())
            foreign = [f"asks for {url}" for url in tab.requests() if url != path.as_uri()]
            wrong = [*tab.evaluate(FAULTS.read_text(encoding="utf-8")), *tab.problems(), *foreign]
            found += [f"{name}, {size}{', dark' if dark else ''}: {fault}" for fault in wrong]
    return found


def check() -> bool:
    """Print what is wrong with any page; True when nothing is."""
    with tempfile.TemporaryDirectory(prefix="mlflow-runbook-pages-") as folder, browser() as tab:
        looked = [(name, faults_of(tab, name, html, Path(folder))) for name, html in pages()]
    for dummy, faults in looked:
        for fault in faults:
            print(fault)
    bad = sum(bool(faults) for dummy, faults in looked)
    print(f"{len(looked)} pages on {len(SIZES)} screens, light and dark: {bad} bad")
    return not bad


def html_of(source: str) -> tuple[str, str]:
    """Return the name and the page of a record of ``tests/evidence``, or of a report's or a fleet's JSON file."""
    name, dummy, path = source.rpartition("=")
    if not path.endswith(".json"):
        return name or path, dict(pages())[path] if path in ("fleet", "repaired") else page(report_on(path))
    document: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return name or Path(path).stem, fleet_page(document) if "servers" in document else page(document)


def shoot(sources: list[str], folder: Path, screens: list[str]) -> bool:
    """Write a PNG of each report on each screen, such as ``phone``, ``desk`` or ``phone-dark``."""
    with tempfile.TemporaryDirectory(prefix="mlflow-runbook-pages-") as temporary, browser() as tab:
        for source in sources:
            name, html = html_of(source)
            path = Path(temporary) / f"{name}.html"
            path.write_text(html, encoding="utf-8")
            for screen in screens:
                size, dummy, dark = screen.partition("-")
                tab.resize(*SIZES[size], phone=False, dark=bool(dark))
                tab.open(path.as_uri())
                tab.screenshot(folder / f"{name}-{screen}.png")
                print(folder / f"{name}-{screen}.png")
    return True


def main() -> int:
    """Parse the command line; non-zero when a page is bad."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.pages", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="judge the pages of recorded evidence")
    shooting = commands.add_parser("shoot", help="write pictures of reports")
    shooting.add_argument("sources", nargs="+", help="[NAME=]record of tests/evidence or report.json")
    shooting.add_argument("--folder", type=Path, default=Path("docs/screenshots"))
    shooting.add_argument("--screens", default="phone,desk")
    arguments = parser.parse_args()
    if arguments.command == "check":
        return 0 if check() else 1
    return 0 if shoot(arguments.sources, arguments.folder, arguments.screens.split(",")) else 1


if __name__ == "__main__":
    sys.exit(main())
