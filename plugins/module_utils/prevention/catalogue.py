# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every item of an audit: what it is called, what happens without it in one sentence, and where that is said."""

from __future__ import annotations

from dataclasses import dataclass

RDS = "Amazon RDS user guide"
MEASURED = "measured on MLflow 3.17.2"
S3 = "Amazon S3 user guide"
KUBERNETES = "Kubernetes documentation"


@dataclass(frozen=True)
class Kind:
    """One item; ``risk`` is one sentence about what happens without it."""

    id: str
    title: str
    risk: str
    source: str


KINDS = (
    Kind(
        "database.automated_backups",
        "Automated backups",
        "A dropped table or a bad migration is final: there is no point in time to go back to.",
        f"{RDS}, Introduction to backups; runbook, Prevention",
    ),
    Kind(
        "database.backup_retention",
        "Backup retention",
        "Damage that is noticed after the retention has passed cannot be undone.",
        f"{RDS}, Backup retention period (0 to 35 days; the console's own choice is 7)",
    ),
    Kind(
        "database.deletion_protection",
        "Deletion protection",
        "One wrong command or Terraform plan deletes the database with every experiment in it.",
        f"{RDS}, Deleting a DB instance",
    ),
    Kind(
        "database.multi_az",
        "Multi-AZ",
        "The loss of one availability zone, or maintenance of the host, is an outage until a restore is done.",
        f"{RDS}, Configuring and managing a Multi-AZ deployment",
    ),
    Kind(
        "database.storage_autoscaling",
        "Storage autoscaling",
        "A full volume stops every write: runs fail to log and the instance ends in storage-full.",
        f"{RDS}, Managing capacity automatically with storage autoscaling (at least 10 % more, 26 % recommended)",
    ),
    Kind(
        "database.engine_end_of_life",
        "Engine version in standard support",
        "After the end of standard support AWS charges extended support, and then upgrades at a time of its own.",
        f"{RDS}, Release calendar for PostgreSQL and Extended Support",
    ),
    Kind(
        "database.certificate_authority",
        "Certificate authority of the instance",
        "Clients that verify the server's certificate cannot connect any more once it or its authority has expired.",
        f"{RDS}, Using SSL/TLS to encrypt a connection; Rotating your SSL/TLS certificate",
    ),
    Kind(
        "alarms.storage",
        "Alarm on free storage",
        "Nobody hears that the volume fills up before writes fail.",
        "Amazon CloudWatch user guide, Recommended alarms, RDS FreeStorageSpace; runbook, Prevention",
    ),
    Kind(
        "alarms.connections",
        "Alarm on connections",
        "Nobody hears that connections run out before logins are refused.",
        "Amazon CloudWatch user guide, Recommended alarms, RDS DatabaseConnections; runbook, Prevention",
    ),
    Kind(
        "scaling.replicas",
        "More than one replica",
        "Every restart, eviction and node drain of the one pod is an outage.",
        f"{KUBERNETES}, Disruptions",
    ),
    Kind(
        "scaling.autoscaler",
        "Horizontal autoscaler",
        "A burst of training jobs meets a fixed number of workers: calls queue, time out and are retried.",
        f"runbook, Prevention; {KUBERNETES}, Horizontal Pod Autoscaling",
    ),
    Kind(
        "scaling.connection_budget",
        "Connection budget",
        "At full size the pods may open more connections than the database has, so that scaling up refuses logins.",
        f"{MEASURED}: engines for tracking, registry and jobs in every worker; SQLAlchemy documentation, QueuePool",
    ),
    Kind(
        "scaling.pool_options",
        "Pool options",
        "Every worker may open 15 connections per engine, whatever the database can bear.",
        "MLflow 3.17.2, store/db/utils.py; SQLAlchemy documentation, QueuePool",
    ),
    Kind(
        "scaling.disruption_budget",
        "PodDisruptionBudget",
        "A node drain may evict all replicas at once.",
        f"{KUBERNETES}, Specifying a Disruption Budget for your Application",
    ),
    Kind(
        "pods.resources",
        "Requests and limits",
        "The scheduler overfills the node or the kernel kills workers: MLflow needs 0.4 to 2.1 GiB when idle.",
        f"{MEASURED}: 0.35 GiB with one worker, 2.1 GiB with four and job execution",
    ),
    Kind(
        "pods.readiness",
        "Honest readiness probe",
        "/health answers 200 with the database down, so a pod that can serve nothing stays in the Service.",
        f"{MEASURED}: /health, /version, / and server-info never touch the database",
    ),
    Kind(
        "pods.liveness",
        "Liveness probe that restarts only what a restart helps",
        "A hung server is never restarted, or a slow database restarts servers that then cannot start at all.",
        f"{MEASURED}: /health took 2.6 s under load; a start waits 102 s for its database and then ends",
    ),
    Kind(
        "pods.startup",
        "Startup budget",
        "A slow start is taken for a hang and the container is killed before it is up, again and again.",
        f"{MEASURED}: 120 s to start on a quarter of a CPU, 102 s of retries while the database is away",
    ),
    Kind(
        "pods.image_pinned",
        "Pinned image",
        "A restart may pull a newer MLflow, which migrates the schema at once; there is no way back but a restore.",
        f"{MEASURED}: a start with a newer version runs all migrations by itself",
    ),
    Kind(
        "connections.uri_timeouts",
        "Time-outs in the database address",
        "A database that does not answer holds every request for minutes: MLflow sets no time-out of its own.",
        f"{MEASURED}: 130 s until a lost connection fails; PostgreSQL documentation, Parameter Key Words",
    ),
    Kind(
        "connections.secret_age",
        "Age of the database Secret",
        "A password that leaked long ago still opens the database.",
        "AWS Config, rule secretsmanager-secret-periodic-rotation (90 days)",
    ),
    Kind(
        "storage.versioning",
        "Bucket versioning",
        "An overwritten or deleted model cannot be brought back.",
        f"{S3}, Retaining multiple versions of objects with S3 Versioning",
    ),
    Kind(
        "storage.encryption",
        "Bucket encryption",
        "Models and data are readable to whoever gets at the storage below the bucket.",
        f"{S3}, Setting default server-side encryption behavior",
    ),
    Kind(
        "storage.public_access",
        "Public access block",
        "One policy or one object's ACL is enough to publish models and training data.",
        f"{S3}, Blocking public access to your Amazon S3 storage",
    ),
    Kind(
        "identity.least_privilege",
        "Least privilege of the role",
        "Whoever gets into one MLflow pod gets everything that its role may do.",
        "IAM user guide, Security best practices: apply least-privilege permissions",
    ),
    Kind(
        "identity.trust",
        "Trust policy bound to the service account",
        "Any pod of the cluster may take the server's role.",
        "Amazon EKS user guide, IAM roles for service accounts",
    ),
    Kind(
        "alerts.pool_exhaustion",
        "Alert rule for pool exhaustion",
        "An exhausted pool answers 400 and writes no log line, so that no 5xx or log alert ever fires.",
        f"{MEASURED}: QueuePool limit answers 400 after 30 s; runbook, Prevention",
    ),
    Kind(
        "alerts.metric_names",
        "Alert rules with metrics that exist",
        "A rule on a metric that MLflow does not export never fires.",
        f"{MEASURED}: the names that --expose-prometheus exports",
    ),
)
BY_ID = {kind.id: kind for kind in KINDS}
