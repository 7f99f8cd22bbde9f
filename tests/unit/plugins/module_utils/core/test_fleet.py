# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All servers of a run: the worst first, what they share said once, and no host without an answer."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.action.fleet import one_server
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.fleet import Server, fleet, fleet_content
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import fleet_text

from tests.recorded import report_on


def server(host: str, record: str, **changes: Any) -> Server:
    report = copy.deepcopy(report_on(record))
    report["server"] |= changes
    return Server(host, f"/reports/{host}.json", f"{host}/latest.html", report)


def test_the_worst_comes_first() -> None:
    document = fleet(
        [
            server("a", "healthy"),
            server("b", "security_group_closed_connections_alive"),
            server("c", "database_recovered"),
            server("d", "two_servers"),
            server("e", "out_of_memory"),
            server("f", "network_policy"),
            Server("g", "", "", None, "there is no report on it"),
        ]
    )
    assert [row["host"] for row in document["servers"]] == ["e", "f", "d", "g", "b", "c", "a"]
    assert document["counts"] == {"down": 1, "degraded": 1, "unknown": 2, "at_risk": 1, "recovered": 1, "healthy": 1}
    assert document["shared"] == []
    written = fleet_text(document)
    assert written.startswith("MLflow: 1 of 7 servers is DOWN   ")
    assert "  - g: could NOT be judged; there is no report on it\n" in written
    assert "Healthy\n  - a: " in written


def test_one_security_group_is_named_once() -> None:
    servers = [server(host, "security_group_rule_removed", namespace=host) for host in ("a", "b")]
    document = fleet([*servers, server("c", "out_of_memory")])
    (shared,) = document["shared"]
    assert (shared["id"], shared["hosts"]) == ("database.security_group_closed", ["a", "b"])
    written = fleet_text(document)
    assert " ".join(written.split()).count(shared["what"]) == 1
    assert "  - a: DOWN; shared cause 1; since " in written
    assert "shared" not in written.partition("  - c: ")[2]


def test_namesakes_are_not_the_same_thing() -> None:
    """A Secret of the same name in another namespace or cluster is another Secret, and so is a Deployment."""
    for record in ("database_password_wrong", "out_of_memory", "service_deleted"):
        servers = [server(host, record, namespace=host, db_instance_identifier=host) for host in ("a", "b")]
        assert fleet(servers)["shared"] == [], record
        clusters = [server(host, record, cluster_uid=host, db_instance_identifier=host) for host in ("a", "b")]
        assert fleet(clusters)["shared"] == [], record


def test_different_causes_on_one_database_are_told_together() -> None:
    document = fleet(
        [
            server("a", "database_stopped", db_instance_identifier="shared"),
            server("b", "database_password_wrong", namespace="b", db_instance_identifier="shared"),
            server("c", "database_password_wrong", namespace="c", db_instance_identifier="other"),
        ]
    )
    (shared,) = document["shared"]
    assert (shared["kind"], shared["object"], shared["hosts"]) == ("database", "shared", ["a", "b"])
    said = {entry.head: entry.rest for section in fleet_content(document).sections for entry in section.entries}
    assert "RDS instance" in said["a"], "a server keeps its own cause where only the database is shared"
    assert "password" in said["b"]


def test_two_hosts_for_one_server() -> None:
    known = {
        "a": {"mlflow_assessment": {"server": "ml/mlflow cluster-1 uid-1"}},
        "b": {"mlflow_assessment": {"server": "ml/mlflow cluster-1 uid-1"}},
        "c": {"mlflow_assessment": {"server": "ml/mlflow cluster-2 uid-1"}},
        "d": {"mlflow_assessment": {"server": ""}},
        "e": {},
        "f": {},
    }
    assert one_server(known) == "hosts a and b are one server, ml/mlflow; expected one host for each server"
    assert one_server({name: known[name] for name in "acdef"}) == ""
