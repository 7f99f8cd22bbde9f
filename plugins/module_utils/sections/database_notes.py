# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is worth knowing of a database that works: changes to come, and transactions that nobody ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.evidence import CLOUD
from ..core.findings import TO_DATABASE, Context, Finding, SectionResult, keys
from ..core.workload import probes_from_server
from .database_facts import database_object, facts_of

ABANDONED = "idle in transaction"
ABANDONED_SECONDS = 60
"""MLflow ends a transaction with its request; the field guide ends what idles in one after 60 s (section 2.7)."""

SECRETS = frozenset({"MasterUserPassword"})


def notes(context: Context, instance: Mapping[str, Any] | None, result: SectionResult) -> None:
    """Report what causes nothing now."""
    abandoned(context, result)
    if instance is not None:
        pending(context, instance, result)


def abandoned(context: Context, result: SectionResult) -> None:
    """Find sessions of MLflow's own role that opened a transaction and left it: they keep locks and old rows."""
    seen: set[Any] = set()
    for item in probes_from_server(context, "probe.query"):
        for row in item.value.get("long_transactions") or []:
            idle = int(row.get("in_state_seconds") or 0)
            ours = row.get("user") == context.target.backend.get("user")
            if not ours or row.get("state") != ABANDONED or idle < ABANDONED_SECONDS or row["pid"] in seen:
                continue
            seen.add(row["pid"])
            name = row.get("application") or "unnamed"
            result.findings.append(
                Finding(
                    "database.session_abandoned",
                    f"session {row['pid']}",
                    f"session {row['pid']} of MLflow's own role ({name}) has been idle in a transaction for {idle} s",
                    (item.key,),
                    flow=TO_DATABASE,
                    measured=True,
                    facts=facts_of(context, pid=row["pid"], application=name, seconds=idle),
                )
            )


def pending(context: Context, instance: Mapping[str, Any], result: SectionResult) -> None:
    """Report changes that RDS has accepted and not made yet; some end every session when they are."""
    changes = [name for name in instance.get("PendingModifiedValues") or {} if name not in SECRETS]
    changes += [
        f"parameter group {group.get('DBParameterGroupName')}"
        for group in instance.get("DBParameterGroups") or []
        if group.get("ParameterApplyStatus") == "pending-reboot"
    ]
    if not changes:
        return
    window = instance.get("PreferredMaintenanceWindow") or "its maintenance window"
    result.findings.append(
        Finding(
            "database.change_pending",
            database_object(context),
            f"RDS will change {', '.join(sorted(changes))} of {database_object(context)} in {window} or at its reboot",
            keys([context.evidence.first("aws.db_instance", CLOUD)]),
            flow=TO_DATABASE,
            configured=True,
            facts=facts_of(context, changes=", ".join(sorted(changes))),
        )
    )
