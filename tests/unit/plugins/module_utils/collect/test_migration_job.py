# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Job of a migration has what the server has, and no password on its command line."""

from __future__ import annotations

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.collect.migration_job import migration_job
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import Target
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.probes import upgrade

from .conftest import workload

URI = "postgresql://mlflow:s3cret-of-the-template@db:5432/mlflow"


def test_once_with_a_deadline_and_without_sidecars(target: Target) -> None:
    job = migration_job(workload(), target, "mlflow-migrate-1", "old", "new", 600, 60)
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 600)
    spec = job["spec"]["template"]["spec"]
    assert [item["name"] for item in spec["containers"]] == [target.container]
    assert spec["containers"][0]["image"] == target.image
    assert spec["restartPolicy"] == "Never"
    assert "initContainers" not in spec
    assert spec["serviceAccountName"] == workload()["spec"]["template"]["spec"]["serviceAccountName"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert "mlflow-runbook.mlops/probe" not in labels
    assert labels["sidecar.istio.io/inject"] == "false"


def test_an_address_in_the_template_stays_off_the_command_line(target: Target) -> None:
    found = workload()
    for container in found["spec"]["template"]["spec"]["containers"]:
        if container["name"] == target.container:
            container["args"] = ["mlflow", "server", f"--backend-store-uri={URI}"]
    job = migration_job(found, target, "mlflow-migrate-1", "old", "new", 600, 60)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert "s3cret" not in str(container["command"])
    assert "args" not in container
    given = {item["name"]: item.get("value") for item in container["env"]}
    assert given[upgrade.STORE] == URI
    assert (given[upgrade.FROM], given[upgrade.TO]) == ("old", "new")
