# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow servers of the lab: each with its own namespace, database, bucket and role, from a layout of manifests."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import jinja2
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tests.lab import cloud, database, identity, kube, noise, operator, settings
from tests.lab.settings import LabError

LAYOUTS = Path(__file__).parent / "layouts"


class ServerOptions(BaseModel):
    """What a layout, a command line or a fault file may say about a server.

    ``arguments`` are added to MLflow's own, ``environment`` to the container's; ``sidecars`` are whole container
    definitions; ``labels`` are both the Deployment's and the Service's selector; ``query`` is the part of the
    backend-store URI behind the question mark.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    namespace: str
    kind: Literal["Deployment", "StatefulSet"] = "Deployment"
    deployment: str
    service: str
    service_account: str
    secret: str
    container: str
    role: str
    db_instance_identifier: str
    bucket: str
    ingress: str = ""
    labels: dict[str, str] = Field(min_length=1)
    port: int = Field(default=5000, ge=1, le=65535)
    service_port: int = Field(default=5000, ge=1, le=65535)
    replicas: int = Field(default=1, ge=0)
    workers: int = Field(default=1, ge=1)
    memory: str = "1Gi"
    image: str = settings.SERVER_IMAGE
    arguments: list[str] = []
    environment: dict[str, str] = {}
    sidecars: list[dict[str, Any]] = []
    query: str = "sslmode=require"


class Server(ServerOptions):
    """A server as it was added: its options and what the cloud made for it; ``database`` describes its RDS instance."""

    model_config = ConfigDict(extra="forbid")

    name: str
    layout: str
    region: str
    account_id: str
    role_arn: str
    database: dict[str, Any]

    @property
    def backend_store_uri(self) -> str:
        """SQLAlchemy address of the database, with the password."""
        password = urllib.parse.quote(self.database["password"], safe="")
        place = f"{self.database['endpoint']}:{self.database['port']}/{self.database['database']}"
        return f"postgresql+psycopg2://{self.database['user']}:{password}@{place}?{self.query}"

    @property
    def host(self) -> str:
        """DNS name of the Service inside the cluster."""
        return f"{self.service}.{self.namespace}.svc.{settings.CLUSTER_DOMAIN}"

    @property
    def tracking_uri(self) -> str:
        """What a client in the cluster uses as tracking URI."""
        return f"http://{self.host}:{self.service_port}"

    @property
    def selector(self) -> str:
        """Label selector of the server's pods."""
        return ",".join(f"{key}={value}" for key, value in self.labels.items())

    @property
    def allowed_hosts(self) -> str:
        """Host headers that MLflow accepts: the Service's names, local ones and addresses; setting it replaces all."""
        short = f"{self.service}.{self.namespace}"
        names = [self.service, short, f"{short}.svc", self.host, "localhost", "127.0.0.1"]
        return ",".join([*(f"{name}{port}" for name in names for port in ("", ":*")), "10.*"])

    def facts(self) -> dict[str, Any]:
        """Everything about the server that a fault file may refer to."""
        derived = ("backend_store_uri", "host", "tracking_uri", "selector", "allowed_hosts")
        return self.model_dump() | {key: getattr(self, key) for key in derived}


def layout_path(layout: str) -> Path:
    """File of a layout, given by its name or by its path."""
    known = LAYOUTS / f"{layout}.yml.j2"
    path = known if known.exists() else Path(layout)
    if not path.is_file():
        names = ", ".join(sorted(file.name.removesuffix(".yml.j2") for file in LAYOUTS.glob("*.yml.j2")))
        raise LabError(f"layout {layout!r} is neither one of {names} nor a file")
    return path


def _render(text: str, **variables: Any) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text).render(**variables)


def options(name: str, layout: str, overrides: Mapping[str, Any]) -> ServerOptions:
    """Names and figures of the server ``name``: what the lab derives, then the layout's head, then ``overrides``.

    Raises LabError that names the key which is unknown or has a wrong value.
    """
    head = layout_path(layout).read_text(encoding="utf-8").partition("\n---\n")[0]
    derived = {
        "namespace": name,
        "role": name,
        "db_instance_identifier": name,
        "bucket": f"{name}-artifacts-{settings.AWS_ACCOUNT_ID}",
    }
    from_layout = yaml.safe_load(_render(head, name=name, account_id=settings.AWS_ACCOUNT_ID)) or {}
    try:
        return ServerOptions.model_validate(derived | from_layout | dict(overrides))
    except ValidationError as error:
        details = error.errors()[0]
        key = ".".join(str(part) for part in details["loc"])
        raise LabError(f"server {name}: {key}: {details['msg']}, not {details['input']!r}") from error


