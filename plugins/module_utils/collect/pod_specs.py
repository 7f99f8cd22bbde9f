# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pods may be entered, which copies are needed, and what those copies look like."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from ..core.discovery import Target
from ..core.discovery_service import matches, ready_endpoints
from ..core.evidence import API, EvidenceSet, State
from ..core.findings import parse_time
from ..core.quantity import byte_count
from .objects import PROBE_LABEL, TRACKING_URI

Object = Mapping[str, Any]

ROLE_VARIABLE = "AWS_ROLE_ARN"
NEVER_READY = "mlflow-runbook.mlops/never"
"""A readiness gate that nobody sets keeps a pod out of every endpoint list; the API refuses underscores in it."""
MEMORY_MARGIN_BYTES = 150 * 1024 * 1024
LIFETIME_MARGIN_SECONDS = 30
FIRST_SIGNS = timedelta(seconds=5)
"""Within which the kubelet says why a container cannot be made, past an init container too (lab, Kubernetes 1.34)."""
TIME_TO_SHOW = timedelta(seconds=30)
"""Past the kubelet's first retries: it waits 10 s, then 20 s (Kubernetes documentation, container restart policy)."""
PULL_FAILURES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
START_FAILURES = PULL_FAILURES | {
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
}
OWNERS = frozenset({"ReplicaSet", "StatefulSet"})
CONTROLLER_LABELS = re.compile(
    r"^(pod-template-hash|controller-revision-hash|controller-uid|job-name|pod-template-generation"
    r"|statefulset\.kubernetes\.io/.*|apps\.kubernetes\.io/.*|batch\.kubernetes\.io/.*|workflows\.argoproj\.io/.*)$"
)
"""Labels by which controllers recognise their own pods; a copy must not carry them."""
INJECTION = re.compile(r"inject|istio\.io/|linkerd\.io/")


def owned_pods(evidence: EvidenceSet, target: Target) -> list[dict[str, Any]]:
    """Return the server's pods, with those that are being deleted; others may carry the same labels."""
    sets = {
        item["metadata"]["name"]
        for item in evidence.objects("kubernetes.replicasets", target.namespace)
        if any(owner["name"] == target.deployment for owner in item["metadata"].get("ownerReferences") or [])
    }
    return [
        pod
        for pod in evidence.objects("kubernetes.pods", target.namespace)
        if pod["metadata"].get("namespace") == target.namespace
        and matches(target.selector, pod["metadata"].get("labels") or {})
        and any(
            owner["kind"] in OWNERS and (not sets or owner["name"] in sets)
            for owner in pod["metadata"].get("ownerReferences") or []
        )
    ]


def server_pods(evidence: EvidenceSet, target: Target) -> list[dict[str, Any]]:
    """Return the server's pods that are not being deleted, ready ones first."""
    pods = [pod for pod in owned_pods(evidence, target) if not pod["metadata"].get("deletionTimestamp")]
    return sorted(pods, key=lambda pod: not is_ready(pod))


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def ages(evidence: EvidenceSet, target: Target) -> list[timedelta]:
    """Return how old each of the server's pods was when they were listed; one awaits the end of the last."""
    listed = evidence.first("kubernetes.pods", API, target.namespace)
    pods = server_pods(evidence, target)
    if not pods and owned_pods(evidence, target):
        return [timedelta()]
    return [parse_time(listed.at) - parse_time(item["metadata"]["creationTimestamp"]) for item in pods if listed]


def only_begun(evidence: EvidenceSet, target: Target) -> bool:
    """Tell whether the server has no pod yet that had the time to show what is wrong with it."""
    listed = evidence.value("kubernetes.pods", API, target.namespace)
    wanted = (workload_of(evidence, target).get("spec") or {}).get("replicas", 1)
    ready = any(is_ready(item) for item in server_pods(evidence, target))
    return bool(listed and wanted) and not ready and all(age < TIME_TO_SHOW for age in ages(evidence, target))


