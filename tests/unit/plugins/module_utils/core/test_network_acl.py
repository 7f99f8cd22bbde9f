# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network ACLs: the first rule that matches decides, for each way by itself."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.network_acl import ANSWER_PORTS, denying

CLIENT = "10.91.0.81"
REST = {"RuleNumber": 32767, "Protocol": "-1", "RuleAction": "deny", "CidrBlock": "0.0.0.0/0"}


def entry(number: int, action: str, cidr: str = "0.0.0.0/0", **more: Any) -> dict[str, Any]:
    return {"RuleNumber": number, "Protocol": "6", "RuleAction": action, "CidrBlock": cidr, "Egress": False, **more}


def ports(first: int, last: int) -> dict[str, Any]:
    return {"PortRange": {"From": first, "To": last}}


@pytest.mark.parametrize(
    ("entries", "number"),
    [
        ([entry(100, "allow", Protocol="-1"), {**REST, "Egress": False}], None),
        ([entry(100, "allow", **ports(5432, 5432))], None),
        ([entry(100, "allow"), entry(90, "deny", "10.91.0.0/16")], 90),
        ([entry(100, "allow"), entry(110, "deny", "10.91.0.0/16")], None),
        ([entry(100, "allow"), entry(90, "deny", "10.92.0.0/16")], None),
        ([entry(100, "allow"), entry(90, "deny", Protocol="17")], None),
        ([entry(100, "allow"), entry(90, "deny", **ports(5433, 6000))], None),
        ([entry(100, "allow"), entry(90, "deny", **ports(5000, 6000))], 90),
        ([entry(100, "allow"), entry(90, "deny", Egress=True)], None),
        ([entry(100, "allow", **ports(443, 443)), {**REST, "Egress": False}], 32767),
        ([entry(100, "allow", CidrBlock=None, Ipv6CidrBlock="::/0")], "*"),
        ([], "*"),
    ],
)
def test_inbound(entries: list[dict[str, Any]], number: int | str | None) -> None:
    found = denying(entries, CLIENT, (5432, 5432), egress=False)
    assert (found["RuleNumber"] if found else None) == number


@pytest.mark.parametrize(
    ("entries", "number"),
    [
        ([entry(100, "allow", Egress=True, **ports(1024, 65535))], None),
        ([entry(100, "allow", Egress=True, **ports(1024, 40000)), entry(110, "allow", Egress=True)], None),
        ([entry(100, "allow", Egress=True, **ports(1024, 40000)), {**REST, "Egress": True}], 32767),
        ([entry(100, "allow", Egress=True, **ports(5432, 5432))], "*"),
        ([entry(100, "allow")], "*"),
    ],
)
def test_answers_need_every_port_that_clients_connect_from(
    entries: list[dict[str, Any]], number: int | str | None
) -> None:
    found = denying(entries, CLIENT, ANSWER_PORTS, egress=True)
    assert (found["RuleNumber"] if found else None) == number