def manifests(server: Server) -> list[dict[str, Any]]:
    """Kubernetes objects of the server, from its layout."""
    body = layout_path(server.layout).read_text(encoding="utf-8").partition("\n---\n")[2]
    return [document for document in yaml.safe_load_all(_render(body, server=server)) if document]


def _record(name: str) -> Path:
    return settings.state_dir() / "servers" / f"{name}.json"


def get(name: str) -> Server:
    """The server ``name``; LabError when there is none."""
    try:
        return Server.model_validate_json(_record(name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LabError(f"there is no server {name!r}; the lab has: {', '.join(names()) or 'none'}") from error


def names() -> list[str]:
    """Names of all servers."""
    return sorted(path.stem for path in (settings.state_dir() / "servers").glob("*.json"))


def every() -> list[Server]:
    """All servers."""
    return [get(name) for name in names()]


def _database(identifier: str) -> database.DatabaseInstance:
    """The RDS instance, made when it is not there; it is put back into its normal state."""
    if identifier not in {instance.identifier for instance in database.instances()}:
        return database.create_instance(identifier)
    database.start_process(identifier)
    database.normal(identifier)
    return database.get(identifier)


def _bucket(name: str) -> None:
    if name not in {bucket["Name"] for bucket in cloud.admin("s3").list_buckets()["Buckets"]}:
        identity.create_bucket(name)


def _role(chosen: ServerOptions) -> str:
    identity.remove_server_role(chosen.role)
    return identity.create_server_role(chosen.role, chosen.namespace, chosen.service_account, chosen.bucket)


def _provision(name: str, layout: str, chosen: ServerOptions) -> Server:
    """Make database, bucket and role, which do not depend on each other."""
    with ThreadPoolExecutor(3) as pool:
        instance = pool.submit(_database, chosen.db_instance_identifier)
        bucket = pool.submit(_bucket, chosen.bucket)
        role_arn = pool.submit(_role, chosen).result()
        bucket.result()
    return Server(
        **chosen.model_dump(),
        name=name,
        layout=layout,
        region=settings.AWS_REGION,
        account_id=settings.AWS_ACCOUNT_ID,
        role_arn=role_arn,
        database=asdict(instance.result()),
    )


def add(name: str, layout: str = "mlflow", timeout: float = 120.0, **overrides: Any) -> Server:
    """Add a server, wait until its pods are ready, and return it; one that exists is brought back to its layout.

    Args:
        name: name of the server, and of everything of it that the layout does not name.
        layout: ``mlflow``, ``asgard`` or the path of a layout file.
        timeout: seconds until its pods have to be ready.
        overrides: fields of ServerOptions.

    Raises:
        LabError: an override is wrong, or the server does not become ready.
    """
    chosen = options(name, layout, overrides)
    taken = [other.name for other in every() if other.namespace == chosen.namespace and other.name != name]
    if taken:
        raise LabError(f"namespace {chosen.namespace} belongs to the server {taken[0]}")
    server = _provision(name, layout, chosen)
    settings.write_text(_record(name), server.model_dump_json(indent=1), mode=0o600)
    kube.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": server.namespace}}])
    operator.grant(server.namespace)
    kube.apply([*manifests(server), *noise.beside(server.namespace)])
    kube.wait_ready(server.kind, server.deployment, server.namespace, timeout)
    return server


def remove(name: str) -> None:
    """Take the server, its client, bucket and role away, and its database unless another server has it, too."""
    from tests.lab import clients  # clients know their server

    server = get(name)
    clients.remove(name)
    kube.delete("v1", "Namespace", server.namespace)
    if server.db_instance_identifier not in [other.db_instance_identifier for other in every() if other.name != name]:
        database.remove_instance(server.db_instance_identifier)
    identity.remove_server_role(server.role)
    identity.remove_bucket(server.bucket)
    _record(name).unlink(missing_ok=True)
