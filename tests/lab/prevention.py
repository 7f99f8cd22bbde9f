# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit of prevention is tried with: kinds of the Prometheus operator, printed patches, writes that were made.

``python -m tests.lab.prevention COMMAND``: ``monitoring on|off``, ``weaken|remove SERVER``, ``apply REPORT``,
``operator NAME``, ``writes NAME NAMESPACE SINCE``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.lab import aws, build, identity, kube, operator, servers, settings
from tests.lab.bench.contenders import aws_command_line
from tests.lab.emulation import gateway
from tests.lab.faults import writes
from tests.lab.identity import operator_arn
from tests.lab.progress import say
from tests.lab.settings import LabError

TOPIC = f"arn:aws:sns:{settings.AWS_REGION}:{settings.AWS_ACCOUNT_ID}:on-call"
COMMAND_SECONDS = 120
READY_SECONDS = 400
# Too little by what was measured, enough for a start on a busy machine of the lab.
PATIENCE = {"periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 17}
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
TOOLS = ("kubectl", "aws")


def monitoring(on: bool) -> None:
    """Make or remove the kinds of the Prometheus operator; the operators may read them either way."""
    definitions = kube.manifest("monitoring.yml.j2")
    if not on:
        for item in definitions:
            kube.delete(item["apiVersion"], item["kind"], item["metadata"]["name"])
        return
    operator.up()
    kube.apply(definitions)
    deadline = time.monotonic() + 30
    while any(not established(item["metadata"]["name"]) for item in definitions):
        if time.monotonic() > deadline:
            raise LabError("the API server does not serve the kinds of the Prometheus operator")
        time.sleep(0.2)


def established(name: str) -> bool:
    """Whether the API server serves a kind."""
    found = kube.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", name) or {}
    conditions = (found.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)


def administrator() -> dict[str, str]:
    """Environment of whoever carries patches out: kubectl and aws with all rights."""
    programs = f"{build.go_binary('kubectl').parent}:{aws_command_line()}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "K8S_AUTH_"))}
    identity = {"KUBECONFIG": str(settings.admin_kubeconfig()), **aws.environment(aws.administrator_file())}
    return {**kept, **identity, "PATH": programs, "ALARM_TOPIC_ARN": TOPIC, "AWS_PAGER": ""}


def apply(report: Path) -> None:
    """Carry out every command that an audit printed, letter by letter, and wait for the server.

    Raises:
        LabError: a command fails.
    """
    document = json.loads(report.read_text(encoding="utf-8"))
    texts = dict.fromkeys(
        patch["text"] for item in document["items"] for patch in item["patches"] if patch["tool"] in TOOLS
    )
    for text in texts:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            env=administrator(),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise LabError(f"a printed command failed:\n{text}\n{done.stderr}")
        say(f"{text.splitlines()[0]} … {done.stdout.strip().splitlines()[-1:]}")
    server = document["server"]
    kube.wait_ready(server["kind"], server["deployment"], server["namespace"], READY_SECONDS)
    deadline = time.monotonic() + READY_SECONDS
    while not measured(server["namespace"]):
        if time.monotonic() > deadline:
            raise LabError("the autoscaler measures nothing")
        time.sleep(1)


def measured(namespace: str) -> bool:
    """Whether the namespace's autoscalers have metrics."""
    scalers = kube.list_objects("autoscaling/v2", "HorizontalPodAutoscaler", namespace)
    conditions = [row for item in scalers for row in (item.get("status") or {}).get("conditions") or []]
    active = [row["status"] for row in conditions if row["type"] == "ScalingActive"]
    return bool(active) and set(active) == {"True"}


def remove_alarms(identifier: str) -> None:
    """Remove every alarm on a database instance: nothing else of the lab does."""
    cloudwatch = aws.admin("cloudwatch")
    alarms = cloudwatch.describe_alarms(AlarmNamePrefix=f"{identifier}-")["MetricAlarms"]
    if alarms:
        cloudwatch.delete_alarms(AlarmNames=[row["AlarmName"] for row in alarms])


def remove(server: servers.Server) -> None:
    """Take a server away with its alarms and the kinds of the Prometheus operator."""
    remove_alarms(server.db_instance_identifier)
    monitoring(on=False)
    servers.remove(server.name)


def weaken(server: servers.Server) -> None:
    """Take from a server what prevents incidents, or leave it there so that it helps nobody."""
    name, rds, s3, iam = server.db_instance_identifier, aws.admin("rds"), aws.admin("s3"), aws.admin("iam")
    remove_alarms(name)
    rds.modify_db_instance(DBInstanceIdentifier=name, BackupRetentionPeriod=0)
    for metric in ("FreeStorageSpace", "DatabaseConnections"):
        # Neither tells anybody; the second compares the wrong way round as well.
        aws.admin("cloudwatch").put_metric_alarm(
            AlarmName=f"{name}-{metric}",
            Namespace="AWS/RDS",
            MetricName=metric,
            Dimensions=[{"Name": "DBInstanceIdentifier", "Value": name}],
            Statistic="Average",
            Period=300,
            EvaluationPeriods=1,
            ComparisonOperator="LessThanThreshold",
            Threshold=5,
            ActionsEnabled=False,
        )
    s3.delete_public_access_block(Bucket=server.bucket)
    s3.delete_bucket_encryption(Bucket=server.bucket)
    iam.put_role_policy(
        RoleName=server.role,
        PolicyName=identity.SERVER_POLICY,
        PolicyDocument=identity.policy({"Action": "s3:*", "Resource": "*"}),
    )
    iam.update_assume_role_policy(
        RoleName=server.role,
        PolicyDocument=identity.trust_policy("*", "*").replace("StringEquals", "StringLike"),
    )
    probe = {"httpGet": {"path": SEARCH, "port": "http", "httpHeaders": [{"name": "Host", "value": "localhost"}]}}
    container = {
        "name": server.container,
        "startupProbe": None,
        "livenessProbe": {**probe, **PATIENCE},
        "readinessProbe": {"httpGet": None, "tcpSocket": {"port": "http"}},
        "resources": {"$patch": "replace"},
    }
    change = {"spec": {"template": {"spec": {"containers": [container]}}}}
    kube.patch("apps/v1", server.kind, server.deployment, change, namespace=server.namespace)
    kube.apply(kube.manifest("weak-rules.yml.j2", namespace=server.namespace))
    kube.wait_ready(server.kind, server.deployment, server.namespace, READY_SECONDS)


def written(name: str, namespace: str, since: str) -> list[str]:
    """What an operator wrote in a namespace, or outside of any, since a moment; all but entering a pod counts."""
    who = operator.named(name)
    begin, end = datetime.fromisoformat(since.replace("Z", "+00:00")), datetime.now(UTC)
    rows = writes.kubernetes_writes(settings.state_dir() / "audit.log", who.user, begin, end)
    mine = [row for row in rows if row["namespace"] in ("", namespace) and row["resource"] != "pods/exec"]
    calls = (
        [] if who.iam_user is None else writes.aws_writes(gateway.log_path(), operator_arn(who.iam_user), begin, end)
    )
    return [*(f"{row['verb']} {row['resource']} {row['name']}" for row in mine), *(f"aws {call}" for call in calls)]


def main() -> int:
    """Run one command; a problem is one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.prevention", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("monitoring").add_argument("state", choices=["on", "off"])
    commands.add_parser("weaken").add_argument("server")
    commands.add_parser("remove").add_argument("server")
    commands.add_parser("apply").add_argument("report", type=Path)
    commands.add_parser("operator").add_argument("name")
    asked = commands.add_parser("writes")
    for argument in ("name", "namespace", "since"):
        asked.add_argument(argument)
    arguments = parser.parse_args()
    try:
        if arguments.command == "monitoring":
            monitoring(arguments.state == "on")
        elif arguments.command == "weaken":
            weaken(servers.get(arguments.server))
        elif arguments.command == "remove":
            remove(servers.get(arguments.server))
        elif arguments.command == "apply":
            apply(arguments.report)
        elif arguments.command == "operator":
            operator.prepare(operator.named(arguments.name))
            for name, value in operator.environment(operator.named(arguments.name)).items():
                print(f"export {name}={shlex.quote(value)}")
        else:
            found = written(arguments.name, arguments.namespace, arguments.since)
            print("\n".join(found))
            return int(bool(found))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