def container_state(pod: Object, name: str) -> dict[str, Any]:
    """Return a container's current state; empty when the kubelet has not reported any."""
    for item in (pod.get("status") or {}).get("containerStatuses") or []:
        if item["name"] == name:
            return dict(item.get("state") or {})
    return {}


def workload_of(evidence: EvidenceSet, target: Target) -> dict[str, Any]:
    what = "kubernetes.statefulsets" if target.kind == "StatefulSet" else "kubernetes.deployments"
    return next(
        item for item in evidence.objects(what, target.namespace) if item["metadata"]["name"] == target.deployment
    )


def exec_problem(pod: Object, container: str, evidence: EvidenceSet) -> str:
    """Say why a further process in this container could do harm; empty when it cannot."""
    spec: Object = next((item for item in pod["spec"]["containers"] if item["name"] == container), {})
    limit = byte_count(((spec.get("resources") or {}).get("limits") or {}).get("memory"))
    if limit is None:
        return ""
    for item in evidence.objects("kubernetes.pod_metrics", pod["metadata"]["namespace"]):
        for usage in item.get("containers") or [] if item["metadata"]["name"] == pod["metadata"]["name"] else []:
            used = byte_count(usage["usage"].get("memory")) if usage["name"] == container else None
            if used is not None and used + MEMORY_MARGIN_BYTES <= limit:
                return ""
            if used is not None:
                return f"{pod['metadata']['name']} uses {used >> 20} of {limit >> 20} MiB"
    return f"the memory use of {pod['metadata']['name']} is unknown"


