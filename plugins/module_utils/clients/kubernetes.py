# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes API as plain JSON, each answer with what became of our look."""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.evidence import State
from .calls import CallCounter, CallFailed, Deadline, Observation

try:
    import kubernetes.client
    import kubernetes.config
    import kubernetes.stream
    import urllib3
    from ansible_collections.kubernetes.core.plugins.module_utils.k8s import client as core_client

    MISSING = ""
except ImportError as error:
    MISSING = f"the Python library kubernetes and the collection kubernetes.core are needed: {error}"

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
CLEANUP_SECONDS = 5.0
"""What we made is removed even when no time is left for anything else."""
LIST_LIMIT = 1000
LOG_BYTES = 512 * 1024
CONNECTIONS = 16
ERROR_CHANNEL = 3
DENIED = re.compile(
    r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"(?:.*? in the namespace "(?P<namespace>[^"]+)")?'
)
HANDSHAKE = re.compile(r"Handshake status (?P<status>\d+)")


def right(verb: str, resource: str, namespace: str = "") -> str:
    """Name a permission the way that evidence does, such as ``list pods in namespace mlflow``."""
    return f"{verb} {resource}" + (f" in namespace {namespace}" if namespace else "")


def message_of(body: str) -> str:
    """Return the message of a ``Status`` object, or the beginning of any other answer."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(body.split())[:300]


def translate(status: int, body: str, verb: str, resource: str, namespace: str = "") -> Observation:
    """Say what an HTTP error of the API server means for our look.

    Args:
        status: HTTP status code.
        body: text of the answer.
        verb: what was asked, such as ``list``.
        resource: plural name, with a subresource after a slash.
        namespace: empty for cluster-scoped resources.
    """
    message = message_of(body)
    if status == 404:
        return Observation(State.ABSENT, detail=message)
    if status == 401:
        return Observation(State.UNREACHABLE, detail="the API server does not accept our credentials (401)")
    denied = DENIED.search(message)
    if status == 403 and denied:
        named = resource if resource.startswith(denied["resource"] + ".") else denied["resource"]
        return Observation(State.FORBIDDEN, detail=right(denied["verb"], named, denied["namespace"] or ""))
    if status == 403 and verb != "create":
        return Observation(State.FORBIDDEN, detail=right(verb, resource, namespace))
    return Observation(State.UNREACHABLE, detail=f"{right(verb, resource, namespace)}: {status} {message}")


def translate_exception(failure: Exception) -> str:
    """Return a short reason for a call that got no answer at all."""
    text = str(failure)
    for pattern, reason in (
        (r"timed out", "timed out"),
        (r"Connection refused", "connection refused"),
        (r"Name or service not known|Temporary failure in name resolution|Failed to resolve", "name does not resolve"),
        (r"CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
        (r"No route to host|Network is unreachable", "no route to it"),
        (r"Connection reset|RemoteDisconnected|Connection aborted", "connection was reset"),
    ):
        if re.search(pattern, text):
            return f"API server: {reason}"
    return f"API server: {type(failure).__name__}: {' '.join(text.split())[:200]}"


class ClusterReader:
    """Reads one cluster, and makes, enters and removes probe pods.

    Safe to use from several threads. Every call has its own time-out and none outlives the deadline.

    Args:
        options: kubernetes.core's own connection options; its environment variables fill the others.
        deadline: the end of everything.

    Raises:
        CallFailed: the library is missing or the options lead to no usable configuration.
    """

    def __init__(self, options: Mapping[str, Any], deadline: Deadline) -> None:
        if MISSING:
            raise CallFailed(Observation(State.UNREACHABLE, detail=MISSING))
        self.deadline = deadline
        self.calls = CallCounter()
        self._options = {**options}
        if "validate_certs" in options:
            self._options["validate_certs"] = str(options["validate_certs"]).lower() not in ("false", "no", "off", "0")
        try:
            # get_api_client would do as much and then ask the server for its version without any time-out.
            self.configuration = core_client._create_configuration(core_client._create_auth_spec(None, **self._options))
        except Exception as failure:  # a kubeconfig can be wrong in as many ways as there are loaders
            detail = f"no usable connection options: {' '.join(str(failure).split())[:200]}"
            raise CallFailed(Observation(State.UNREACHABLE, detail=detail)) from failure
        self.configuration.retries = urllib3.Retry(total=1, connect=1, read=0, redirect=0, status=0, other=0)
        self.configuration.connection_pool_maxsize = CONNECTIONS
        self._client = kubernetes.client.ApiClient(self.configuration)

    def context_name(self) -> str:
        """Return the name of the kubeconfig's context; empty where there is none."""
        chosen = self._options.get("context")
        if not chosen and not self._options.get("host"):
            try:
                path = self._options.get("kubeconfig") or os.environ.get("K8S_AUTH_KUBECONFIG") or None
                chosen = kubernetes.config.list_kube_config_contexts(path)[1]["name"]
            except (kubernetes.config.ConfigException, OSError, KeyError, TypeError):
                chosen = ""
        return str(chosen or "")

    def cluster_name(self) -> str:
        """Return the name of the kubeconfig's context, or the API server's host where there is none."""
        return self.context_name() or str(urllib.parse.urlsplit(self.configuration.host).hostname or "")

    def secrets(self) -> set[str]:
        """Return the credentials that these options hold."""
        tokens = [str(value).rpartition(" ")[2] for value in (self.configuration.api_key or {}).values()]
        return {value for value in (*tokens, self.configuration.password) if value}

    def list(
        self, path: str, resource: str, namespace: str = "", query: Mapping[str, Any] | None = None
    ) -> Observation:
        """List objects.

        Args:
            path: path of the collection, such as ``/api/v1/namespaces/mlflow/pods``.
            resource: plural name, for counting and for the name of a missing right.
            namespace: the namespace in ``path``.
            query: selectors.

        Returns:
            ``{"items": [...]}``; partial when there are more objects than one page holds.
        """
        answer = self._json("GET", path, "list", resource, namespace, {"limit": LIST_LIMIT, **(query or {})})
        if not answer.seen:
            return answer
        value = {"items": answer.value.get("items") or []}
        if (answer.value.get("metadata") or {}).get("continue"):
            return Observation(State.PARTIAL, value, f"more than {LIST_LIMIT} {resource}")
        return Observation(State.OK, value)

    def get(self, path: str, resource: str, namespace: str = "") -> Observation:
        """Read one object or one non-resource path."""
        return self._json("GET", path, "get", resource, namespace)

    def create(self, path: str, resource: str, namespace: str, body: Mapping[str, Any]) -> Observation:
        return self._json("POST", path, "create", resource, namespace, body=body)

    def update(self, path: str, resource: str, namespace: str, body: Mapping[str, Any]) -> Observation:
        """Replace an object; its resourceVersion must still be the one in ``body``."""
        return self._json("PUT", path, "update", resource, namespace, body=body)

    def patch(self, path: str, resource: str, namespace: str, operations: Sequence[Mapping[str, Any]]) -> Observation:
        """Change an object by a JSON patch (RFC 6902); a failed test in it changes nothing."""
        return self._json("PATCH", path, "patch", resource, namespace, body=operations)

    def delete(self, path: str, resource: str, namespace: str) -> Observation:
        """Remove an object, and then in the background what it owns."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        return self._json("DELETE", path, "delete", resource, namespace, body=body)

    def create_pod(self, namespace: str, pod: Mapping[str, Any]) -> Observation:
        return self._json("POST", f"/api/v1/namespaces/{namespace}/pods", "create", "pods", namespace, body=pod)

    def delete_pod(self, namespace: str, name: str) -> Observation:
        """Remove a pod at once."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        return self._json("DELETE", path, "delete", "pods", namespace, body=body)

    def pod_log(
        self, namespace: str, pod: str, container: str, *, previous: bool = False, lines: int = 400
    ) -> Observation:
        """Read the end of a container's log as text with a time before each line."""
        query = {"container": container, "timestamps": "true", "tailLines": lines, "limitBytes": LOG_BYTES}
        if previous:
            query["previous"] = "true"
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        try:
            body = self._request("GET", path, "get", "pods/log", namespace, query).data
        except CallFailed as failure:
            waiting = "400 " in failure.observation.detail
            return Observation(State.ABSENT, detail=failure.observation.detail) if waiting else failure.observation
        return Observation(State.OK, body.decode("utf-8", "replace"))

    def watch_pod(self, namespace: str, name: str, seconds: float) -> Iterator[dict[str, Any]]:
        """Yield a pod as it is now and after each change.

        Raises:
            CallFailed: the watch could not be opened or broke.
        """
        limit = self.deadline.left(seconds)
        query = {"watch": "true", "fieldSelector": f"metadata.name={name}", "timeoutSeconds": max(1, int(limit))}
        path = f"/api/v1/namespaces/{namespace}/pods"
        response = self._request("GET", path, "watch", "pods", namespace, query, stream=True, read_seconds=limit + 1)
        rest = b""
        try:
            for chunk in response.stream(amt=None):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event.get("type") in ("ADDED", "MODIFIED"):
                        yield event["object"]
        except (urllib3.exceptions.HTTPError, ValueError) as failure:
            raise CallFailed(Observation(State.UNREACHABLE, detail=translate_exception(failure))) from failure
        finally:
            response.close()

    def exec_python(
        self, namespace: str, pod: str, container: str, program: str, document: str, seconds: float
    ) -> Observation:
        """Run a Python program in a container.

        Args:
            program: source for ``python3 -c``; it must hold no secret, for it shows in the process list.
            document: what the program reads from standard input; its length in bytes is the program's one argument.
            seconds: when to give up.

        Returns:
            ``{"out": text, "error": text, "problem": text}``; ``problem`` is empty when the program ended well.
        """
        self.calls.count("create pods/exec")
        limit = self.deadline.left(seconds)
        length = len(document.encode())
        api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(self.configuration))
        try:
            socket = kubernetes.stream.stream(
                api.connect_get_namespaced_pod_exec,
                pod,
                namespace,
                container=container,
                command=["python3", "-c", program, str(length)],
                stdin=True,
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
            )
        except Exception as failure:  # the library wraps whatever the websocket raised, or fails while it does
            return self._exec_failure(failure, namespace)
        try:
            socket.write_stdin(document)
            socket.run_forever(timeout=limit)
            if socket.is_open():
                return Observation(State.UNREACHABLE, detail=f"exec in {pod}: no answer within {limit:.0f} s")
            ending = json.loads(socket.read_channel(ERROR_CHANNEL) or "{}")
            out, error = socket.read_stdout(timeout=0), socket.read_stderr(timeout=0)
            problem = (
                "" if ending.get("status") == "Success" else str(ending.get("message") or "connection ended early")
            )
            return Observation(State.OK, {"out": out, "error": error, "problem": problem})
        except Exception as failure:
            return Observation(State.UNREACHABLE, detail=f"exec in {pod}: {translate_exception(failure)}")
        finally:
            socket.close()

    @staticmethod
    def _exec_failure(failure: Exception, namespace: str) -> Observation:
        # the library may trip over the refusal that it was about to report
        chain = [failure, *(item for item in (failure.__context__, failure.__cause__) if item)]
        text = " ".join(str(getattr(item, "reason", "") or item) for item in chain)
        handshake = HANDSHAKE.search(text)
        if handshake:
            return translate(int(handshake["status"]), text, "get", "pods/exec", namespace)
        return Observation(State.UNREACHABLE, detail=translate_exception(failure))

    def _json(
        self,
        method: str,
        path: str,
        verb: str,
        resource: str,
        namespace: str = "",
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Observation:
        try:
            return Observation(
                State.OK, json.loads(self._request(method, path, verb, resource, namespace, query, body).data)
            )
        except CallFailed as failure:
            return failure.observation
        except (ValueError, urllib3.exceptions.HTTPError) as failure:
            return Observation(State.UNREACHABLE, detail=translate_exception(failure))

    def _request(
        self,
        method: str,
        path: str,
        verb: str,
        resource: str,
        namespace: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        stream: bool = False,
        read_seconds: float = READ_SECONDS,
    ) -> Any:
        self.calls.count(f"{verb} {resource}")
        left = CLEANUP_SECONDS if verb == "delete" else self.deadline.left()
        if left <= 0:
            raise CallFailed(Observation(State.UNREACHABLE, detail=f"{right(verb, resource, namespace)}: no time left"))
        kind = "application/json-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": kind}
        try:
            self._client.update_params_for_auth(headers, [], ["BearerToken"])
            return self._client.rest_client.request(
                method,
                self.configuration.host + path,
                query_params=[(key, str(value)) for key, value in (query or {}).items()],
                headers=headers,
                body=body,
                _preload_content=not stream,
                _request_timeout=(min(CONNECT_SECONDS, left), min(read_seconds, left)),
            )
        except kubernetes.client.ApiException as failure:
            if not failure.status:
                raise CallFailed(Observation(State.UNREACHABLE, detail=translate_exception(failure))) from failure
            text = (failure.body or b"").decode("utf-8", "replace")
            raise CallFailed(translate(failure.status, text, verb, resource, namespace)) from failure
        except (urllib3.exceptions.HTTPError, OSError) as failure:
            raise CallFailed(Observation(State.UNREACHABLE, detail=translate_exception(failure))) from failure
