# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""API objects as evidence keeps them: without noise, without what others must not read."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

from ..core.attempts import MANAGED_BY, OURS
from ..core.evidence import EvidenceSet
from ..core.secret_forms import SHORTEST_SECRET, parts_of
from ..core.server_command import driver_settings, split_database_uri

PROBE_LABEL = "mlflow-runbook.mlops/probe"
PROBE_NAME = "mlflow-runbook-"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
CHANGES_KEPT_FOR = frozenset(
    {
        "configmaps",
        "deployments",
        "horizontalpodautoscalers",
        "ingresses",
        "networkpolicies",
        "resourcequotas",
        "secrets",
        "serviceaccounts",
        "services",
        "statefulsets",
    }
)
CONFIG_CHARACTERS = 2000
TRACKING_URI = "MLFLOW_TRACKING_URI"
RESERVED = re.compile(r"[@/#%:?\s]")
PUBLIC_KEY = re.compile(
    r"^(?:(?:db|database|postgres|pg|rds)[-_]?)?"
    r"(?:user(?:name)?|host(?:name)?|port|name|dbname|database|engine|region|scheme|sslmode)$",
    re.IGNORECASE,
)
KEY_NAME = re.compile(
    r"pass(?:word|wd|phrase)?$|pwd$|secret|token|credential|private|(?:api|access|secret|kek)[-_]?key$|salt$",
    re.IGNORECASE,
)
"""Keys of a Secret whose value is a secret even where it stands in plain objects too."""

SHORTEST_SEGMENT = 8
URI_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^\s:/@]*:(?P<password>\S+)@", re.IGNORECASE)
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(?P<body>[^-]+)-----END CERTIFICATE-----")


