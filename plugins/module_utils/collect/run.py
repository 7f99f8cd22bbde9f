# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One collection: what is asked, in which order, within one deadline."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ..clients.aws import CloudReader
from ..clients.calls import CallFailed, Deadline
from ..clients.kubernetes import ClusterReader
from ..core.client_uri import distinct
from ..core.discovery import Discovery, Target, discover
from ..core.discovery_service import services_named
from ..core.evidence import API, DEBUG_COPY, POD, EvidenceSet, State, source_place
from ..core.redaction import Redactor
from ..core.settings import Settings
from . import cloud_logs, logs, pod_specs, probe_spec
from .cloud import CloudCollector
from .cluster import ClusterCollector
from .objects import public_text, secret_names, template_secrets
from .probe_pods import ProbeRunner, probe_name
from .progress import Progress, Tell
from .threads import Clock, Job, Notebook, together

CHECK_MODE = "check mode enters and makes no pod"
SWITCHED_OFF = "mlflow_probe_pods is off"
MOST_ENTERED_PODS = 3
MOST_FOREIGN = 5


@dataclass(frozen=True)
class Collected:
    """What one collection found.

    Attributes:
        discovery: the server, as known after everything was read.
        evidence: all of it, redacted.
        secrets: every secret value that was met; kept in memory only, to check what is written.
        seconds: how long each part took.
        calls: calls by client, then by verb and resource.
        cluster: name of the cluster's connection.
    """

    discovery: Discovery
    evidence: EvidenceSet
    secrets: frozenset[str] = field(repr=False)
    seconds: dict[str, float]
    calls: dict[str, dict[str, int]]
    cluster: str

    @property
    def target(self) -> Target | None:
        return self.discovery.target


def say_nothing(line: str) -> None:
    """Keep quiet about what is waited for."""


def collect(settings: Settings, clock: Clock, tell: Tell = say_nothing, *, cloud_logs: bool = False) -> Collected:
    """Read everything about one server, and remove every pod that was made for it.

    Args:
        settings: where and what to look at.
        clock: returns the UTC time as ISO 8601 with ``Z``.
        tell: shows a line to a person when something takes long.
        cloud_logs: read CloudWatch Logs too, which no rule needs but a person may.
    """
    collection = Collection(settings, clock, Progress(tell), cloud_logs=cloud_logs)
    with collection.progress.running():
        return collection.run()


