# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry that has nothing: every image that the node does not hold is "not found", and not "unreachable".

Run as ``python -m tests.lab.registry ADDRESS CERTIFICATE KEY`` inside the lab's network namespace.
"""

from __future__ import annotations

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

API_VERSION = ("Docker-Distribution-Api-Version", "registry/2.0")


def answer(path: str) -> tuple[int, dict[str, object]]:
    """Status and body for a request path, as the OCI distribution specification words them."""
    if path.rstrip("/") == "/v2":
        return 200, {}
    if "/manifests/" in path:
        return 404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "Requested image not found"}]}
    return 404, {"errors": [{"code": "NAME_UNKNOWN", "message": "repository name not known to registry"}]}


class Handler(BaseHTTPRequestHandler):
    """Answers every read with ``answer``."""

    timeout = 10

    def do_GET(self) -> None:
        """Answer a read."""
        status, body = answer(self.path.partition("?")[0])
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header(*API_VERSION)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls


def main(address: str, certificate: str, key: str) -> None:
    """Serve on ``address``:443 for ever."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer((address, 443), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:4])
