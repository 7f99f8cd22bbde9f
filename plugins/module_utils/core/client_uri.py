# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracking URI of a client, and whether it is about a given server."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .discovery import Target

VARIABLE = "MLFLOW_TRACKING_URI"
SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class ClientUri:
    """A tracking URI without its credentials.

    Attributes:
        scheme: empty when the text has none, which MLflow takes for a folder.
        host: lower case.
        port: the default of the scheme when the text has none; ``None`` without a scheme.
        path: without a slash at its end.
    """

    scheme: str
    host: str
    port: int | None
    path: str

    @property
    def text(self) -> str:
        """The address as the client uses it."""
        port = "" if self.port in (None, DEFAULT_PORTS.get(self.scheme)) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}" if self.scheme else f"{self.host}{port}{self.path}"


def parse(text: str) -> ClientUri | None:
    """Read a tracking URI; ``None`` when it names no host."""
    text = text.strip()
    has_scheme = SCHEME.match(text) is not None
    try:
        parts = urllib.parse.urlsplit(text if has_scheme else f"//{text}")
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if not parts.hostname or (has_scheme and scheme not in DEFAULT_PORTS):
        return None
    return ClientUri(scheme, parts.hostname.lower(), port or DEFAULT_PORTS.get(scheme), parts.path.rstrip("/"))


def concerns(uri: ClientUri, target: Target) -> bool:
    """Tell whether a URI names the server's Service by a name that holds in other namespaces."""
    return bool(target.service) and f"{uri.host}.".startswith(f"{target.service}.{target.namespace}.")


def uris_of(pod: Mapping[str, Any], target: Target) -> dict[str, ClientUri]:
    """Return the URIs of a pod that are about the server, by their text in the pod."""
    found = {}
    for container in pod["spec"]["containers"]:
        for entry in container.get("env") or []:
            uri = parse(str(entry.get("value") or "")) if entry.get("name") == VARIABLE else None
            if uri is not None and concerns(uri, target):
                found[str(entry["value"])] = uri
    return found


def astray(uri: ClientUri, target: Target, namespaces: Collection[str]) -> bool:
    """Tell whether a URI means the server's Service by a name that leads nowhere from another namespace.

    Args:
        uri: what a client outside the server's namespace uses.
        target: the server.
        namespaces: all namespaces of the cluster; without them only a short name is known to lead nowhere.
    """
    service, dummy, rest = uri.host.partition(".")
    if not target.service or service != target.service:
        return False
    namespace, dummy, domain = rest.partition(".")
    known = not namespaces or namespace in namespaces
    return not rest or (not known and (not domain or domain == "svc" or domain.startswith("svc.")))


def strays_of(pod: Mapping[str, Any], target: Target, namespaces: Collection[str]) -> list[ClientUri]:
    """Return the URIs of a client's pod that mean the server and lead nowhere."""
    return [uri for uri in every(pod) if uri.scheme and astray(uri, target, namespaces)]


def every(pod: Mapping[str, Any]) -> list[ClientUri]:
    """Return all tracking URIs of a pod."""
    found = [
        parse(str(entry.get("value") or ""))
        for container in pod["spec"]["containers"]
        for entry in container.get("env") or []
        if entry.get("name") == VARIABLE
    ]
    return [uri for uri in found if uri is not None]


def namespaces_named(pod: Mapping[str, Any], service: str) -> set[str]:
    """Return the namespaces in which a pod's tracking URIs name a Service."""
    parts = [uri.host.split(".") for uri in every(pod)]
    return {labels[1] for labels in parts if labels[0] == service and len(labels) > 1}


def distinct(pods: Iterable[Mapping[str, Any]], target: Target, namespaces: Collection[str] = ()) -> list[ClientUri]:
    """Return what some clients use to reach the server, rightly or not, each once, in a fixed order."""
    found = {uri for pod in pods for uri in (*uris_of(pod, target).values(), *strays_of(pod, target, namespaces))}
    return sorted(found, key=lambda uri: uri.text)
