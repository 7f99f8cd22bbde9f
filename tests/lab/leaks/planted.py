# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that are put everywhere around a live server, new ones each time."""

from __future__ import annotations

import base64
import html
import json
import secrets
import time
import urllib.parse
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.lab import aws, kube, servers

SECRET = "planted"
SIDECAR = "talker"
MARK = "planted-here"
"""Stands beside everything that is planted, so that its absence proves that nothing was looked at."""

MOST_SAID = 4000
"""Characters of one command; other lines of the log must not get into ours, so that whole ones are said."""

SQL = """
import os, sqlalchemy, sys
engine = sqlalchemy.create_engine(os.environ["MLFLOW_BACKEND_STORE_URI"])
try:
    with engine.begin() as connection:
        connection.exec_driver_sql(sys.stdin.readline().strip())
except sqlalchemy.exc.SQLAlchemyError as error:
    print("planted-here sql", error, file=open("/proc/1/fd/1", "w"))
"""
SAY = "import sys; open('/proc/1/fd/1', 'w').write(sys.stdin.read(int(sys.argv[1])))"


def _password() -> str:
    """A password with every kind of character that some encoding changes."""
    return f"{secrets.token_hex(5)}/@+&<{secrets.token_hex(5)}"


def _private_key() -> str:
    lines = "\n".join(base64.b64encode(secrets.token_bytes(48)).decode() for dummy in range(4))
    return f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n"


@dataclass(frozen=True)
class Planted:
    """The values.

    Attributes:
        known: entries of a Secret that a side-car of the server names.
        environment: variables of the server's own container, each with a plain value.
        unknown: values that stand in no Secret: only their form or their name tells what they are.
    """

    known: dict[str, str]
    environment: dict[str, str]
    unknown: dict[str, str]

    def values(self) -> set[str]:
        """Every value that nothing may show."""
        docker = json.loads(self.known["docker"])["auths"]["registry.example"]
        uri = urllib.parse.urlsplit(self.known["uri"]).password or ""
        keys = self.known["key.pem"] + self.unknown["key.pem"]
        lines = [line for line in keys.splitlines() if not line.startswith("---")]
        single = {**self.known, "docker": "", **self.environment, "key.pem": ""}
        found = {docker["password"], docker["auth"], uri, urllib.parse.unquote(uri), *lines, *single.values()}
        return (found | {value for name, value in self.unknown.items() if name != "key.pem"}) - {""}


def make() -> Planted:
    """New values."""
    docker = secrets.token_urlsafe(18)
    login = {"username": "robot", "password": docker, "auth": base64.b64encode(f"robot:{docker}".encode()).decode()}
    quoted = urllib.parse.quote(_password(), safe="")
    return Planted(
        known={
            "password": _password(),
            "api_key": secrets.token_urlsafe(24),
            "session": secrets.token_hex(20),
            "uri": f"postgresql://reporting:{quoted}@reports.internal:5432/reports",
            "key.pem": _private_key(),
            "docker": json.dumps({"auths": {"registry.example": login}}),
        },
        environment={
            "REPORTS_API_KEY": secrets.token_urlsafe(24),
            "WEBHOOK_SECRET": secrets.token_hex(16),
            "EXPORT_TOKEN": f"{secrets.token_urlsafe(12)}/+",
        },
        unknown={
            "annotation": secrets.token_urlsafe(20),
            "uri": f"{secrets.token_hex(6)}%2F{secrets.token_hex(3)}",
            "sql": f"{secrets.token_hex(6)} {secrets.token_hex(6)}",
            "bearer": secrets.token_urlsafe(32),
            "github": f"ghp_{secrets.token_hex(18)}",
            "aws": f"AKIA{secrets.token_hex(8).upper()}",
            "key.pem": _private_key(),
        },
    )


def said(planted: Planted) -> list[str]:
    """Lines of a careless program: each known value in every form, each unknown one where its kind turns up."""
    lines = []
    for name, value in {**planted.known, **planted.environment}.items():
        lines += [f"{MARK} log {name}={form}" for form in carelessly(value)]
    unknown = planted.unknown
    address = f"postgresql://other:{unknown['uri']}@db/x"
    lines += [
        f"{MARK} uri {address}",
        f"{MARK} uri {base64.b64encode(address.encode()).decode()}",
        f"{MARK} uri {urllib.parse.quote(address, safe='')}",
        f"{MARK} header Authorization: Bearer {unknown['bearer']}",
        f"{MARK} github {unknown['github']}",
        f"{MARK} aws {unknown['aws']}",
        f"{MARK} statement ALTER ROLE exporter PASSWORD '{unknown['sql']}'",
        f'{MARK} json {{"export_token": "{unknown["annotation"]}"}}',
        f"{MARK} key {unknown['key.pem']}",
    ]
    return lines


