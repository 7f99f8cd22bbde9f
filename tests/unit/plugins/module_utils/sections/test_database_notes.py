# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes on a database that works, and a disk that is full before RDS says so."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import API, CLOUD, Evidence, State
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.sections import database

from .conftest import AT, MakeContext, probe

USER = {"host": "db.example.com", "port": 5432, "scheme": "postgresql", "user": "mlflow", "secret": "db"}
FULL = 'E (psycopg2.errors.DiskFull) could not extend file "base/1/2": No space left on device'


def cloud(what: str, value: Any) -> Evidence:
    return Evidence(f"aws.{what}", CLOUD, "db-1", AT, State.OK, value)


def log(*lines: tuple[str, str]) -> Evidence:
    value = {"lines": [{"at": at, "text": text} for at, text in lines]}
    return Evidence("kubernetes.pod_log", API, "mlflow-1/mlflow/current", AT, State.OK, value)


def ids(context: Any) -> dict[str, Any]:
    return {item.id: item for item in database.analyze(context).findings}


def transaction(**changes: Any) -> Evidence:
    row = {"pid": 7, "user": "mlflow", "application": "etl", "state": "idle in transaction", "in_state_seconds": 90}
    return probe("query", "db.example.com:5432", place="pod", long_transactions=[{**row, **changes}])


def test_an_abandoned_transaction_of_the_own_role_is_named_with_its_age(context: MakeContext) -> None:
    found = ids(context(transaction(), backend=USER))["database.session_abandoned"]
    assert (found.object, found.facts["pid"], found.facts["seconds"]) == ("session 7", 7, 90)


def test_other_transactions_are_not_ours_to_end(context: MakeContext) -> None:
    for changes in ({"user": "reporting"}, {"state": "active"}, {"in_state_seconds": 5}):
        assert "database.session_abandoned" not in ids(context(transaction(**changes), backend=USER))


def test_a_change_that_waits_for_the_window_is_a_note_without_its_secret(context: MakeContext) -> None:
    instance = {
        "DBInstanceStatus": "available",
        "PendingModifiedValues": {"DBInstanceClass": "db.r6g.large", "MasterUserPassword": "****"},
        "DBParameterGroups": [{"DBParameterGroupName": "pg", "ParameterApplyStatus": "pending-reboot"}],
        "PreferredMaintenanceWindow": "sun:05:00-sun:06:00",
    }
    found = ids(context(cloud("db_instance", instance), backend=USER))["database.change_pending"]
    assert "DBInstanceClass, parameter group pg" in found.summary
    assert "Password" not in found.summary


def test_the_database_says_that_its_disk_is_full(context: MakeContext) -> None:
    line = log(("2026-01-01T11:59:00Z", FULL))
    space = cloud("metrics", {"FreeStorageSpace": {"points": [[AT, 1024.0]]}})
    found = ids(context(line, space, backend=USER))["database.storage_full"]
    assert found.configured
    assert found.measured


def test_free_storage_contradicts_a_full_disk(context: MakeContext) -> None:
    line = log(("2026-01-01T11:59:00Z", FULL))
    space = cloud("metrics", {"FreeStorageSpace": {"points": [[AT, 9.0 * 2**30]]}})
    result = database.analyze(context(line, space, backend=USER))
    assert "database.storage_full" not in {item.id for item in result.findings}
    assert any("9.0 GiB" in item.why for item in result.unknown)


def test_a_full_disk_is_over_once_writes_have_worked_for_a_while(context: MakeContext) -> None:
    access = 'INFO:     10.0.0.3:1 - "POST /api/2.0/mlflow/runs/{} HTTP/1.1" 200 OK'
    lines = (("2026-01-01T11:50:00Z", FULL), ("2026-01-01T11:59:00Z", access.format("create")))
    assert "database.storage_full" not in ids(context(log(*lines), backend=USER))
    reads = (lines[0], ("2026-01-01T11:59:00Z", access.format("search")))
    assert "database.storage_full" in ids(context(log(*reads), backend=USER))


def test_the_name_of_an_aurora_cluster_is_no_wrong_endpoint(context: MakeContext) -> None:
    host = "runs.cluster-abc.us-west-2.rds.amazonaws.com"
    instance = cloud(
        "db_instance", {"DBInstanceStatus": "available", "Endpoint": {"Address": "runs-1.abc", "Port": 5432}}
    )
    lost = probe("tcp", f"{host}:5432", "timeout", "pod")
    assert "database.wrong_endpoint" not in ids(context(instance, lost, backend={**USER, "host": host}))


def test_a_reader_endpoint_is_read_only_by_the_uri(context: MakeContext) -> None:
    host = "runs.cluster-ro-abc.us-west-2.rds.amazonaws.com"
    replica = probe("query", f"{host}:5432", place="pod", in_recovery=True, transaction_read_only=True)
    found = ids(context(replica, backend={**USER, "host": host}))["database.read_only"]
    assert found.object == "secret/db"
    assert "reader endpoint" in found.summary


def test_a_proxy_is_said_to_hide_its_instance(context: MakeContext) -> None:
    host = "runs.proxy-abc.us-west-2.rds.amazonaws.com"
    unknown = database.analyze(context(backend={**USER, "host": host})).unknown
    assert any("RDS Proxy" in item.what for item in unknown)


def test_whose_password_is_wrong_is_not_known_without_the_secret(context: MakeContext) -> None:
    text = 'FATAL: password authentication failed for user "mlflow"'
    hidden = Evidence("kubernetes.secrets", API, "ml", AT, State.FORBIDDEN, None, "get secrets in namespace ml")
    refused = probe("login", "db.example.com:5432", "denied", "pod", error=text)
    result = database.analyze(context(hidden, refused, backend=USER))
    assert {item.id for item in result.findings} == {"database.login_denied"}
    assert any("started with" in item.what for item in result.unknown)
    tried = probe("login", "db.example.com:5432", "denied", "debug_copy", error=text)
    assert "database.password_wrong" in ids(context(hidden, refused, tried, backend=USER))


def test_storage_that_is_nearly_gone_is_named_before_a_write_fails(context: MakeContext) -> None:
    space = cloud("metrics", {"FreeStorageSpace": {"points": [[AT, 1024.0]]}})
    found = ids(context(space, backend=USER))["database.storage_full"]
    assert found.configured
    assert not found.measured
    assert found.facts["later"]
