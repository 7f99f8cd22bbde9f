# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A way to the API server of one run's own, which can be cut without touching the API server."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.lab import operator, settings

LOOPBACK = "127.0.0.1"
CHUNK = 65536


class Forwarder:
    """Hands every connection to a port of loopback over to the API server, until it is cut."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                near, _address = self._listener.accept()
                far = socket.create_connection((LOOPBACK, settings.HOST_API_PORT))
                with self._lock:
                    self._open += [near, far]
                    if self._is_cut:
                        near.close()
                        far.close()
                        continue
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and refuse new ones for good."""
        with self._lock:
            self._is_cut = True
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy one direction until either end is closed."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def way_to_the_api() -> Iterator[tuple[Forwarder, Path]]:
    """Open a way to the API server, and write the operator's kubeconfig that takes it."""
    forwarder = Forwarder()
    document = yaml.safe_load(operator.kubeconfig_of(operator.FULL).read_text(encoding="utf-8"))
    for cluster in document["clusters"]:
        cluster["cluster"]["server"] = f"https://{LOOPBACK}:{forwarder.port}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kubeconfig"
        settings.write_text(path, yaml.safe_dump(document, sort_keys=False), mode=0o600)
        try:
            yield forwarder, path
        finally:
            forwarder.cut()
