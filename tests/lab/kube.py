# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster as its administrator: what the lab applies, reads, waits for and deletes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from kubernetes.stream import stream
from urllib3.exceptions import HTTPError

from tests.lab import settings
from tests.lab.settings import LabError

Object = dict[str, Any]
REQUEST_TIMEOUT = 20
FIELD_MANAGER = "lab"
MANIFESTS = Path(__file__).parent / "manifests"
NOT_YET = (ApiException, HTTPError, OSError, ResourceNotFoundError)
PATCH_TYPES = {
    "strategic": "application/strategic-merge-patch+json",
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
}


@lru_cache(maxsize=1)
def admin_client() -> client.ApiClient:
    """A client of the cluster's administrator."""
    path = settings.admin_kubeconfig()
    if not path.exists():
        raise LabError("the lab is not up: python -m tests.lab up")
    return config.new_client_from_config(str(path))


@lru_cache(maxsize=1)
def _dynamic() -> DynamicClient:
    return DynamicClient(admin_client(), cache_file=str(settings.state_dir() / "discovery.json"))


def _resource(api_version: str, kind: str) -> Any:
    return _dynamic().resources.get(api_version=api_version, kind=kind)


def manifest(name: str, **variables: object) -> list[Object]:
    """The objects of ``manifests/<name>`` (Jinja2, strict about unknown variables)."""
    template = jinja2.Template((MANIFESTS / name).read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
    return [document for document in yaml.safe_load_all(template.render(**variables)) if document]


def apply(objects: Iterable[Mapping[str, Any]]) -> None:
    """Server-side apply of ``objects``, in order; a namespace that is named and missing is an error."""
    for item in objects:
        metadata = item["metadata"]
        _resource(item["apiVersion"], item["kind"]).server_side_apply(
            body=dict(item),
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
            _request_timeout=REQUEST_TIMEOUT,
        )


def replace(item: Mapping[str, Any]) -> None:
    """Replace an object as a whole, whatever its resource version."""
    body = {**item, "metadata": {key: value for key, value in item["metadata"].items() if key != "resourceVersion"}}
    resource = _resource(item["apiVersion"], item["kind"])
    metadata = item["metadata"]
    resource.replace(
        body=body, name=metadata["name"], namespace=metadata.get("namespace"), _request_timeout=REQUEST_TIMEOUT
    )


def patch(
    api_version: str,
    kind: str,
    name: str,
    patch: Mapping[str, Any] | Sequence[Any],
    *,
    namespace: str | None = None,
    kind_of_patch: str = "strategic",
    field_manager: str | None = None,
) -> None:
    """Patch one object; ``kind_of_patch`` is ``strategic``, ``merge`` or ``json`` (a list of operations)."""
    _resource(api_version, kind).patch(
        body=patch,
        name=name,
        namespace=namespace,
        content_type=PATCH_TYPES[kind_of_patch],
        field_manager=field_manager,
        _request_timeout=REQUEST_TIMEOUT,
    )


def get(api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
    """One object, None when it does not exist."""
    try:
        found = _resource(api_version, kind).get(name=name, namespace=namespace, _request_timeout=REQUEST_TIMEOUT)
    except ApiException as error:
        if error.status == 404:
            return None
        raise
    return found.to_dict()


def list_objects(api_version: str, kind: str, namespace: str | None = None, selector: str = "") -> list[Object]:
    """All objects of a kind, of one namespace or of all, narrowed by a label selector."""
    found = _resource(api_version, kind).get(
        namespace=namespace, label_selector=selector, _request_timeout=REQUEST_TIMEOUT
    )
    return found.to_dict()["items"]


def delete(api_version: str, kind: str, name: str, namespace: str | None = None, wait: bool = True) -> None:
    """Delete an object, if it exists, and with ``wait`` wait up to 90 s until it is gone."""
    try:
        _resource(api_version, kind).delete(
            name=name,
            namespace=namespace,
            body={"propagationPolicy": "Foreground" if wait else "Background"},
            _request_timeout=REQUEST_TIMEOUT,
        )
    except ApiException as error:
        if error.status != 404:
            raise
    if wait:
        wait_until(lambda: get(api_version, kind, name, namespace) is None, f"{kind} {name} to be gone", 90)


def wait_until(condition: Callable[[], bool], what: str, timeout: float, interval: float = 0.2) -> None:
    """Wait until ``condition()`` is true; LabError that names ``what`` after ``timeout`` seconds.

    A server that does not answer counts as "not yet".
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            if condition():
                return
            problem = ""
        except NOT_YET as error:
            problem = f" ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s for {what}, in vain{problem}")
        time.sleep(interval)


def is_ready(item: Mapping[str, Any] | None) -> bool:
    """Whether an object is ready: a rolled out workload, a pod or node with Ready, an available APIService."""
    if item is None:
        return False
    status = item.get("status") or {}
    if item["kind"] in ("Deployment", "StatefulSet"):
        wanted = item["spec"].get("replicas", 1)
        counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")]
        return status.get("observedGeneration", 0) >= item["metadata"]["generation"] and counts == [wanted] * 3
    wanted_type = "Available" if item["kind"] == "APIService" else "Ready"
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions") or []}
    return conditions.get(wanted_type) == "True"


def wait_ready(kind: str, name: str, namespace: str | None = None, timeout: float = 120) -> None:
    """Wait until a Deployment, StatefulSet, Pod, Node or APIService is ready."""
    versions = {"Pod": "v1", "Node": "v1", "APIService": "apiregistration.k8s.io/v1"}
    version = versions.get(kind, "apps/v1")
    wait_until(lambda: is_ready(get(version, kind, name, namespace)), f"{kind} {name} to be ready", timeout)


def pod_log(
    namespace: str,
    pod: str,
    container: str | None = None,
    previous: bool = False,
    since_seconds: int | None = None,
    tail: int | None = None,
) -> str:
    """A pod's log; empty when the pod is gone, as one may be that was just listed."""
    options: dict[str, Any] = {"container": container, "since_seconds": since_seconds, "tail_lines": tail}
    try:
        response = client.CoreV1Api(admin_client()).read_namespaced_pod_log(
            pod,
            namespace,
            previous=previous,
            _request_timeout=REQUEST_TIMEOUT,
            _preload_content=False,  # the client would return the repr() of the bytes
            **{key: value for key, value in options.items() if value is not None},
        )
    except client.ApiException as error:
        if error.status == 404:
            return ""
        raise
    return response.data.decode("utf-8", errors="replace")


def exec(  # noqa: A001 - the name that everybody knows it by
    namespace: str, pod: str, argv: Sequence[str], container: str | None = None, timeout: float = 30
) -> str:
    """Run a command in a pod's container; returns what it wrote, LabError when it fails or takes too long."""
    # A client of its own: stream() replaces the client's request function for good when a call is interrupted.
    api = client.CoreV1Api(config.new_client_from_config(str(settings.admin_kubeconfig())))
    options = {"container": container} if container else {}
    session = stream(
        api.connect_get_namespaced_pod_exec, pod, namespace, command=list(argv), stdin=False, stdout=True,
        stderr=True, tty=False, _preload_content=False, _request_timeout=timeout, **options,
    )  # fmt: skip
    session.run_forever(timeout=timeout)
    if session.is_open():
        session.close()
        raise LabError(f"{argv[0]} in pod {namespace}/{pod} took longer than {timeout:g} s")
    code, output = session.returncode, session.read_all()  # in this order: read_all() forgets the status
    if code:
        raise LabError(f"{argv[0]} in pod {namespace}/{pod} failed ({code}): {output.strip()[-500:]}")
    return output
