# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages: one HTML file each, without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.content import Content, content
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.fleet import fleet_content
from ansible_collections.mlops.mlflow_runbook.plugins.plugin_utils.html_pictures import flow_picture, latency_picture
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
ON_DEMAND = frozenset({"ruled_out", "proof", "discovered"})
"""Sections that open on demand; the others are shown at once."""


def environment() -> Environment:
    """Every value is escaped, and a name that a template misspells is an error."""
    return Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(TEMPLATES),
    )


def render(template: str, **values: Any) -> str:
    """Render a template with the style, the script and the policy that admits only them.

    Args:
        template: name of its file.
        values: what it shows.
    """
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "copy.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Style and script are files of ours, and never hold a collected text.
    own = {"style": Markup(style), "script": Markup(script)}  # noqa: S704
    return environment().get_template(template).render(policy=f"'sha256-{digest}'", **own, **values)


def page(report: Mapping[str, Any]) -> str:
    """Render the page of one report; it says what the text says."""
    return render("report.html.j2", **of_report(content(report)))


def of_report(says: Content) -> dict[str, Any]:
    """Return what the template of a report shows."""
    flow, latency = says.section("flow"), says.section("latency")
    return {
        "says": says,
        "flow": flow_picture([entry.data for entry in flow.entries]) if flow else None,
        "latency": latency_picture(latency.entries) if latency else None,
        "on_demand": ON_DEMAND,
    }


def fleet_page(document: Mapping[str, Any]) -> str:
    """Render the page on all servers of a run; it says what the text says."""
    return render("fleet.html.j2", says=fleet_content(document))
