# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backend store, artifact store and identity of a server, as its pod template and its surroundings tell."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .evidence import EvidenceSet
from .server_command import ServerCommand, expand, split_database_uri
from .settings import Settings

RDS_HOST = re.compile(
    r"^(?P<id>[^.]+)\.(?P<shared>cluster-ro-|cluster-custom-|cluster-|proxy-)?[^.]+"
    r"\.(?P<region>[a-z0-9-]+)\.rds\.amazonaws\.com$"
)
"""Endpoints of an instance, of an Aurora cluster's writer, readers or chosen members, and of an RDS Proxy."""
SESSION = re.compile(r"^arn:(?P<partition>[\w-]+):sts::(?P<account>\d+):assumed-role/(?P<role>[^/]+)/")
AWS_HOST = re.compile(r"\.amazonaws\.com(\.cn)?$")
SERVERLESS = frozenset({"sqlite", "file"})
"""Backend stores without a database server."""


def secret_uri(evidence: EvidenceSet, name: str, key: str) -> dict[str, Any] | None:
    for secret in evidence.objects("kubernetes.secrets"):
        if secret["metadata"]["name"] == name:
            return ((secret.get("keys") or {}).get(key) or {}).get("uri")
    return None


def output_of(settings: Settings, field: str) -> tuple[str, str]:
    """Return a value out of Terraform's outputs and where it was found; empty texts when there is none."""
    value, name = settings.outputs.get(field, ("", ""))
    return value, f"output {name} of {settings.terraform_outputs}" if value else ""


def shared_endpoint(host: str) -> tuple[str, str]:
    """Return what stands behind an RDS name that is no single instance's: kind of endpoint and cluster or proxy."""
    match = RDS_HOST.match(host)
    return ((match["shared"] or "").removesuffix("-"), match["id"]) if match else ("", "")


def dialect(backend: Mapping[str, Any]) -> str:
    """Return ``postgresql``, ``mysql``, ``sqlite``, ``file`` or another kind of backend store; empty when unknown."""
    scheme = str(backend.get("scheme") or "").partition("+")[0]
    return {"postgres": "postgresql", "mariadb": "mysql"}.get(scheme, scheme)


def find_backend(
    command: ServerCommand, evidence: EvidenceSet, settings: Settings, found: dict[str, str]
) -> dict[str, Any]:
    """Return host, port, user and database of the backend store, and the Secret key that its URI comes from."""
    reference = command.reference("backend-store-uri")
    uri = command.setting("backend-store-uri")
    backend = {**split_database_uri(uri), "env": "", "secret": "", "key": ""}
    found["backend"] = "pod template" if uri or reference else ""
    if reference is not None:
        variable, origin = reference
        backend |= {"env": variable, "secret": origin.name if origin.kind == "Secret" else "", "key": origin.key}
        known = secret_uri(evidence, origin.name, origin.key)
        if known:
            backend |= {key: known.get(key) or backend[key] for key in ("scheme", "host", "port", "user", "database")}
            found["backend"] = f"secret/{origin.name} key {origin.key}"
    if not backend["host"] and dialect(backend) in ("", "postgresql"):
        fill_from_libpq(backend, command, found)
    seen = evidence.value("probe.environment", default={}).get("backend") or {}
    if not backend["host"] and (seen.get("host") or seen.get("scheme")):
        backend |= {key: seen.get(key) for key in ("scheme", "host", "port", "user", "database")}
        found["backend"] = "environment of the running pod"
    host, where = output_of(settings, "db_host")
    if not backend["host"] and host and dialect(backend) not in SERVERLESS:
        backend |= {"host": host, "scheme": backend["scheme"] or "postgresql", "port": backend["port"] or 5432}
        found["backend"] = where
    return backend


def fill_from_libpq(backend: dict[str, Any], command: ServerCommand, found: dict[str, str]) -> None:
    """Put in what libpq would read from its own variables."""
    environment = command.environment
    port = environment.get("PGPORT", "")
    known = {
        "host": environment.get("PGHOST", ""),
        "port": int(port) if port.isdigit() else None,
        "user": environment.get("PGUSER", ""),
        "database": environment.get("PGDATABASE", ""),
    }
    backend |= {key: value for key, value in known.items() if value}
    secret = command.references.get("PGPASSWORD")
    if secret is not None and not backend["secret"]:
        backend |= {"env": "PGPASSWORD", "secret": secret.name, "key": secret.key}
    if known["host"]:
        found["backend"] = "variables of libpq in the pod template"


@dataclass(frozen=True)
class ArtifactStore:
    """Where artifacts go; ``endpoint`` is empty for AWS itself."""

    bucket: str
    prefix: str
    proxied: bool
    endpoint: str


