# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's metadata address with the node's role, version 2 of the service only (``python -m tests.lab.metadata``).

As on a well kept node, pods do not reach it: a rule drops their packets. A fault that lets a pod silently use the
node's role puts an ACCEPT before that rule.
"""

from __future__ import annotations

import json
import secrets
import socketserver
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.lab import aws, identity, network, processes, settings

DAEMON = "metadata"
PORT = 80
TOKEN_HEADER = "X-aws-ec2-metadata-token"
SESSION = "i-0a1b2c3d4e5f60718"
CREDENTIALS = "/latest/meta-data/iam/security-credentials"
REFRESH_SECONDS = 900
KEPT_OUT = ("-s", settings.POD_NETWORK, "-d", settings.METADATA_ADDRESS, "-j", "DROP")
# Where a packet still has its own addresses, and before any other chain of the lab or of the cluster accepts it.
PLACE = ("-t", "mangle")
CHAIN = "PREROUTING"


def unix_socket() -> Path:
    """Socket of the service on the host."""
    return settings.socket_dir() / "metadata.sock"


def up() -> None:
    """Make the node's role and start the service, unless it runs."""
    identity.create_node_role()
    network.add_address(settings.METADATA_ADDRESS)
    if "-d " + settings.METADATA_ADDRESS not in network.iptables(*PLACE, "-S", CHAIN):
        network.iptables(*PLACE, "-A", CHAIN, *KEPT_OUT)
    if not processes.alive(DAEMON):
        processes.start(DAEMON, [sys.executable, "-m", "tests.lab.metadata"], in_netns=False)
    listen = f"TCP-LISTEN:{PORT},bind={settings.METADATA_ADDRESS},reuseaddr,fork"
    if not processes.alive(f"{DAEMON}-in"):
        processes.start(f"{DAEMON}-in", ["socat", listen, f"UNIX-CONNECT:{unix_socket()}"])


def down() -> None:
    """Stop the service; nothing happens when it does not run."""
    processes.stop(f"{DAEMON}-in")
    processes.stop(DAEMON)


class Role:
    """Sessions of the node's role, from STS, each kept for a while."""

    def __init__(self) -> None:
        self._answer: dict[str, Any] = {}
        self._made = datetime.fromtimestamp(0, UTC)

    def credentials(self) -> dict[str, Any]:
        """The document of the instance's credentials."""
        now = datetime.now(UTC)
        if (now - self._made).total_seconds() > REFRESH_SECONDS:
            arn = f"arn:aws:iam::{settings.AWS_ACCOUNT_ID}:role/{identity.NODE_ROLE}"
            made = aws.admin("sts").assume_role(RoleArn=arn, RoleSessionName=SESSION)["Credentials"]
            self._made = now
            self._answer = {
                "Code": "Success",
                "LastUpdated": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "Type": "AWS-HMAC",
                "AccessKeyId": made["AccessKeyId"],
                "SecretAccessKey": made["SecretAccessKey"],
                "Token": made["SessionToken"],
                "Expiration": made["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        return self._answer


class Handler(BaseHTTPRequestHandler):
    """Answers a session token, the role's name, its credentials, region and instance."""

    role = Role()
    token = secrets.token_urlsafe(24)
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""

    def _send(self, status: int, text: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        """Give a token."""
        self._send(200, self.token) if self.path == "/latest/api/token" else self._send(404)

    def do_GET(self) -> None:
        """Give what the token's owner asks for."""
        if self.headers.get(TOKEN_HEADER) != self.token:
            self._send(401)
            return
        document = {"region": settings.AWS_REGION, "accountId": settings.AWS_ACCOUNT_ID, "instanceId": SESSION}
        answers = {
            CREDENTIALS: identity.NODE_ROLE,
            "/latest/meta-data/instance-id": SESSION,
            "/latest/meta-data/placement/availability-zone": f"{settings.AWS_REGION}a",
            "/latest/meta-data/placement/region": settings.AWS_REGION,
            "/latest/dynamic/instance-identity/document": json.dumps(document),
        }
        path = self.path.rstrip("/")
        if path == f"{CREDENTIALS}/{identity.NODE_ROLE}":
            self._send(200, json.dumps(self.role.credentials()))
        else:
            self._send(200, answers[path]) if path in answers else self._send(404)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """One thread per connection."""

    daemon_threads = True


def main() -> None:
    """Serve until the process is ended."""
    path = unix_socket()
    path.unlink(missing_ok=True)
    with Server(str(path), Handler) as server:
        path.chmod(0o600)
        server.serve_forever()


if __name__ == "__main__":
    main()
