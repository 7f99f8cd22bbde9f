# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared: our diagnosis, the runbooks typed by a script, and the same as a plain playbook."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.lab import build, clients, kube, operator, processes, servers, settings
from tests.lab.faults import playbooks

FOLDER = Path(__file__).parent
INSTALL_SECONDS = 300.0
LIST_BUCKET = "import boto3; print(boto3.client('s3').list_objects_v2(Bucket='{bucket}', MaxKeys=1)['KeyCount'])"
CALLER = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
# These end well whatever they see: a failed pod is another thing to wait for, and takes the playbook 30 s.
HEALTH = """\
import http.client
try:
    connection = http.client.HTTPConnection("{host}", {port}, timeout=10)
    connection.request("GET", "/health")
    print(connection.getresponse().read().decode())
except OSError as error:
    print(error)
"""
QUERY = """\
import os, psycopg2
try:
    cursor = psycopg2.connect(os.environ["URI"].replace("+psycopg2", ""), connect_timeout=10).cursor()
    cursor.execute("SELECT 1")
    print(cursor.fetchone())
except psycopg2.Error as error:
    print(error)
"""


@dataclass(frozen=True)
class Contender:
    """One way to look at a server.

    Attributes:
        name: as tables call it.
        title: what it is, in words.
        command: argument list and environment for one server.
        tasks: number of commands or tasks.
    """

    name: str
    title: str
    command: Callable[[servers.Server], tuple[list[str], dict[str, str]]]
    tasks: int


def aws_command_line() -> Path:
    """Folder with the program ``aws``, of exactly the packages in ``requirements.txt``, installed once."""
    requirements = FOLDER / "requirements.txt"
    key = build.digest([requirements.read_text(encoding="utf-8"), sys.version])
    return build.cached("awscli", key, partial(_install, requirements))


def _install(requirements: Path, folder: Path) -> None:
    packages = folder / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages)]
    processes.run([*pip, "--requirement", str(requirements)], timeout=INSTALL_SECONDS)
    # Not compiled it takes four times as long to import, and the comparison would flatter us.
    processes.run([sys.executable, "-m", "compileall", "-q", "-j", "0", str(packages)], timeout=INSTALL_SECONDS)
    program = folder / "aws"
    settings.write_text(
        program, f'#!/bin/sh\nPYTHONPATH="${{0%/*}}/packages" exec {sys.executable} -m awscli "$@"\n', mode=0o755
    )


def allow_attach(server: servers.Server) -> None:
    """Let the benchmark's operator do what ``kubectl run -i`` needs beyond the usual rights, where it needs it."""
    group = "rbac.authorization.k8s.io"
    for namespace in (server.namespace, clients.NAMESPACE):
        metadata = {"name": "mlflow-bench-attach", "namespace": namespace}
        rule = {"apiGroups": [""], "resources": ["pods/attach"], "verbs": ["get", "create"]}
        reference = {"apiGroup": group, "kind": "Role", "name": metadata["name"]}
        subject = {"apiGroup": group, "kind": "User", "name": operator.BENCH.user}
        kube.apply(
            [
                {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]},
                {
                    "apiVersion": f"{group}/v1",
                    "kind": "RoleBinding",
                    "metadata": metadata,
                    "roleRef": reference,
                    "subjects": [subject],
                },
            ]
        )


def facts(server: servers.Server) -> dict[str, Any]:
    """Every name that a person has to look up before the runbook's commands can be typed."""
    return {
        "namespace": server.namespace,
        "source": clients.NAMESPACE,
        "selector": server.selector,
        "service": server.service,
        "deployment": server.deployment,
        "service_account": server.service_account,
        "secret": server.secret,
        "health": HEALTH.format(host=server.host, port=server.service_port),
        "image": server.image,
        "instance": server.db_instance_identifier,
        "security_group": server.database["security_group_id"],
        "bucket": server.bucket,
        "role": server.role,
        "list_bucket": LIST_BUCKET.format(bucket=server.bucket),
        "caller": CALLER,
    }


def one_shot_pod(name: str, image: str, command: list[str], secret: str = "") -> dict[str, Any]:
    """A pod that runs a command and ends; ``secret`` gives it the database's address, which no argument may hold."""
    container: dict[str, Any] = {"name": name, "image": image, "command": command}
    if secret:
        reference = {"secretKeyRef": {"name": secret, "key": "uri"}}
        container["env"] = [{"name": "URI", "valueFrom": reference}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }


def _environment() -> dict[str, str]:
    return playbooks.environment(operator.BENCH)


def diagnose(reports: Path, server: servers.Server) -> tuple[list[str], dict[str, str]]:
    """Our command, which is told the namespace and nothing else."""
    variables = {"mlflow_namespace": server.namespace, "mlflow_report_dir": str(reports)}
    words = [part for key, value in variables.items() for part in ("-e", f"{key}={value}")]
    return [playbooks.ansible_playbook(), "mlops.mlflow_runbook.diagnose", *words], _environment()


def fleet(reports: Path, known: Sequence[servers.Server]) -> tuple[list[str], dict[str, str]]:
    """Our command for all these servers in one run."""
    hosts = {server.name: {"ansible_connection": "local", "mlflow_namespace": server.namespace} for server in known}
    inventory = reports / f"{len(hosts)}.json"
    settings.write_text(inventory, json.dumps({"all": {"hosts": hosts}}))
    variables = ["-e", "mlflow_hosts=all", "-e", f"mlflow_report_dir={reports}"]
    command = ["mlops.mlflow_runbook.diagnose", *variables, "--inventory", str(inventory), "--forks", "10"]
    return [playbooks.ansible_playbook(), *command], _environment()


def script(server: servers.Server) -> tuple[list[str], dict[str, str]]:
    """The runbooks' commands, typed without a pause."""
    usual = _environment()
    programs = f"{build.go_binary('kubectl').parent}:{aws_command_line()}:{usual['PATH']}"
    names = {name.upper(): value for name, value in facts(server).items()}
    pod = one_shot_pod("psql", server.image, ["python3", "-c", QUERY], server.secret)
    names["QUERY_POD"] = json.dumps({"apiVersion": "v1", "spec": pod["spec"]})
    return ["sh", str(FOLDER / "runbook.sh")], {**usual, "PATH": programs, **names}


def playbook(server: servers.Server) -> tuple[list[str], dict[str, str]]:
    """The plain playbook."""
    variables = facts(server)
    variables["health_pod"] = one_shot_pod("debug", server.image, ["python3", "-c", variables["health"]])
    variables["query_pod"] = one_shot_pod("psql", server.image, ["python3", "-c", QUERY], server.secret)
    argv = [playbooks.ansible_playbook(), str(FOLDER / "runbook.yml"), "-e", json.dumps(variables)]
    return argv, _environment()


def contenders(reports: Path) -> list[Contender]:
    """All of them; ``reports`` is where our diagnosis writes."""
    commands = sum(line.rstrip().endswith(f"# {n}") for n in range(1, 100) for line in _lines("runbook.sh"))
    tasks = sum(line.startswith("    - name: ") for line in _lines("runbook.yml"))
    return [
        Contender("diagnose", "`mlops.mlflow_runbook.diagnose`", partial(diagnose, reports), 3),
        Contender("script", f"the runbooks' {commands} read-only commands, typed by a script", script, commands),
        Contender("playbook", f"a plain playbook of {tasks} tasks", playbook, tasks),
    ]


def _lines(name: str) -> list[str]:
    return (FOLDER / name).read_text(encoding="utf-8").splitlines()
