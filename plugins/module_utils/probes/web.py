# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP requests as a client makes them, and nothing that changes anything."""

from __future__ import annotations

import http.client
import ssl
import urllib.parse
from typing import Any

from .common import Record

BODY_CHARACTERS = 600
BODY_BYTES = 64 * 1024
REJECTED = "Invalid Host header"
"""Body of the 403 with which MLflow answers a Host header that is not allowed (field guide W-10)."""
KEPT_HEADERS = ("server", "content-type", "location", "www-authenticate", "retry-after", "x-content-type-options")


def request(url: str, host_header: str, headers: dict[str, str], seconds: float) -> dict[str, Any]:
    """Send one GET and return status, a few headers and the beginning of the body.

    Args:
        url: absolute http or https address; certificates are not judged here.
        host_header: value of the Host header; empty for the address's own.
        headers: further headers, such as ``Authorization``.
        seconds: time-out of each step.
    """
    parts = urllib.parse.urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=seconds, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=seconds)
    sent = {"Accept": "*/*", "User-Agent": "mlflow-runbook", "Connection": "close", **headers}
    if host_header:
        sent["Host"] = host_header
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    try:
        connection.request("GET", path, headers=sent)
        response = connection.getresponse()
        body = response.read(BODY_BYTES).decode("utf-8", "replace")
        kept = {name.lower(): value for name, value in response.getheaders() if name.lower() in KEPT_HEADERS}
        return {
            "status": response.status,
            "headers": kept,
            "body": body[:BODY_CHARACTERS],
            "host_header": host_header or parts.netloc,
        }
    finally:
        connection.close()


def rejects_host(answer: dict[str, Any]) -> bool:
    """Tell whether an answer, as ``request`` returns it, refuses the Host header."""
    return answer.get("status") == http.client.FORBIDDEN and REJECTED in str(answer.get("body", ""))


def admitted(item: dict[str, Any]) -> dict[str, Any]:
    """Ask by the address, and where it is not allowed as a host by the names that clients use."""
    answer = request(item["url"], item["host_header"], item["headers"], item["seconds"])
    for name in item.get("other_hosts", ()):
        if not rejects_host(answer):
            break
        other = request(item["url"], name, item["headers"], item["seconds"])
        answer = answer if rejects_host(other) else other
    return answer


def probe(record: Record, item: dict[str, Any]) -> None:
    """Run one request of the specification: ``url``, ``host_header``, ``other_hosts``, ``headers`` and ``seconds``."""
    record.measure("probe.http", item["subject"], lambda: admitted(item))


def probe_client(record: Record, item: dict[str, Any]) -> None:
    """Ask at a live client's own address, whatever is wrong with it: ``url``, ``headers`` and ``seconds``."""
    record.measure("probe.client", item["subject"], lambda: request(item["url"], "", item["headers"], item["seconds"]))
