# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page is one file that anybody can open safely, and it says what the text says."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.content import content
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.fleet import Server, fleet, fleet_content
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import before, fleet_text, text
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.html import TEMPLATES, fleet_page, page

from tests.recorded import report_on

SHOWN = (
    "artifact_serving_off",
    "database_and_bucket_broken",
    "database_recovered",
    "healthy",
    "ingress_backend_port_wrong",
    "latency_database_slow",
    "network_policy",
    "out_of_memory",
    "packets_dropped",
    "security_group_closed_connections_alive",
    "security_group_rule_removed",
    "sqlite_store",
    "two_servers",
)
VOID = frozenset({"meta", "br", "path", "rect", "link", "img", "input", "hr"})
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; DROP TABLE runs; --",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egnp.exe\u2066 \x1b[2J\x1b]0;owned\x07 \u2028",
    "x" * 10_000,
    "</title></style></script><svg onload=alert(1)>",
)


class Outline(HTMLParser):
    """Collects what a page is made of, and every way in which it is not well formed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.problems: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    def values(self, name: str) -> list[str]:
        return [value for dummy, attribute, value in self.attributes if attribute == name]


def outline(html: str) -> Outline:
    found = Outline()
    found.feed(html)
    found.close()
    return found


def repaired() -> dict[str, Any]:
    report = report_on("healthy")
    action = {"step": "restore_security_group_rule", "changed": True, "diff": ["tcp 5432"]}
    return {
        **report,
        "outcome": "fixed",
        "actions": [action],
        "before": before(report_on("security_group_rule_removed")),
    }


def squeezed(words: str) -> str:
    return re.sub(r"\s+", " ", words).strip()


@pytest.mark.parametrize("name", SHOWN)
def test_the_page_is_well_formed_and_stands_alone(name: str) -> None:
    html = page(report_on(name))
    found = outline(html)
    assert found.problems == []
    assert found.open == []
    assert ("html", "lang", "en") in found.attributes
    assert (found.tags.count("h1"), found.tags.count("main"), found.tags.count("title")) >= (1, 1, 1)
    identifiers = found.values("id")
    assert len(identifiers) == len(set(identifiers))
    referred = {word for value in found.values("aria-labelledby") for word in value.split()}
    assert referred <= set(identifiers)
    assert not {"src", "href", "srcset", "action", "background"} & {name for dummy, name, value in found.attributes}
    assert not re.search(r"@import|url\((?!#)", html)
    assert found.tags.count("script") == 1


@pytest.mark.parametrize("name", SHOWN)
def test_text_and_page_say_the_same(name: str) -> None:
    report = report_on(name)
    says = content(report)
    written = squeezed(text(report))
    shown = squeezed("".join(outline(page(report)).words))
    wanted = [says.name, says.headline, says.subtitle, says.footer]
    wanted += [line.text for block in says.blocks for line in block.lines]
    wanted += [section.title for section in says.sections]
    wanted += [part for section in says.sections for entry in section.entries for part in (entry.head, entry.rest)]
    assert [part for part in wanted if squeezed(part) not in written] == []
    assert [part for part in wanted if squeezed(part) not in shown] == []


def test_text_and_page_of_a_fleet_say_the_same() -> None:
    names = ("healthy", "security_group_rule_removed", "out_of_memory", "two_servers")
    servers = [Server(name, "", f"{name}/latest.html", report_on(name)) for name in names]
    twin = Server("<b>twin</b>", "", "twin/latest.html", report_on("security_group_rule_removed"))
    document = fleet([*servers, twin])
    says = fleet_content(document)
    written, found = squeezed(fleet_text(document)), outline(fleet_page(document))
    shown = squeezed(" ".join(found.words))
    assert (found.problems, found.open) == ([], [])
    assert set(found.values("href")) == {f"{name}/latest.html" for name in (*names[1:], "twin")}
    parts = [part for section in says.sections for entry in section.entries for part in entry.data.get("parts", [])]
    heads = [entry.head for section in says.sections for entry in section.entries]
    wanted = [says.headline, says.subtitle, *parts, *heads]
    assert [part for part in wanted if squeezed(part) not in written] == []
    assert [part for part in wanted if squeezed(part) not in shown] == []


def test_a_repair_is_shown_before_and_after() -> None:
    report = repaired()
    assert "  - status: down → healthy\n" in text(report)
    shown = squeezed(" ".join(outline(page(report)).words))
    assert "before after" in shown
    assert re.search(r"status\s+down\s+healthy", shown)
    assert re.search(r"cause\s+database.security_group_closed", shown)
    assert "restore_security_group_rule: tcp 5432" in shown


def poisoned(data: Any, poison: str, key: str = "") -> Any:
    """Put a hostile text into every text that is not of our own making."""
    if isinstance(data, dict):
        return {name: poisoned(value, poison, name) for name, value in data.items()}
    if isinstance(data, list):
        return [poisoned(value, poison, key) for value in data]
    own = ("id", "status", "state", "kind", "started", "since", "at", "from", "to", "class", "step", "severity")
    return poison + data if isinstance(data, str) and key not in own else data


@pytest.mark.parametrize("poison", HOSTILE)
def test_hostile_text_stays_text(poison: str) -> None:
    calm = report_on("security_group_rule_removed")
    report = poisoned(copy.deepcopy(calm), poison)
    report["flow"] = poisoned(report["flow"], poison)
    html = page(report)
    found, before_it = outline(html), outline(page(calm))
    assert found.problems == []
    assert (found.tags.count("script"), found.tags.count("img")) == (1, 0)
    assert sorted({name for dummy, name, value in found.attributes}) == sorted(
        {name for dummy, name, value in before_it.attributes}
    )
    for written in (html, text(report)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", written)
        assert len(max(re.split(r"\s", written), key=len)) < 6_000


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(scheme: str) -> None:
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", light if scheme == "light" else dark.split("* {")[0]))
    for words in ("ink", "faint", "good", "bad", "warn"):
        for ground in ("paper", "card"):
            assert contrast(colours[words], colours[ground]) >= 4.5, (words, ground)
    assert contrast(colours["on"], colours["bad"]) >= 4.5
    assert contrast(colours["edge"], colours["paper"]) >= 3
