# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to a pod's port through the Kubernetes API, one WebSocket each."""

from __future__ import annotations

import contextlib
import socket
import urllib.parse
from collections.abc import Mapping
from typing import Any

from ..core.dashboard import ready_pod
from ..core.evidence import State
from .calls import CallFailed, Deadline, Observation
from .kubernetes import ClusterReader, translate_exception

try:
    import kubernetes.client
    import websocket
    from kubernetes.stream.ws_client import create_websocket
except ImportError:
    pass  # ClusterReader says what is missing

CALL_SECONDS = 5.0
CONNECT_SECONDS = 10.0
DATA, ERROR = 0, 1
OPENING_FRAMES = 2
"""Each of the two channels begins with a frame that repeats the port's number (kubelet, portforward/websocket.go)."""

PIECE = 64 * 1024


class PodConnection:
    """One connection to a port of a pod.

    The Kubernetes client has a port-forward of its own, but that drops what it has not passed on yet when the server
    closes right behind its last byte, as gunicorn does after each answer (read in ``ws_client.py`` of release 36).

    Args:
        link: the WebSocket, with the subprotocol ``v4.channel.k8s.io``.
    """

    def __init__(self, link: Any) -> None:
        self._link, self._socket = link, link.sock
        # The library closes the socket as soon as it sees the end, while another thread may still write to its file
        # number, which is another connection's right after; a socket stays open as long as it has a file.
        self._hold = self._socket.makefile("rb", buffering=0)
        self._opening = OPENING_FRAMES
        self.problem = ""

    def send(self, data: bytes) -> None:
        """Send bytes to the pod.

        Raises:
            OSError: the connection is over.
        """
        for start in range(0, len(data), PIECE):
            try:
                self._link.send_binary(bytes([DATA]) + data[start : start + PIECE])
            except websocket.WebSocketException as failure:
                raise OSError(str(failure)) from failure

    def receive(self) -> bytes:
        """Wait for bytes from the pod; none means that the connection is over, and ``problem`` says why."""
        while True:
            try:
                opcode, data = self._link.recv_data()
            except (websocket.WebSocketException, OSError):
                return b""
            if opcode != websocket.ABNF.OPCODE_BINARY or not data:
                return b""
            if self._opening:
                self._opening -= 1
            elif data[0] == ERROR:
                self.problem = data[1:].decode("utf-8", "replace")
                return b""
            elif len(data) > 1:
                return bytes(data[1:])

    def end(self) -> None:
        """End the connection, from any thread; one that waits in ``receive`` gets nothing."""
        with contextlib.suppress(OSError):  # it is over already
            # not the TLS socket's own method: that would make the other thread read and write without TLS
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the connection once no thread uses it."""
        self._link.shutdown()
        self._socket.close()
        self._hold.close()


class PodDialer:
    """Opens connections to whichever pod of a workload is ready. Safe to use from several threads.

    Args:
        options: kubernetes.core's connection options.
        namespace: namespace of the workload.
        selector: its labels.
        port: the port in the pod.
    """

    def __init__(self, options: Mapping[str, Any], namespace: str, selector: Mapping[str, str], port: int) -> None:
        self._options, self._namespace, self._port = options, namespace, port
        self._query = {"labelSelector": ",".join(f"{key}={value}" for key, value in selector.items())}
        self._reader: ClusterReader | None = None

    def dial(self) -> PodConnection:
        """Open a connection. After a failure the connection options are read anew: a token may have been replaced.

        Raises:
            CallFailed: no pod is ready, or the API server does not let us.
        """
        reader = self._reader or ClusterReader(self._options, Deadline(CALL_SECONDS))
        self._reader = None
        reader.deadline = Deadline(CALL_SECONDS)
        listed = reader.list(f"/api/v1/namespaces/{self._namespace}/pods", "pods", self._namespace, self._query)
        if not listed.seen:
            raise CallFailed(listed)
        pod = ready_pod(listed.value["items"])
        if not pod:
            raise CallFailed(Observation(State.ABSENT, detail="no pod of the server is ready"))
        link = self._open(reader.configuration, pod)
        self._reader = reader
        return PodConnection(link)

    def _open(self, configuration: Any, pod: str) -> Any:
        host = urllib.parse.urlsplit(configuration.host)
        scheme = "wss" if host.scheme == "https" else "ws"
        path = f"{host.path.rstrip('/')}/api/v1/namespaces/{self._namespace}/pods/{pod}/portforward?ports={self._port}"
        headers: dict[str, str] = {"sec-websocket-protocol": "v4.channel.k8s.io"}
        kubernetes.client.ApiClient(configuration).update_params_for_auth(headers, [], ["BearerToken"])
        websocket.setdefaulttimeout(CONNECT_SECONDS)
        try:
            link = create_websocket(configuration, f"{scheme}://{host.netloc}{path}", headers)
        except Exception as failure:  # the library wraps whatever the socket raised
            status = getattr(failure, "status_code", None)
            detail = (
                f"get pods/portforward in namespace {self._namespace}"
                if status == 403
                else f"port-forward to pod {pod}: " + (f"{status}" if status else translate_exception(failure))
            )
            state = State.FORBIDDEN if status == 403 else State.UNREACHABLE
            raise CallFailed(Observation(state, detail=detail)) from failure
        link.settimeout(None)
        return link