def enterable(
    pods: Iterable[dict[str, Any]], target: Target, evidence: EvidenceSet
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the pods that the probe may enter, and why it may not enter the others that run."""
    entered, problems = [], []
    for item in pods:
        if "running" in container_state(item, target.container):
            problem = exec_problem(item, target.container, evidence)
            if problem:
                problems.append(problem)
            else:
                entered.append(item)
    return entered, problems


def changed_since(pods: Iterable[Object], target: Target, evidence: EvidenceSet) -> str:
    """Say which Secret, ConfigMap or ServiceAccount changed, or may have, after a container started; empty if none."""
    known = list(pods)
    started = [container_state(pod, target.container).get("running", {}).get("startedAt", "") for pod in known]
    oldest = min((moment for moment in started if moment), default="")
    sources = [
        ("secret", "kubernetes.secrets", target.secrets),
        ("configmap", "kubernetes.configmaps", target.config_maps),
        ("serviceaccount", "kubernetes.serviceaccounts", (target.service_account,)),
    ]
    for kind, what, names in sources:
        for item in evidence.objects(what):
            metadata = item["metadata"]
            changes = [row["time"] for row in metadata.get("lastChanged") or []] + [
                metadata.get("creationTimestamp", "")
            ]
            if oldest and metadata["name"] in names and max(changes) > oldest:
                return f"{kind}/{metadata['name']} changed after the server started"
    hidden = [item for item in evidence.all("kubernetes.secrets") if item.state is State.FORBIDDEN]
    if target.secrets and hidden:
        return f"secret/{target.secrets[0]} may have changed after the server started: {hidden[0].detail}"
    return another_role(known, target, evidence)


def another_role(pods: Iterable[Object], target: Target, evidence: EvidenceSet) -> str:
    """Say that pods were given another AWS role than a new one would get; an annotation's removal leaves no date."""
    template = workload_of(evidence, target)["spec"]["template"]
    if variable(template, target.container, ROLE_VARIABLE):
        return ""
    given = {variable(pod, target.container, ROLE_VARIABLE) for pod in pods}
    if given - {target.role_arn}:
        return f"serviceaccount/{target.service_account} names another role than the server was started with"
    return ""


def variable(pod: Object, container: str, name: str) -> str:
    """Return a literal environment variable of a container; empty when it has none."""
    for item in pod["spec"]["containers"]:
        for entry in item.get("env") or []:
            if item["name"] == container and entry["name"] == name:
                return str(entry.get("value") or "")
    return ""


def failing_images(pods: Iterable[Object]) -> set[str]:
    """Return the images that the kubelet cannot get."""
    found = set()
    for pod in pods:
        images = {item["name"]: item.get("image", "") for item in pod["spec"]["containers"]}
        for name, image in images.items():
            if (container_state(pod, name).get("waiting") or {}).get("reason") in PULL_FAILURES:
                found.add(image)
    return found


def runnable_image(evidence: EvidenceSet, target: Target) -> str:
    """Return the server's image, or its newest earlier one that can still be started; empty when there is none."""
    pods = server_pods(evidence, target)
    failing = failing_images(pods)
    if target.image not in failing:
        return target.image
    stored = {name for node in evidence.objects("kubernetes.nodes") for name in node["status"].get("images") or []}
    sets = sorted(
        evidence.objects("kubernetes.replicasets", target.namespace),
        key=lambda item: item["metadata"].get("creationTimestamp", ""),
        reverse=True,
    )
    for item in sets:
        if not any(owner["name"] == target.deployment for owner in item["metadata"].get("ownerReferences") or []):
            continue
        for container in item["spec"]["template"]["spec"]["containers"]:
            if container["name"] == target.container and container["image"] in stored - failing:
                return str(container["image"])
    return ""


def addresses_behind(evidence: EvidenceSet, target: Target) -> list[tuple[str, int | None]]:
    """Return address and port of the Service's ready endpoints."""
    return [
        (address, port.get("port"))
        for endpoint, ports in ready_endpoints(evidence, target.namespace, target.service)
        for address in endpoint.get("addresses") or []
        for port in ports
    ]


def foreign_endpoints(evidence: EvidenceSet, target: Target) -> list[tuple[str, int]]:
    """Return address and port of the Service's ready endpoints that are none of the server's pods."""
    own = {(pod.get("status") or {}).get("podIP") for pod in server_pods(evidence, target)}
    return [(address, port) for address, port in addresses_behind(evidence, target) if address not in own and port]


def behind_the_service(evidence: EvidenceSet, target: Target) -> list[str] | None:
    """Return the addresses of the Service's ready endpoints, ``None`` when they could not be seen."""
    seen = evidence.first("kubernetes.endpointslices", API, target.namespace)
    if seen is None or not (seen.conclusive and seen.seen):
        return None
    return sorted({address for address, _port in addresses_behind(evidence, target)})


def publishes_unready(evidence: EvidenceSet, target: Target) -> str:
    """Name a Service that would send traffic to a pod that is not ready."""
    labels = target.selector
    for item in evidence.objects("kubernetes.services", target.namespace):
        spec = item["spec"]
        if spec.get("publishNotReadyAddresses") and set((spec.get("selector") or {}).items()) & set(labels.items()):
            return str(item["metadata"]["name"])
    return ""


def sleep_command(seconds: int) -> list[str]:
    return ["python3", "-c", f"import time; time.sleep({seconds})"]


def pod(
    namespace: str, name: str, kind: str, labels: Object, annotations: Object, spec: dict[str, Any]
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**labels, PROBE_LABEL: kind},
            "annotations": dict(annotations),
        },
        "spec": {
            **spec,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "readinessGates": [{"conditionType": NEVER_READY}],
        },
    }


