# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding the server: every name that the rest needs, and where each was found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .evidence import EvidenceSet
from .server_command import ServerCommand, read_command, split_database_uri
from .settings import Settings

SERVER_SCORE = 10
ENVIRONMENT_SCORE = 6
IMAGE_SCORE = 3
LABEL_SCORE = 2
PORT_SCORE = 1
LEAST_SCORE = 5
IMAGE = re.compile(r"(^|/)mlflow")
VERSION = re.compile(r"(?:^|[^\d])v?(\d+\.\d+\.\d+)")
RDS_HOST = re.compile(
    r"^(?P<id>[^.]+)\.(?P<shared>cluster-|proxy-)?[^.]+\.(?P<region>[a-z0-9-]+)\.rds\.amazonaws\.com$"
)
OTHER_COMPONENTS = frozenset({"run", "gc", "migration", "model", "gateway"})
DEFAULT_PORT = 5000


@dataclass(frozen=True)
class Target:
    """One MLflow server and the names of everything that it depends on.

    ``found`` says for each field where its value was found; an unknown name is an empty text.
    """

    name: str
    namespace: str
    kind: str
    deployment: str
    uid: str
    container: str
    image: str
    port: int
    selector: Mapping[str, str]
    service: str = ""
    service_port: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    static_prefix: str = ""
    web_server: str = "uvicorn"
    backend: Mapping[str, Any] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    config_maps: tuple[str, ...] = ()
    bucket: str = ""
    artifact_prefix: str = ""
    artifacts_proxied: bool = True
    service_account: str = "default"
    role_arn: str = ""
    role_name: str = ""
    region: str = ""
    db_instance_identifier: str = ""
    mlflow_version: str = ""
    found: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Discovery:
    """The target, or why there is none."""

    target: Target | None = None
    problem: str = ""
    candidates: tuple[str, ...] = ()


def main_container(workload: Mapping[str, Any], commands: Mapping[str, ServerCommand]) -> Mapping[str, Any]:
    """Return the container that most likely runs the tracking server."""
    containers = workload["spec"]["template"]["spec"]["containers"]
    return max(containers, key=lambda container: container_score(container, commands[container["name"]]))