def last_changed(obj: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return who changed an object when, newest first; what controllers write into its status is no change of it."""
    fields = [
        item for item in (obj.get("metadata") or {}).get("managedFields") or [] if item.get("subresource") != "status"
    ]
    rows = [
        {"manager": item.get("manager", ""), "time": item.get("time", ""), "operation": item.get("operation", "")}
        for item in fields
    ]
    return sorted(rows, key=lambda row: row["time"], reverse=True)


def slim(resource: str, obj: dict[str, Any]) -> dict[str, Any]:
    """Return an API object without field ownership and applied copies.

    Args:
        resource: plural name of its kind.
        obj: the object as the API returned it.
    """
    metadata = dict(obj.get("metadata") or {})
    if resource in CHANGES_KEPT_FOR:
        metadata["lastChanged"] = last_changed(obj)
    metadata.pop("managedFields", None)
    if APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {key: value for key, value in metadata["annotations"].items() if key != APPLIED}
    result = {**obj, "metadata": metadata}
    if resource == "configmaps" and (metadata.get("labels") or {}).get(MANAGED_BY) != OURS:
        result["data"] = {key: value[:CONFIG_CHARACTERS] for key, value in (obj.get("data") or {}).items()}
        result.pop("binaryData", None)
    return result


def is_ours(obj: Mapping[str, Any]) -> bool:
    """Tell whether a pod, or an event about one, comes from our own probes."""
    metadata = obj.get("metadata") or {}
    involved = obj.get("involvedObject") or obj.get("regarding") or {}
    return PROBE_LABEL in (metadata.get("labels") or {}) or str(involved.get("name", "")).startswith(PROBE_NAME)


def slim_source_pod(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of a pod in somebody else's namespace what policies and a copy of its labels need."""
    metadata, spec = pod["metadata"], pod["spec"]
    containers = [
        {
            "name": item["name"],
            "image": item.get("image", ""),
            "env": [entry for entry in item.get("env") or [] if entry.get("name") == TRACKING_URI],
        }
        for item in spec["containers"]
    ]
    kept = ("name", "namespace", "labels", "annotations", "ownerReferences", "creationTimestamp")
    return {
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {
            "serviceAccountName": spec.get("serviceAccountName", "default"),
            "nodeName": spec.get("nodeName", ""),
            "hostNetwork": bool(spec.get("hostNetwork")),
            "containers": containers,
        },
        "status": {key: pod["status"][key] for key in ("phase", "podIP", "podIPs") if key in pod.get("status", {})},
    }


def decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode("utf-8", "replace")
    except ValueError:
        return ""


def key_facts(value: str) -> dict[str, Any]:
    """Describe one value of a Secret without telling it."""
    uri = None
    if re.match(r"^[a-z][a-z0-9+.-]*://", value):
        parts = split_database_uri(value.strip())
        query = urllib.parse.urlsplit(value.strip()).query
        uri = {
            **parts,
            "query_keys": sorted(urllib.parse.parse_qs(query, keep_blank_values=True)),
            "settings": driver_settings(query),
            "has_password": bool(URI_PASSWORD.match(value)),
        }
    return {
        "length": len(value),
        "trailing_newline": value.endswith("\n"),
        "reserved_characters": uri is None and bool(RESERVED.search(value.rstrip("\n"))),
        "uri": uri,
    }


def secret_facts(secret: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a Secret: names, times and the shape of each value, never a value."""
    metadata = secret["metadata"]
    kept = {key: metadata[key] for key in ("name", "creationTimestamp", "resourceVersion") if key in metadata}
    return {
        "metadata": {**kept, "lastChanged": last_changed(secret)},
        "type": secret.get("type", ""),
        "keys": {key: key_facts(decoded(value)) for key, value in (secret.get("data") or {}).items()},
    }


def tls_facts(secret: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the keys of a TLS Secret, and its first certificate as base64 of the DER form; the key stays unread."""
    data = secret.get("data") or {}
    pem = CERTIFICATE.search(decoded(data.get("tls.crt", "")))
    facts = {"metadata": {"name": secret["metadata"]["name"]}, "type": secret.get("type", ""), "keys": sorted(data)}
    return facts, "".join(pem["body"].split()) if pem else ""


def secret_values(secret: Mapping[str, Any], public: str) -> set[str]:
    """Return what of a Secret must never be shown.

    A Secret also holds plain settings, such as a bucket's name; masking those would make all evidence unreadable.

    Args:
        secret: the Secret.
        public: text of objects that are no secret; what stands in it is one only if its key says so.
    """
    plain: set[str] = set()
    values: set[str] = set()
    for key, encoded in (secret.get("data") or {}).items():
        value = decoded(encoded).strip()
        passwords = uri_passwords(value) | ({value} if KEY_NAME.search(key) else set())
        values |= passwords | parts_of(value)
        values |= {piece for password in passwords for piece in segments(password) if piece not in public}
        if "://" in value:
            parts = split_database_uri(value)
            plain |= {str(parts["user"]), str(parts["host"]), str(parts["database"])}
        if not KEY_NAME.search(key) and (PUBLIC_KEY.match(key) or value in public):
            plain.add(value)
        else:
            values.add(value)
    return {value for value in values - plain if len(value) >= SHORTEST_SECRET}


def segments(value: str) -> list[str]:
    """Return the pieces of a password that an address takes apart when it stands there unescaped."""
    if "://" in value or len(value.split()) > 1:
        return []
    pieces = RESERVED.split(value)
    return [piece for piece in pieces if len(piece) >= SHORTEST_SEGMENT] if len(pieces) > 1 else []


def secret_names(workload: Mapping[str, Any]) -> set[str]:
    """Return every Secret that a pod template names: in any container, as a volume or to pull its images."""
    spec = workload["spec"]["template"]["spec"]
    found = {row.get("name") for row in spec.get("imagePullSecrets") or []}
    for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
        found |= {(row.get("secretRef") or {}).get("name") for row in container.get("envFrom") or []}
        for row in container.get("env") or []:
            found.add(((row.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name"))
    for volume in spec.get("volumes") or []:
        found.add((volume.get("secret") or {}).get("secretName"))
        sources = (volume.get("projected") or {}).get("sources") or []
        found |= {(source.get("secret") or {}).get("name") for source in sources}
    return {name for name in found if name}


def public_text(evidence: EvidenceSet) -> str:
    """Return the text of the namespace's objects that name things and are no secret."""
    whats = ("deployments", "statefulsets", "services", "serviceaccounts", "configmaps", "ingresses")
    return json.dumps([evidence.objects(f"kubernetes.{what}") for what in whats])


def uri_passwords(text: str) -> set[str]:
    """Return every password that stands in an address in ``text``, as written and decoded."""
    found = {match["password"] for match in URI_PASSWORD.finditer(text)}
    return {value for item in found for value in (item, urllib.parse.unquote(item)) if "$" not in value}


def template_secrets(workload: Mapping[str, Any]) -> set[str]:
    """Return the secrets that stand in a pod template itself: passwords in addresses, values of secret variables."""
    found: set[str] = set()
    spec = workload["spec"]["template"]["spec"]
    for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
        texts = [*(container.get("command") or []), *(container.get("args") or [])]
        for item in container.get("env") or []:
            value = str(item.get("value", ""))
            texts.append(value)
            if KEY_NAME.search(item["name"]) and not value.startswith(("/", "$", "http")):
                found.add(value)
        for text in texts:
            found |= uri_passwords(str(text))
    return {value for value in found if len(value) >= SHORTEST_SECRET and value.lower() not in ("true", "false")}
