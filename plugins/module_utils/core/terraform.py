# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of the server's surroundings out of Terraform's outputs (``terraform output -json``)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

DATABASE = r"(?:^|_)(?:db|rds|database|postgres|postgresql|mysql|aurora|backend_store)"
PATTERNS = {
    "db_instance_identifier": re.compile(DATABASE + r"(?:_instance)?(?:_identifier|_instance_id|_instance_name|_id)$"),
    "db_host": re.compile(DATABASE + r"(?:_instance)?(?:_endpoint|_address|_host|_hostname)$"),
    "artifact_bucket": re.compile(r"(?:^|_)bucket(?:_name|_id)?$"),
    "role_arn": re.compile(r"(?:^|_)role_arn$"),
    "region": re.compile(r"(?:^|_)region$"),
}
"""Endings of output names; the beginning is the module's or the project's own."""
VALUES = {
    "db_instance_identifier": re.compile(r"^[A-Za-z][A-Za-z0-9-]{0,62}$"),
    "db_host": re.compile(r"^(?P<value>[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z0-9.-]+?)(?::\d+)?$"),
    "artifact_bucket": re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"),
    "role_arn": re.compile(r"^arn:aws[a-z-]*:iam::\d{12}:role/\S+$"),
    "region": re.compile(r"^[a-z]{2}(?:-[a-z]+)+-\d$"),
}
"""Forms of the values; an output of another form is something else."""
OURS = re.compile(r"mlflow|tracking|artifact|experiment")


def flat(outputs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and text of each output, and of each entry of an output that is an object."""
    for name, value in outputs.items():
        if isinstance(value, str):
            yield prefix + name, value
        elif isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}_")


def read_outputs(text: str) -> dict[str, tuple[str, str]]:
    """Recognise what Terraform knows of one server.

    Args:
        text: what ``terraform output -json`` printed; sensitive outputs are left aside.

    Returns:
        Field (``db_instance_identifier``, ``db_host``, ``artifact_bucket``, ``role_arn``, ``region``) to its value and
        the output's name. Of several that fit, one that names MLflow wins; two that fit as well are both left aside.

    Raises:
        ValueError: the text is not such a document.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or not all(
        isinstance(item, dict) and "value" in item for item in document.values()
    ):
        raise ValueError("not what terraform output -json prints")
    plain = {name: item["value"] for name, item in document.items() if not item.get("sensitive")}
    named = dict(flat(plain))
    found = {}
    for field, pattern in PATTERNS.items():
        fitting = {name: value for name, value in named.items() if pattern.search(name) and VALUES[field].match(value)}
        fitting = {name: value for name, value in fitting.items() if OURS.search(name + value)} or fitting
        if len(set(fitting.values())) == 1:
            name, value = min(fitting.items())
            match = VALUES[field].match(value)
            found[field] = (match["value"] if match and "value" in match.groupdict() else value, name)
    return found
