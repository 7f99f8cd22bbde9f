# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding the server: every name that the rest needs, and where each was found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .discovery_service import find_service
from .discovery_stores import find_artifacts, find_backend, find_instance, find_region, find_role, remarks
from .evidence import EvidenceSet
from .server_command import ServerCommand, read_command
from .settings import Settings

SERVER_SCORE = 10
ENVIRONMENT_SCORE = 6
IMAGE_SCORE = 3
LABEL_SCORE = 2
PORT_SCORE = 1
LEAST_SCORE = 5
IMAGE = re.compile(r"(^|/)mlflow")
VERSION = re.compile(r"(?:^|[^\d])v?(\d+\.\d+\.\d+)")
OTHER_COMPONENTS = frozenset({"run", "gc", "migration", "model", "gateway"})
DEFAULT_PORT = 5000


@dataclass(frozen=True)
class Target:
    """One MLflow server and the names of everything that it depends on.

    ``found`` says for each field where its value was found; an unknown name is an empty text. ``artifact_endpoint`` is
    that of an S3-compatible store, empty for AWS; ``remarks`` say which parts cannot be judged.
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
    artifact_endpoint: str = ""
    service_account: str = "default"
    role_arn: str = ""
    role_name: str = ""
    region: str = ""
    db_instance_identifier: str = ""
    mlflow_version: str = ""
    remarks: tuple[str, ...] = ()
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
    if command.is_server and "artifacts-only" in command.options:
        return LEAST_SCORE
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
    best = min(SERVER_SCORE, max(item[0] for item in scored))
    leaders = [item for item in scored if item[0] >= best]
    if len(leaders) > 1:
        names = tuple(sorted(item[2]["metadata"]["name"] for item in leaders))
        return Discovery(
            problem=f"{len(names)} workloads in namespace {settings.namespace} look like a tracking server: "
            f"{', '.join(names)}; name one with mlflow_deployment",
            candidates=names,
        )
    kind, workload, commands = leaders[0][1:]
    return Discovery(target=describe(kind, workload, commands, evidence, settings))


def label_selector_matches(term: str, workload: Mapping[str, Any]) -> bool:
    key, dummy, value = term.partition("=")
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
    service, service_port, found["service"] = find_service(workload, port, evidence, settings)
    backend = find_backend(command, evidence, settings, found)
    artifacts = find_artifacts(command, settings, found)
    role_arn = find_role(pod_spec.get("serviceAccountName", "default"), evidence, settings, found)
    identifier = find_instance(backend, settings, found)
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
        secrets=sources_of(container, command, "Secret", "secretRef"),
        config_maps=sources_of(container, command, "ConfigMap", "configMapRef"),
        bucket=artifacts.bucket,
        artifact_prefix=artifacts.prefix,
        artifacts_proxied=artifacts.proxied,
        artifact_endpoint=artifacts.endpoint,
        service_account=pod_spec.get("serviceAccountName", "default"),
        role_arn=role_arn,
        role_name=role_arn.rsplit("/", 1)[-1] if role_arn else "",
        region=find_region(backend, command, settings, found),
        db_instance_identifier=identifier,
        mlflow_version=find_version(container.get("image", ""), evidence),
        remarks=remarks(backend, artifacts),
        found={name: where for name, where in found.items() if where},
    )


def sources_of(container: Mapping[str, Any], command: ServerCommand, kind: str, whole: str) -> tuple[str, ...]:
    """Return the Secrets or ConfigMaps that a container's environment comes from, by key or as a whole."""
    by_key = {item.name for item in command.references.values() if item.kind == kind}
    wholly = {source[whole]["name"] for source in container.get("envFrom") or [] if whole in source}
    return tuple(sorted(by_key | wholly))


def server_port(container: Mapping[str, Any], command: ServerCommand) -> int:
    text = command.setting("port")
    if text.isdigit():
        return int(text)
    ports = container.get("ports") or []
    return ports[0]["containerPort"] if ports and not command.is_server else DEFAULT_PORT


def find_version(image: str, evidence: EvidenceSet) -> str:
    running = evidence.value("probe.environment", default={}).get("mlflow_version")
    if running:
        return str(running)
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    match = VERSION.search(tag)
    return match[1] if match else ""
