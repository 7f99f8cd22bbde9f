# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners of the emulation: TLS on one address per AWS service, plain HTTP on a unix socket for the host."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import ThreadedWSGIServer

from tests.lab.emulation.gateway import WsgiApplication

TLS_PORT = 443


class Handler(MotoRequestHandler):
    """Reads one request; the time-out ends connections over which nothing comes. The call log is the access log."""

    timeout = 60

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write nothing."""


class Listener(ThreadedWSGIServer):
    """One address; ``context`` makes it a TLS listener.

    It shakes hands in the thread of the connection: a client that connects and says nothing must not hold up others.
    """

    def __init__(self, address: str, application: WsgiApplication, context: ssl.SSLContext | None = None) -> None:
        super().__init__(address, TLS_PORT, application, handler=Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.ssl_context = context

    def server_bind(self) -> None:
        """Bind without asking for the address's name, for which there is no DNS here."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.port


def serve(
    application: WsgiApplication, addresses: Sequence[str], certificate: tuple[Path, Path], unix_socket: Path
) -> None:
    """Listen on port 443 of every address and on the unix socket, in threads of their own; returns when they listen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    servers = [Listener(address, application, context) for address in addresses]
    servers.append(Listener(f"unix://{unix_socket}", application))
    unix_socket.chmod(0o600)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