def find_artifacts(command: ServerCommand, settings: Settings, found: dict[str, str]) -> ArtifactStore:
    """Read the artifact store's place out of the options, and the endpoint of a store that is not AWS's."""
    destination = command.setting("artifacts-destination") or command.setting("default-artifact-root")
    proxied = (
        "no-serve-artifacts" not in command.options
        and command.environment.get("MLFLOW_SERVE_ARTIFACTS", "true").lower() != "false"
    )
    bucket, prefix = "", ""
    if destination.startswith("s3://"):
        bucket, dummy, prefix = destination[len("s3://") :].partition("/")
        bucket = "" if "$" in bucket else bucket
        found["bucket"] = "pod template" if bucket else ""
    output, where = output_of(settings, "artifact_bucket")
    if not bucket and output:
        bucket, found["bucket"] = output, where
    if settings.artifact_bucket:
        bucket, found["bucket"] = settings.artifact_bucket, "mlflow_artifact_bucket"
    return ArtifactStore(bucket, prefix, proxied, find_endpoint(command, found))


def find_endpoint(command: ServerCommand, found: dict[str, str]) -> str:
    for name in ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        endpoint = expand(command.environment.get(name, ""), command.environment)
        if endpoint:
            host = urllib.parse.urlsplit(endpoint).hostname or endpoint
            found["artifact_endpoint"] = f"variable {name} of the pod template"
            return "" if AWS_HOST.search(host) else endpoint
    return ""


def find_role(service_account: str, evidence: EvidenceSet, settings: Settings, found: dict[str, str]) -> str:
    """Return the role of the service account's annotation, or the one that EKS Pod Identity gives the running pod.

    Terraform's counts only when the account could not be read.
    """
    accounts = {item["metadata"]["name"]: item for item in evidence.objects("kubernetes.serviceaccounts")}
    if service_account in accounts:
        annotations = accounts[service_account]["metadata"].get("annotations") or {}
        arn = str(annotations.get("eks.amazonaws.com/role-arn", ""))
        found["role_arn"] = f"annotation of serviceaccount/{service_account}" if arn else ""
        given = "" if arn else pod_identity_role(evidence)
        if given:
            found["role_arn"] = "caller identity of the running pod (EKS Pod Identity)"
        return arn or given
    arn, found["role_arn"] = output_of(settings, "role_arn")
    return arn


def pod_identity_role(evidence: EvidenceSet) -> str:
    """Return the role behind the session that a pod has from EKS Pod Identity, whose associations only EKS knows."""
    if not (evidence.value("probe.identity", default={}) or {}).get("pod_identity"):
        return ""
    match = SESSION.match(str((evidence.value("probe.sts", default={}) or {}).get("arn", "")))
    return f"arn:{match['partition']}:iam::{match['account']}:role/{match['role']}" if match else ""


def find_instance(backend: Mapping[str, Any], settings: Settings, found: dict[str, str]) -> str:
    """Return the RDS identifier; empty when the host is no instance's, but a cluster's or a proxy's."""
    match = RDS_HOST.match(backend.get("host") or "")
    identifier = match["id"] if match and not match["shared"] else ""
    found["db_instance_identifier"] = "host of the backend store URI" if identifier else ""
    output, where = output_of(settings, "db_instance_identifier")
    if not identifier and output and not match and dialect(backend) not in SERVERLESS:
        identifier, found["db_instance_identifier"] = output, where
    if settings.db_instance_identifier:
        identifier, found["db_instance_identifier"] = settings.db_instance_identifier, "mlflow_db_instance_identifier"
    return identifier


def find_region(backend: Mapping[str, Any], command: ServerCommand, settings: Settings, found: dict[str, str]) -> str:
    """Return the region: the variable's, the database host's, the server's own or Terraform's."""
    match = RDS_HOST.match(backend.get("host") or "")
    candidates = (
        (str(settings.aws.get("region") or ""), "mlflow_region"),
        (match["region"] if match else "", "host of the backend store URI"),
        (command.environment.get("AWS_REGION", ""), "variable AWS_REGION of the pod template"),
        (command.environment.get("AWS_DEFAULT_REGION", ""), "variable AWS_DEFAULT_REGION of the pod template"),
        output_of(settings, "region"),
    )
    region, found["region"] = next((item for item in candidates if item[0]), ("", ""))
    return region


def remarks(backend: Mapping[str, Any], artifacts: ArtifactStore) -> tuple[str, ...]:
    """Say plainly which stores are not judged, or not wholly."""
    kind = dialect(backend)
    said = []
    if kind == "sqlite":
        said.append("the backend store is a SQLite file in the pod: there is no database server to judge")
    elif kind == "file":
        said.append("the backend store is a folder in the pod: there is no database server to judge")
    elif kind and kind != "postgresql":
        said.append(
            f"the backend store is {kind}: instance, name and port are judged; login, content and schema are not"
        )
    if artifacts.endpoint:
        said.append(f"artifacts are in an S3-compatible store at {artifacts.endpoint}: AWS is not asked about it")
    return tuple(said)