class Collection:
    """The state of one collection while it runs."""

    def __init__(
        self, settings: Settings, clock: Clock, progress: Progress | None = None, *, cloud_logs: bool = False
    ) -> None:
        self.settings = settings
        self.progress = progress or Progress(say_nothing)
        self.cloud_logs = cloud_logs
        self.notebook = Notebook(clock)
        self.deadline = Deadline(settings.timeout_seconds)
        self.evidence = EvidenceSet()
        self.discovery = Discovery()
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, dict[str, int]] = {}
        self.secrets: set[str] = set(filter(None, (settings.tracking_password, settings.tracking_token)))
        self.cluster = ""
        self._cloud_reader: CloudReader | None = None
        self._begun = time.monotonic()

    def run(self) -> Collected:
        try:
            reader = ClusterReader(self.settings.kubernetes, self.deadline)
        except CallFailed as failure:
            namespace = self.settings.namespace
            self.evidence.add(self.notebook.note("kubernetes.cluster", API, "", failure.observation))
            self.evidence.add(self.notebook.note("kubernetes.deployments", API, namespace, failure.observation))
            self.evidence.extend(together(self._cloud_jobs(), self.deadline))
            return self._collected()
        self.cluster = reader.cluster_name()
        self.secrets |= reader.secrets()
        runner = ProbeRunner(reader, self.notebook, self.settings.timeout_seconds)
        cluster = ClusterCollector(
            reader,
            self.notebook,
            self.settings.namespace,
            self.settings.source_namespaces,
            leases=self.settings.writing,
        )
        try:
            with self.progress.waiting_for(
                f"the API server of {self.cluster} to list namespace {self.settings.namespace}"
            ):
                self.evidence.extend(cluster.collect())
            self._mark("cluster")
            self._discover()
            if self.discovery.target is None:
                self.evidence.extend(together(self._cloud_jobs(), self.deadline))
            else:
                self._collect_server(self.discovery.target, reader, cluster, runner)
        finally:
            runner.remove_all(cluster.leftovers if self._pods_allowed() == "" else ())
        self.calls["kubernetes"] = reader.calls.as_json()
        self.secrets |= cluster.secret_values
        return self._collected()

    def _collect_server(
        self, target: Target, reader: ClusterReader, cluster: ClusterCollector, runner: ProbeRunner
    ) -> None:
        jobs: list[Job] = self._source_jobs(target, runner)
        workload = pod_specs.workload_of(self.evidence, target)
        self.evidence.extend(cluster.secrets(target.secrets, public_text(self.evidence), secret_names(workload)))
        self.evidence.extend(cluster.ingresses(self.evidence.objects("kubernetes.ingresses", target.namespace)))
        self.secrets |= cluster.secret_values | template_secrets(workload)
        self._discover()
        target = self.discovery.target or target
        pods = pod_specs.server_pods(self.evidence, target)
        read = logs.jobs(reader, self.notebook, target.namespace, pods)
        jobs += [self.progress.named("the logs of the server's pods", job) for job in read]
        jobs += self._server_jobs(target, pods, runner)
        host_known = bool(target.db_instance_identifier or target.backend.get("host"))
        jobs += self._cloud_jobs()
        self.evidence.extend(together(jobs, self.deadline))
        if self._died_while_entered():
            self.evidence.extend(together(self._copy_job(target, runner), self.deadline))
        if pod_specs.only_begun(self.evidence, target):
            self._look_again(target, reader, cluster)
        self._discover()
        if self.discovery.target is not None:
            self._collect_late(self.discovery.target, host_known=host_known)
        self._mark("probes")

    def _died_while_entered(self) -> bool:
        """Tell whether no pod that was entered lived long enough to answer; only a copy can then."""
        entered = self.evidence.all("probe.pod", POD)
        copied = self.evidence.first("probe.pod", DEBUG_COPY) is not None
        return bool(entered) and not copied and all(item.state is State.UNREACHABLE for item in entered)

    def _look_again(self, target: Target, reader: ClusterReader, cluster: ClusterCollector) -> None:
        """Read anew what became of pods that were only being made; once one is ready, the probes' answers are older."""
        again = self.evidence.renewed(cluster.workload())
        if min(pod_specs.ages(again, target), default=pod_specs.FIRST_SIGNS) < pod_specs.FIRST_SIGNS:
            time.sleep(self.deadline.left(pod_specs.FIRST_SIGNS.total_seconds()))
            again = self.evidence.renewed(cluster.workload())
        pods = pod_specs.server_pods(again, target)
        listed = again.first("kubernetes.pods", API, target.namespace)
        if listed is not None and listed.seen and not any(pod_specs.is_ready(pod) for pod in pods):
            read = logs.jobs(reader, self.notebook, target.namespace, pods)
            self.evidence = again.renewed(together(read, self.deadline))

    def _collect_late(self, target: Target, *, host_known: bool) -> None:
        """Read the RDS instance and the role whose names only the running pod could tell."""
        host = str(target.backend.get("host") or "")
        if not host_known and (target.db_instance_identifier or host):
            self.evidence.extend(self._cloud().database(target.db_instance_identifier, host))
        if target.role_arn and self.evidence.first("aws.role") is None:
            self.evidence.extend(self._cloud().role(target.role_arn))

    def _source_jobs(self, target: Target, runner: ProbeRunner) -> list[Job]:
        """Ask for the source pods now; what they measure is read while the rest is collected."""
        image = self.settings.probe_image or pod_specs.runnable_image(self.evidence, target)
        reason = self._pods_allowed() or (
            "" if image else f"no image with Python can be started, {target.image} cannot be pulled"
        )
        jobs: list[Job] = []
        for namespace in self._sources():
            place = source_place(namespace)
            why_not = reason or (f"namespace {namespace} does not exist" if self._is_absent(namespace) else "")
            if why_not:
                self.evidence.add(self.notebook.skip("probe.pod", place, "", why_not))
                continue
            client = pod_specs.live_client(self._client_pods(namespace), target)
            manifest = pod_specs.source_pod(namespace, client, image, probe_name(), runner.lifetime)
            made = runner.start(manifest)
            policies = self._policies_of_source(target, namespace)
            wanted = self._source_spec(target, namespace, client, settle=policies)
            what = f"a pod in namespace {namespace} to call MLflow, up to {wanted['seconds']:.0f} s"
            finish = partial(runner.finish, place, manifest, made, wanted, early=not policies)
            jobs.append(self.progress.named(what, finish))
        return jobs

    def _sources(self) -> list[str]:
        """Return the clients' namespaces; when none of them exists, the server's own stands for its clients."""
        named = list(self.settings.source_namespaces)
        return named if not all(self._is_absent(name) for name in named) else [*named, self.settings.namespace]

    def _namespaces(self) -> set[str]:
        """Return the names of all namespaces; none when they could not all be listed."""
        listed = self.evidence.first("kubernetes.namespaces", API)
        if listed is None or not listed.conclusive or not listed.seen:
            return set()
        return {item["metadata"]["name"] for item in listed.value["items"]}

    def _is_absent(self, namespace: str) -> bool:
        names = self._namespaces()
        return bool(names) and namespace not in names

    def _client_pods(self, namespace: str) -> list[dict[str, Any]]:
        seen = self.evidence.value("kubernetes.pods", API, namespace)
        return seen["items"] if seen and namespace != self.settings.namespace else []

    def _policies_of_source(self, target: Target, namespace: str) -> bool:
        """Tell whether network policies may judge a source's way to the server, and so have to reach its pod first."""
        ingress = probe_spec.policies_on_the_way(self.evidence, target.namespace, "Ingress")
        return bool(ingress or probe_spec.policies_on_the_way(self.evidence, namespace, "Egress"))

    def _source_spec(
        self, target: Target, namespace: str, client: Mapping[str, Any] | None, *, settle: bool
    ) -> dict[str, Any]:
        pods = pod_specs.server_pods(self.evidence, target)
        addresses = [pod["status"]["podIP"] for pod in pods if pod_specs.is_ready(pod)]
        entered, _dummy = pod_specs.enterable(pods, target, self.evidence)
        return probe_spec.source_spec(
            target,
            self.settings,
            client,
            addresses,
            self.deadline.left(),
            [*pod_specs.foreign_endpoints(self.evidence, target)[:MOST_FOREIGN], *self._lost_names(target, namespace)],
            through=pod_specs.behind_the_service(self.evidence, target),
            settle_seconds=probe_spec.POLICY_SETTLE_SECONDS if settle else 0.0,
            patient=not entered,
            uris=distinct(self._client_pods(namespace), target, self._namespaces()),
        )

    def _lost_names(self, target: Target, namespace: str) -> list[tuple[str, int]]:
        """Return the Services that live clients name and that are not there, with the port that they use."""
        known = {
            item["metadata"]["name"]
            for item in self.evidence.objects("kubernetes.services", target.namespace)
            if item["spec"].get("type") != "ExternalName"
        }
        named = {name for pod in self._client_pods(namespace) for name in services_named(pod, target.namespace)}
        domain = f"{target.namespace}.svc.cluster.local"
        return [(f"{name}.{domain}", target.service_port or target.port) for name in sorted(named - known)]

    def _server_jobs(self, target: Target, pods: list[dict[str, Any]], runner: ProbeRunner) -> list[Job]:
        """Enter the pods that may be entered, and make a copy where none may or where theirs is old news."""
        reason = self._pods_allowed()
        if reason:
            self.evidence.add(self.notebook.skip("probe.pod", POD, "", reason))
            self.evidence.add(self.notebook.skip("probe.pod", DEBUG_COPY, "", reason))
            return []
        entered, problems = pod_specs.enterable(pods, target, self.evidence)
        jobs: list[Job] = []
        for index, pod in enumerate(entered[:MOST_ENTERED_PODS]):
            wanted = self._server_spec(target, serving=True, dependencies=index == 0)
            name = pod["metadata"]["name"]
            enter = partial(runner.enter, target.namespace, name, target.container, wanted)
            jobs.append(self.progress.named(tried_from(f"pod {name}", wanted), enter))
        why_not = "" if entered else "; ".join(problems) or "no container of the server runs"
        if why_not:
            self.evidence.add(self.notebook.skip("probe.pod", POD, "", why_not))
        proof = "a new pod has to be known to live" if self.settings.prove_new_pod else ""
        why_copy = why_not or pod_specs.changed_since(entered, target, self.evidence) or proof
        return jobs + (self._copy_job(target, runner) if why_copy else [])

    def _copy_job(self, target: Target, runner: ProbeRunner) -> list[Job]:
        image = pod_specs.runnable_image(self.evidence, target)
        unready = pod_specs.publishes_unready(self.evidence, target)
        if unready or not image:
            reason = (
                f"service/{unready} publishes pods that are not ready"
                if unready
                else f"{target.image} cannot be pulled"
            )
            self.evidence.add(self.notebook.skip("probe.pod", DEBUG_COPY, "", reason))
            return []
        workload = pod_specs.workload_of(self.evidence, target)
        manifest = pod_specs.debug_copy(workload, target, probe_name(), image, runner.lifetime)
        policies = probe_spec.policies_on_the_way(self.evidence, target.namespace, "Egress")
        settle = probe_spec.POLICY_SETTLE_SECONDS if policies else 0.0
        wanted = self._server_spec(target, serving=False, dependencies=True, settle_seconds=settle)
        return [
            self.progress.named(
                tried_from("a copy of the server's pod", wanted), partial(runner.copy, manifest, wanted)
            )
        ]

    def _server_spec(
        self, target: Target, *, serving: bool, dependencies: bool, settle_seconds: float = 0.0
    ) -> dict[str, Any]:
        return probe_spec.server_spec(
            target,
            self.settings,
            pod_specs.workload_of(self.evidence, target),
            self.secrets,
            self.deadline.left(),
            serving=serving,
            dependencies=dependencies,
            settle_seconds=settle_seconds,
            hosts=probe_spec.ingress_hosts(self.evidence, target) if dependencies else (),
        )

    def _cloud(self) -> CloudCollector:
        if self._cloud_reader is None:
            target = self.discovery.target
            self._cloud_reader = CloudReader(self.settings.aws, self.deadline, target.region if target else "")
            self.secrets |= self._cloud_reader.secrets()
        return CloudCollector(self._cloud_reader, self.notebook, addresses_of(self.evidence, self.settings.namespace))

    def _cloud_jobs(self) -> list[Job]:
        """Ask AWS for what is named; without a server only the settings can name anything."""
        target = self.discovery.target
        identifier = target.db_instance_identifier if target else self.settings.db_instance_identifier
        host = str(target.backend.get("host") or "") if target else ""
        bucket = target.bucket if target else self.settings.artifact_bucket
        bucket = "" if target and target.artifact_endpoint else bucket
        jobs = self._cloud().jobs(identifier, host, target.role_arn if target else "", bucket)
        if self.cloud_logs and self._cloud_reader is not None:
            pods = pod_specs.server_pods(self.evidence, target) if target else []
            jobs += cloud_logs.jobs(self._cloud_reader, self.notebook, identifier, self.cluster, pods)
        return [self.progress.named("AWS to describe what the server depends on", job) for job in jobs]

    def _pods_allowed(self) -> str:
        """Return why no pod may be made or entered; empty when it may."""
        if self.settings.check_mode:
            return CHECK_MODE
        return "" if self.settings.probe_pods else SWITCHED_OFF

    def _discover(self) -> None:
        self.discovery = discover(self.evidence, self.settings)

    def _mark(self, part: str) -> None:
        now = time.monotonic()
        self.seconds[part] = round(now - self._begun - sum(self.seconds.values()), 3)

    def _collected(self) -> Collected:
        redactor = Redactor(self.secrets)
        clean = EvidenceSet(
            [
                replace(item, value=redactor.data(item.value), detail=redactor.text(item.detail))
                for item in self.evidence
            ]
        )
        if self._cloud_reader is not None:
            self.calls["aws"] = self._cloud_reader.calls.as_json()
        self.seconds["collect"] = round(time.monotonic() - self._begun, 3)
        return Collected(
            discovery=discover(clean, self.settings),
            evidence=clean,
            secrets=frozenset(self.secrets),
            seconds=self.seconds,
            calls=self.calls,
            cluster=self.cluster,
        )


def tried_from(place: str, wanted: Mapping[str, Any]) -> str:
    """Say what a probe of the server's own dependencies tries, and how long at most."""
    return f"{place} to connect to its database and list its bucket, up to {wanted['seconds']:.0f} s"


def addresses_of(evidence: EvidenceSet, namespace: str) -> list[str]:
    """Return the internal addresses of the nodes and of the namespace's pods."""
    nodes = [
        row["address"]
        for node in evidence.objects("kubernetes.nodes")
        for row in node["status"].get("addresses") or []
        if row["type"] == "InternalIP"
    ]
    pods = [pod["status"].get("podIP", "") for pod in evidence.objects("kubernetes.pods", namespace)]
    return [address for address in [*nodes, *pods] if address]