def carelessly(value: str) -> list[str]:
    """The forms in which programs print a value."""
    raw = value.encode()
    encoded = [base64.b64encode(before + raw).decode() for before in (b"", b"u", b"u:")]
    quoted = [urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value)]
    whole = [value, repr(value), json.dumps(value), json.dumps(json.dumps(value)), html.escape(value)]
    safe = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return [*whole, *encoded, safe, *quoted, f"https://u:{quoted[0]}@host/?k={quoted[1]}"]


def sidecar() -> dict[str, Any]:
    """A container beside MLflow that holds the Secret."""
    return {
        "name": SIDECAR,
        "image": "docker.io/lab/pause:1",
        "imagePullPolicy": "IfNotPresent",
        "envFrom": [{"secretRef": {"name": SECRET}}],
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}},
    }


def plant(name: str, planted: Planted) -> servers.Server:
    """Add a server with secrets in Secret, environment, annotations, logs, SQL errors, events and CloudWatch Logs."""
    kube.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}])
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": name}, "type": "Opaque"}
    kube.apply([{**secret, "stringData": planted.known}])
    server = servers.add(name, sidecars=[sidecar()], environment=planted.environment)
    lines = said(planted)
    annotate(server, planted)
    pod = kube.list_objects("v1", "Pod", server.namespace, server.selector)[0]["metadata"]["name"]
    speak(server, pod, "\n".join([*lines, ""]))
    statement = f"ALTER ROLE nobody_of_this_name PASSWORD '{planted.unknown['sql']}'"
    feed(server, pod, SQL, statement + "\n")
    happen(server, pod, lines)
    publish(server.db_instance_identifier, lines)
    return server


def annotate(server: servers.Server, planted: Planted) -> None:
    """Annotate the Service; the Deployment's pods would be replaced."""
    annotations = {
        "example.com/export-token": planted.unknown["annotation"],
        "example.com/note": f"{MARK} postgresql://other:{planted.unknown['uri']}@db/x and {planted.known['password']}",
    }
    for version, kind, name in (("v1", "Service", server.service), ("apps/v1", "Deployment", server.deployment)):
        kube.patch(version, kind, name, {"metadata": {"annotations": annotations}}, namespace=server.namespace)


def speak(server: servers.Server, pod: str, text: str) -> None:
    """Let the server's own process write a text to its log."""
    chunks = [""]
    for line in text.splitlines(keepends=True):
        chunks = [*chunks, line] if len(chunks[-1]) + len(line) > MOST_SAID else [*chunks[:-1], chunks[-1] + line]
    for chunk in chunks:
        feed(server, pod, SAY, chunk)


def feed(server: servers.Server, pod: str, program: str, text: str) -> None:
    """Run a program in the server's container; the text is in its command, which ends before anybody watches."""
    stand_in = f"import io, sys; sys.stdin = io.StringIO({text!r}); sys.argv = ['', {str(len(text))!r}]\n"
    kube.exec(server.namespace, pod, ["python3", "-c", stand_in + program], server.container)


def happen(server: servers.Server, pod: str, lines: list[str]) -> None:
    """Let events about the server's pod tell the lines, twenty in each."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    chunks = ["\n".join(lines[begin : begin + 20])[:1000] for begin in range(0, len(lines), 20)]
    for number, text in enumerate([*chunks, *lines[-8:]]):
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"planted-{number}", "namespace": server.namespace},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": pod, "namespace": server.namespace},
            "reason": "Planted",
            "message": text,
            "type": "Warning",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "planted"},
        }
        kube.apply([event])


def publish(identifier: str, lines: list[str]) -> None:
    """Let the instance publish a log that holds the lines."""
    logs = aws.admin("logs")
    group = f"/aws/rds/instance/{identifier}/postgresql"
    withdraw(identifier)
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=f"{identifier}.0")
    now = int(time.time() * 1000)
    events = [{"timestamp": now, "message": line} for line in lines]
    logs.put_log_events(logGroupName=group, logStreamName=f"{identifier}.0", logEvents=events)


def withdraw(identifier: str) -> None:
    """Remove the published log, if it is there."""
    logs = aws.admin("logs")
    group = f"/aws/rds/instance/{identifier}/postgresql"
    if logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        logs.delete_log_group(logGroupName=group)


def remove(name: str) -> None:
    """Take the server and everything planted away."""
    withdraw(servers.get(name).db_instance_identifier)
    servers.remove(name)
