# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of the flow marks the hop on which the cause acts, and says of no unseen hop that it works."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.observed.flow import hops

from tests.recorded import NAMES, judged

MARKED = {"broken", "at_risk", "slow"}


def way(name: str) -> list[dict[str, Any]]:
    seen = judged(name)
    return hops(seen.context, seen.verdict)


@pytest.mark.parametrize("name", [name for name in NAMES if judged(name).target and judged(name).verdict.causes])
def test_each_cause_marks_a_hop(name: str) -> None:
    assert {hop["state"] for hop in way(name)} & MARKED, name


@pytest.mark.parametrize("name", [name for name in NAMES if judged(name).target and not judged(name).verdict.causes])
def test_without_a_cause_nothing_is_marked(name: str) -> None:
    assert not {hop["state"] for hop in way(name)} & MARKED


@pytest.mark.parametrize(
    ("name", "kind", "state"),
    [
        ("security_group_rule_removed", "database", "broken"),
        ("security_group_closed_connections_alive", "database", "at_risk"),
        ("latency_database_slow", "database", "slow"),
        ("network_policy", "source", "broken"),
        ("network_policy_dns_egress", "dns", "broken"),
        ("selector_matches_nothing", "service", "broken"),
        ("ingress_backend_port_wrong", "ingress", "broken"),
        ("role_policy_denies", "object_storage", "broken"),
        ("irsa_annotation_lost_restarted", "identity", "broken"),
        ("out_of_memory", "server", "broken"),
        ("client_wrong_port", "source", "broken"),
    ],
)
def test_where_it_breaks(name: str, kind: str, state: str) -> None:
    assert [(hop["kind"], hop["state"]) for hop in way(name) if hop["state"] in MARKED] == [(kind, state)]


def test_what_suffers_is_no_cause() -> None:
    states = {hop["kind"]: hop["state"] for hop in way("security_group_rule_removed")}
    assert (states["source"], states["server"], states["object_storage"]) == ("affected", "affected", "works")


def test_what_was_not_seen_does_not_work() -> None:
    seen = judged("healthy")
    blind = [
        replace(item, state=State.FORBIDDEN, value=None, detail="get it") if item.what.startswith("probe.") else item
        for item in seen.evidence
    ]
    way_of_the_blind = hops(Context(seen.context.target, EvidenceSet(blind), seen.now), seen.verdict)
    states = {hop["kind"]: hop["state"] for hop in way_of_the_blind}
    assert {states[kind] for kind in ("source", "dns", "database", "object_storage", "identity")} == {"unknown"}