def debug_copy(workload: Object, target: Target, name: str, image: str, seconds: int) -> dict[str, Any]:
    """Build a copy of the server's pod that does nothing and gets no traffic.

    Args:
        workload: the Deployment or StatefulSet.
        target: the server.
        name: name of the new pod.
        image: image to start.
        seconds: life time.

    Returns:
        A pod with the same environment, volumes (without claims), service account and labels, without init containers,
        side-cars, probes and hooks.
    """
    template = copy.deepcopy(dict(workload["spec"]["template"]))
    spec = template["spec"]
    container = next(item for item in spec["containers"] if item["name"] == target.container)
    for key in ("args", "ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
        container.pop(key, None)
    volumes = [item for item in spec.get("volumes") or [] if not {"persistentVolumeClaim", "ephemeral"} & set(item)]
    left = {item["name"] for item in volumes}
    mounts = [item for item in container.get("volumeMounts") or [] if item["name"] in left]
    container |= {"image": image, "command": sleep_command(seconds), "volumeMounts": mounts}
    for key in ("initContainers", "topologySpreadConstraints", "readinessGates"):
        spec.pop(key, None)
    (spec.get("affinity") or {}).pop("podAntiAffinity", None)
    spec |= {"containers": [container], "volumes": volumes, "activeDeadlineSeconds": seconds}
    metadata = template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if not CONTROLLER_LABELS.match(key)}
    return pod(target.namespace, name, "debug-copy", labels, metadata.get("annotations") or {}, spec)


def live_client(pods: Iterable[Object], target: Target) -> dict[str, Any] | None:
    """Choose the pod whose way to the server is measured: one that is configured for this server, else any client's."""
    named, others = [], []
    for item in pods:
        owners = {owner["kind"] for owner in item["metadata"].get("ownerReferences") or []}
        bare_set = "ReplicaSet" in owners and "pod-template-hash" not in (item["metadata"].get("labels") or {})
        if owners & {"DaemonSet", "ReplicationController"} or bare_set or item["spec"].get("hostNetwork"):
            continue  # their controllers would adopt a copy of the labels
        uris = [
            str(entry.get("value", ""))
            for row in item["spec"]["containers"]
            for entry in row["env"]
            if entry["name"] == TRACKING_URI
        ]
        if target.service and any(f"//{target.service}.{target.namespace}" in uri for uri in uris):
            named.append(dict(item))
        elif uris:
            others.append(dict(item))
    return next(iter([*named, *others]), None)


def source_pod(namespace: str, client: Object | None, image: str, name: str, seconds: int) -> dict[str, Any]:
    """Build a pod that stands for a client.

    Args:
        namespace: the clients' namespace.
        client: a live client whose labels, service account and injection it takes over.
        image: an image with Python.
        name: name of the new pod.
        seconds: life time.
    """
    metadata = client["metadata"] if client else {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if not CONTROLLER_LABELS.match(key)}
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if INJECTION.search(key)}
    container = {
        "name": "probe",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": sleep_command(seconds),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec = {
        "containers": [container],
        "serviceAccountName": client["spec"]["serviceAccountName"] if client else "default",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "activeDeadlineSeconds": seconds,
    }
    return pod(namespace, name, "source", labels, annotations, spec)


def start_of(pod_now: Object) -> tuple[bool, str]:
    """Tell whether a probe pod's fate is decided, and what keeps it from running (empty when it runs)."""
    status = pod_now.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return True, f"Unschedulable: {condition.get('message', '')}"
    for item in status.get("containerStatuses") or []:
        state = item.get("state") or {}
        reason = (state.get("waiting") or {}).get("reason", "")
        if reason in START_FAILURES:
            return True, f"{reason}: {(state['waiting'].get('message') or '')[:300]}"
        if "terminated" in state:
            return True, f"ended with exit code {state['terminated'].get('exitCode')}"
        if "running" in state and item["name"] == pod_now["spec"]["containers"][0]["name"]:
            return True, ""
    if status.get("phase") in ("Failed", "Succeeded"):
        return True, f"{status.get('reason') or status['phase']}: {status.get('message', '')}"
    return False, "not started yet"


def image_id_of(pod_now: Object) -> str:
    """Return the digest of the image of a pod's first container; empty while it is not known."""
    name = pod_now["spec"]["containers"][0]["name"]
    statuses = (pod_now.get("status") or {}).get("containerStatuses") or []
    return next((str(item.get("imageID") or "") for item in statuses if item["name"] == name), "")