def container_score(container: Mapping[str, Any], command: ServerCommand) -> int:
    score = SERVER_SCORE if command.is_server else 0
    names = {*command.environment, *command.references}
    score += ENVIRONMENT_SCORE if names & {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"} else 0
    score += IMAGE_SCORE if IMAGE.search(container.get("image", "")) else 0
    score += (
        PORT_SCORE if any(port.get("containerPort") == DEFAULT_PORT for port in container.get("ports") or []) else 0
    )
    return score


def workload_score(workload: Mapping[str, Any], commands: Mapping[str, ServerCommand]) -> int:
    labels = {**workload["metadata"].get("labels", {}), **workload["spec"]["template"]["metadata"].get("labels", {})}
    if labels.get("app.kubernetes.io/component") in OTHER_COMPONENTS or labels.get("component") in OTHER_COMPONENTS:
        return 0
    container = main_container(workload, commands)
    score = container_score(container, commands[container["name"]])
    if labels.get("app.kubernetes.io/name") == "mlflow" or str(labels.get("app", "")).startswith("mlflow"):
        score += LABEL_SCORE
    return score


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether equality based selector terms all hold; an empty selector matches nothing here."""
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def commands_of(workload: Mapping[str, Any], evidence: EvidenceSet) -> dict[str, ServerCommand]:
    config_maps = {
        item["metadata"]["name"]: item.get("data") or {} for item in evidence.objects("kubernetes.configmaps")
    }
    secret_keys = {
        item["metadata"]["name"]: list(item.get("keys") or {}) for item in evidence.objects("kubernetes.secrets")
    }
    containers = workload["spec"]["template"]["spec"]["containers"]
    return {container["name"]: read_command(container, config_maps, secret_keys) for container in containers}


def discover(evidence: EvidenceSet, settings: Settings) -> Discovery:
    """Find the server in the evidence of its namespace.

    Args:
        evidence: what was listed in the namespace; Secret facts and probes refine the answer when they are there.
        settings: overrides; ``deployment`` and ``label_selectors`` narrow the choice.
    """
    unseen = evidence.first("kubernetes.namespace", subject=settings.namespace)
    if unseen is not None and unseen.state.value == "absent":
        return Discovery(problem=f"namespace {settings.namespace} does not exist")
    scored = []
    for kind, what in (("Deployment", "kubernetes.deployments"), ("StatefulSet", "kubernetes.statefulsets")):
        for workload in evidence.objects(what, settings.namespace):
            commands = commands_of(workload, evidence)
            score = workload_score(workload, commands)
            name = workload["metadata"]["name"]
            if settings.deployment and name != settings.deployment:
                continue
            if not all(label_selector_matches(term, workload) for term in settings.label_selectors):
                continue
            if score >= LEAST_SCORE or settings.deployment:
                scored.append((score, kind, workload, commands))
    if not scored:
        return Discovery(problem=nothing_found(evidence, settings))
    best = max(score for score, *_ in scored)
    leaders = [item for item in scored if item[0] == best]
    if len(leaders) > 1:
        names = tuple(sorted(workload["metadata"]["name"] for _, _, workload, _ in leaders))
        return Discovery(
            problem=f"{len(names)} workloads in namespace {settings.namespace} look like a tracking server: "
            f"{', '.join(names)}; name one with mlflow_deployment",
            candidates=names,
        )
    _, kind, workload, commands = leaders[0]
    return Discovery(target=describe(kind, workload, commands, evidence, settings))


def label_selector_matches(term: str, workload: Mapping[str, Any]) -> bool:
    key, _, value = term.partition("=")
    labels = {**workload["metadata"].get("labels", {}), **workload["spec"]["template"]["metadata"].get("labels", {})}
    return labels.get(key) == value


def nothing_found(evidence: EvidenceSet, settings: Settings) -> str:
    unread = [
        item
        for what in ("kubernetes.deployments", "kubernetes.statefulsets")
        for item in evidence.all(what)
        if not item.seen
    ]
    if unread:
        return f"the workloads of namespace {settings.namespace} could not be read: " + "; ".join(
            sorted({item.detail or item.state.value for item in unread})
        )
    if settings.deployment:
        return f"namespace {settings.namespace} has no Deployment or StatefulSet named {settings.deployment}"
    return f"no Deployment or StatefulSet in namespace {settings.namespace} looks like an MLflow tracking server"


def describe(
    kind: str,
    workload: Mapping[str, Any],
    commands: Mapping[str, ServerCommand],
    evidence: EvidenceSet,
    settings: Settings,
) -> Target:
    container = main_container(workload, commands)
    command = commands[container["name"]]
    pod_spec = workload["spec"]["template"]["spec"]
    where = f"{kind.lower()}/{workload['metadata']['name']}"
    found = dict.fromkeys(("deployment", "container", "image", "port", "static_prefix", "service_account"), where)
    port = server_port(container, command)
    service, service_port = find_service(workload, port, evidence, settings)
    found["service"] = "mlflow_service" if settings.service else "selector of the Service" if service else ""
    backend = find_backend(command, evidence, found)
    bucket, prefix, proxied = find_artifacts(command, settings, found)
    role_arn = find_role(pod_spec.get("serviceAccountName", "default"), evidence, found)
    identifier, region = find_instance(backend, command, settings, found)
    return Target(
        name=workload["metadata"]["name"],
        namespace=settings.namespace,
        kind=kind,
        deployment=workload["metadata"]["name"],
        uid=workload["metadata"].get("uid", ""),
        container=container["name"],
        image=container.get("image", ""),
        port=port,
        selector=workload["spec"]["selector"].get("matchLabels") or {},
        service=service,
        service_port=service_port,
        options=command.options,
        static_prefix="/" + command.setting("static-prefix").strip("/") if command.setting("static-prefix") else "",
        web_server="gunicorn" if command.setting("gunicorn-opts") else "uvicorn",
        backend=backend,
        secrets=tuple(
            sorted(
                {item.name for item in command.references.values() if item.kind == "Secret"}
                | env_from(container, "secretRef")
            )
        ),
        config_maps=tuple(
            sorted(
                {item.name for item in command.references.values() if item.kind == "ConfigMap"}
                | env_from(container, "configMapRef")
            )
        ),
        bucket=bucket,
        artifact_prefix=prefix,
        artifacts_proxied=proxied,
        service_account=pod_spec.get("serviceAccountName", "default"),
        role_arn=role_arn,
        role_name=role_arn.rsplit("/", 1)[-1] if role_arn else "",
        region=region,
        db_instance_identifier=identifier,
        mlflow_version=find_version(container.get("image", ""), evidence),
        found=found,
    )


def env_from(container: Mapping[str, Any], kind: str) -> set[str]:
    return {source[kind]["name"] for source in container.get("envFrom") or [] if kind in source}


def server_port(container: Mapping[str, Any], command: ServerCommand) -> int:
    text = command.setting("port")
    if text.isdigit():
        return int(text)
    ports = container.get("ports") or []
    return ports[0]["containerPort"] if ports and not command.is_server else DEFAULT_PORT


def find_service(
    workload: Mapping[str, Any], port: int, evidence: EvidenceSet, settings: Settings
) -> tuple[str, int | None]:
    """Return the Service by name, by selector, or (when a selector may be broken) by name or port likeness."""
    services = [
        item
        for item in evidence.objects("kubernetes.services", settings.namespace)
        if item["spec"].get("type") != "ExternalName"
    ]
    labels = workload["spec"]["template"]["metadata"].get("labels", {})
    if settings.service:
        chosen = [item for item in services if item["metadata"]["name"] == settings.service]
        if not chosen:
            return settings.service, None
    else:
        chosen = [item for item in services if matches(item["spec"].get("selector") or {}, labels)] or orphans(
            workload, services, evidence, port
        )
    if not chosen:
        return "", None
    service = min(chosen, key=lambda item: service_rank(item, workload, port))
    ports = service["spec"].get("ports") or []
    best = next((item for item in ports if targets(item, port, workload)), ports[0] if ports else None)
    return service["metadata"]["name"], best["port"] if best else None


def targets(service_port: Mapping[str, Any], port: int, workload: Mapping[str, Any]) -> bool:
    """Tell whether a Service port leads to the given container port, by number or by name."""
    target = service_port.get("targetPort", service_port["port"])
    if isinstance(target, int) or str(target).isdigit():
        return int(target) == port
    return any(
        item.get("name") == target and item.get("containerPort") == port
        for container in workload["spec"]["template"]["spec"]["containers"]
        for item in container.get("ports") or []
    )


def service_rank(service: Mapping[str, Any], workload: Mapping[str, Any], port: int) -> tuple[int, int, int, str]:
    name = service["metadata"]["name"]
    ports = service["spec"].get("ports") or []
    return (
        0 if any(targets(item, port, workload) for item in ports) else 1,
        1 if service["spec"].get("clusterIP") == "None" else 0,
        0 if name == workload["metadata"]["name"] else 1,
        name,
    )


def orphans(
    workload: Mapping[str, Any], services: list[dict[str, Any]], evidence: EvidenceSet, port: int
) -> list[dict[str, Any]]:
    """Services that select no workload of the namespace and look as if they were meant for this one."""
    others = [
        item["spec"]["template"]["metadata"].get("labels", {}) for item in evidence.objects("kubernetes.deployments")
    ]
    name = workload["metadata"]["name"]
    stem = re.sub(r"-(deployment|server|tracking)$", "", name)
    lonely = [
        item
        for item in services
        if item["spec"].get("selector") and not any(matches(item["spec"]["selector"], labels) for labels in others)
    ]
    return [item for item in lonely if stem in item["metadata"]["name"] or item["metadata"]["name"] in name] or [
        item for item in lonely if any(targets(entry, port, workload) for entry in item["spec"].get("ports") or [])
    ]


def secret_uri(evidence: EvidenceSet, name: str, key: str) -> dict[str, Any] | None:
    for secret in evidence.objects("kubernetes.secrets"):
        if secret["metadata"]["name"] == name:
            return ((secret.get("keys") or {}).get(key) or {}).get("uri")
    return None


def find_backend(command: ServerCommand, evidence: EvidenceSet, found: dict[str, str]) -> dict[str, Any]:
    """Return host, port, user and database of the backend store, and the Secret key that its URI comes from."""
    reference = command.reference("backend-store-uri")
    uri = command.setting("backend-store-uri")
    backend = {**split_database_uri(uri), "env": "", "secret": "", "key": ""}
    found["backend"] = "pod template"
    if reference is not None:
        variable, origin = reference
        backend |= {"env": variable, "secret": origin.name if origin.kind == "Secret" else "", "key": origin.key}
        known = secret_uri(evidence, origin.name, origin.key)
        if known:
            backend |= {key: known.get(key) or backend[key] for key in ("scheme", "host", "port", "user", "database")}
            found["backend"] = f"secret/{origin.name} key {origin.key}"
    if not backend["host"]:
        backend |= {key: value for key, value in libpq(command).items() if value}
    seen = evidence.value("probe.environment", default={}).get("backend") or {}
    if not backend["host"] and seen.get("host"):
        backend |= {key: seen.get(key) for key in ("scheme", "host", "port", "user", "database")}
        found["backend"] = "environment of the running pod"
    return backend


def libpq(command: ServerCommand) -> dict[str, Any]:
    environment = command.environment
    return {
        "host": environment.get("PGHOST", ""),
        "port": int(environment["PGPORT"]) if environment.get("PGPORT", "").isdigit() else None,
        "user": environment.get("PGUSER", ""),
        "database": environment.get("PGDATABASE", ""),
    }


def find_artifacts(command: ServerCommand, settings: Settings, found: dict[str, str]) -> tuple[str, str, bool]:
    destination = command.setting("artifacts-destination") or command.setting("default-artifact-root")
    proxied = (
        "no-serve-artifacts" not in command.options
        and command.environment.get("MLFLOW_SERVE_ARTIFACTS", "true").lower() != "false"
    )
    bucket, prefix = "", ""
    if destination.startswith("s3://"):
        bucket, _, prefix = destination[len("s3://") :].partition("/")
        found["bucket"] = "pod template"
    if settings.artifact_bucket:
        bucket, found["bucket"] = settings.artifact_bucket, "mlflow_artifact_bucket"
    return bucket, prefix, proxied


def find_role(service_account: str, evidence: EvidenceSet, found: dict[str, str]) -> str:
    for item in evidence.objects("kubernetes.serviceaccounts"):
        if item["metadata"]["name"] == service_account:
            arn = item["metadata"].get("annotations", {}).get("eks.amazonaws.com/role-arn", "")
            found["role_arn"] = f"annotation of serviceaccount/{service_account}" if arn else ""
            return arn
    return ""


def find_instance(
    backend: Mapping[str, Any], command: ServerCommand, settings: Settings, found: dict[str, str]
) -> tuple[str, str]:
    """Return the RDS identifier (empty when the host is no instance's, but a cluster's or a proxy's) and the region."""
    match = RDS_HOST.match(backend.get("host") or "")
    identifier = match["id"] if match and not match["shared"] else ""
    found["db_instance_identifier"] = "host of the backend store URI" if identifier else ""
    if settings.db_instance_identifier:
        identifier, found["db_instance_identifier"] = settings.db_instance_identifier, "mlflow_db_instance_identifier"
    region = str(settings.aws.get("region") or "") or (match["region"] if match else "")
    region = region or command.environment.get("AWS_REGION") or command.environment.get("AWS_DEFAULT_REGION") or ""
    return identifier, region


def find_version(image: str, evidence: EvidenceSet) -> str:
    running = evidence.value("probe.environment", default={}).get("mlflow_version")
    if running:
        return str(running)
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    match = VERSION.search(tag)
    return match[1] if match else ""
