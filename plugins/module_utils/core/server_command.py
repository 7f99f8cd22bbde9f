# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an MLflow container is started: its options, environment and the addresses of what it needs."""

from __future__ import annotations

import re
import shlex
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DEFAULT_WORKERS = 4
"""Worker processes of ``mlflow server`` (read in MLflow 3.17.2)."""

SHELLS = frozenset({"sh", "bash", "ash", "dash"})
SCRIPT_FLAG = re.compile(r"-[a-z]*c[a-z]*")
OPERATOR = re.compile(r"[;&|]+")
REFERENCE = re.compile(r"\$\((?P<kube>[A-Za-z_]\w*)\)|\$\{(?P<brace>[A-Za-z_]\w*)\}|\$(?P<plain>[A-Za-z_]\w*)")
SWITCHES = frozenset(
    {
        "serve-artifacts",
        "no-serve-artifacts",
        "artifacts-only",
        "dev",
        "disable-security-middleware",
    }
)
SHORT_OPTIONS = {"-h": "host", "-p": "port", "-w": "workers"}
ENVIRONMENT_NAMES = {
    "backend-store-uri": "MLFLOW_BACKEND_STORE_URI",
    "artifacts-destination": "MLFLOW_ARTIFACTS_DESTINATION",
    "default-artifact-root": "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "static-prefix": "MLFLOW_STATIC_PREFIX",
    "port": "MLFLOW_PORT",
    "host": "MLFLOW_HOST",
    "workers": "MLFLOW_WORKERS",
    "allowed-hosts": "MLFLOW_SERVER_ALLOWED_HOSTS",
    "gunicorn-opts": "MLFLOW_GUNICORN_OPTS",
    "uvicorn-opts": "MLFLOW_UVICORN_OPTS",
}
"""Command line option and its environment variable, read in MLflow 3.17.2 (field guide section 2.2)."""
DATABASE_PORTS = {"postgres": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433}
"""Beginning of a store URI's scheme and the port that its driver takes by itself."""


DRIVER_SETTINGS = frozenset(
    {
        "connect_timeout",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "sslmode",
    }
)
SESSION_SETTINGS = frozenset({"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"})
"""What an address may say about time-outs, all of it without secrets (PostgreSQL documentation, libpq and GUCs)."""
SESSION_OPTION = re.compile(r"(?:-c\s*|--)(?P<name>[a-z_]+)=(?P<value>\S+)")


@dataclass(frozen=True)
class Reference:
    """Where an environment variable's value comes from when it does not stand in the pod template."""

    kind: str
    name: str
    key: str


@dataclass(frozen=True)
class ServerCommand:
    """One container as far as MLflow is concerned.

    Attributes:
        is_server: whether it runs ``mlflow server`` or ``mlflow ui``.
        options: long option name without dashes to its text; switches have an empty text.
        environment: literal environment values.
        references: variables whose value stands in a Secret or ConfigMap.
    """

    is_server: bool
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, Reference] = field(default_factory=dict)

    def setting(self, option: str) -> str:
        """Return an option's value: command line first, environment second, otherwise an empty text."""
        value = self.options.get(option)
        if value is None:
            value = self.environment.get(ENVIRONMENT_NAMES.get(option, ""), "")
        return expand(value, self.environment)

    def reference(self, option: str) -> tuple[str, Reference] | None:
        """Return the variable and its Secret or ConfigMap when the option's value is only known there."""
        name = ENVIRONMENT_NAMES.get(option, "")
        if option not in self.options and name in self.references:
            return name, self.references[name]
        text = self.setting(option)
        found = {
            next(group for group in match.groups() if group): text[match.end() : match.end() + 1]
            for match in REFERENCE.finditer(text)
        }
        known = [name for name in found if name in self.references]
        # In an address that is put together, the one before the @ holds the password.
        known.sort(key=lambda name: found[name] != "@")
        return (known[0], self.references[known[0]]) if known else None


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace variable references whose value is known; the others stay as they are."""

    def replace(match: re.Match[str]) -> str:
        return environment.get(next(group for group in match.groups() if group), match.group(0))

    return REFERENCE.sub(replace, text)


def words_of(container: Mapping[str, Any]) -> list[str]:
    """Return the words of a container's command line, with a shell's script split into words."""
    words = [str(word) for word in [*(container.get("command") or []), *(container.get("args") or [])]]
    shell = next((index for index, word in enumerate(words) if word.rsplit("/", 1)[-1] in SHELLS), len(words))
    flag = next((index for index in range(shell + 1, len(words)) if SCRIPT_FLAG.fullmatch(words[index])), len(words))
    return split_script(words[flag + 1]) if flag + 1 < len(words) else words


def split_script(script: str) -> list[str]:
    """Split a shell script into words; the operators between its commands are words of their own."""
    text = script.replace("\\\n", " ")
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError:
        return text.split()


def options_of(words: list[str]) -> dict[str, str]:
    """Read long options and MLflow's short ones out of the words that follow ``server``."""
    options: dict[str, str] = {}
    index = 0
    while index < len(words) and not OPERATOR.fullmatch(words[index]):
        word = words[index]
        name, has_value, value = word.partition("=")
        name = SHORT_OPTIONS.get(name, name[2:] if name.startswith("--") else "")
        if name and not has_value and name not in SWITCHES and index + 1 < len(words):
            index += 1
            value = words[index]
        if name:
            options[name] = value
        index += 1
    return options


def environment_of(
    container: Mapping[str, Any], config_maps: Mapping[str, Mapping[str, str]], secret_keys: Mapping[str, list[str]]
) -> tuple[dict[str, str], dict[str, Reference]]:
    """Return literal values and references of a container's environment, ``envFrom`` first as Kubernetes does."""
    literal: dict[str, str] = {}
    references: dict[str, Reference] = {}
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix", "")
        if "configMapRef" in source:
            data = config_maps.get(source["configMapRef"].get("name", ""), {})
            literal |= {prefix + key: value for key, value in data.items()}
        if "secretRef" in source:
            name = source["secretRef"].get("name", "")
            references |= {prefix + key: Reference("Secret", name, key) for key in secret_keys.get(name, [])}
    for item in container.get("env") or []:
        name, source = item["name"], item.get("valueFrom") or {}
        literal.pop(name, None)
        references.pop(name, None)
        if "secretKeyRef" in source:
            references[name] = Reference(
                "Secret", source["secretKeyRef"].get("name", ""), source["secretKeyRef"]["key"]
            )
        elif "configMapKeyRef" in source:
            reference = source["configMapKeyRef"]
            value = config_maps.get(reference.get("name", ""), {}).get(reference["key"])
            if value is None:
                references[name] = Reference("ConfigMap", reference.get("name", ""), reference["key"])
            else:
                literal[name] = value
        elif "value" in item:
            literal[name] = expand(str(item["value"]), literal)
    return literal, references


def read_command(
    container: Mapping[str, Any],
    config_maps: Mapping[str, Mapping[str, str]] | None = None,
    secret_keys: Mapping[str, list[str]] | None = None,
) -> ServerCommand:
    """Read how a container starts MLflow.

    Args:
        container: a container of a pod template, as the API returns it.
        config_maps: data of the namespace's ConfigMaps by name.
        secret_keys: key names of the Secrets that could be read, by name.
    """
    words = words_of(container)
    start = next(
        (
            index + 2
            for index in range(len(words) - 1)
            if words[index].rsplit("/", 1)[-1] in ("mlflow", "mlflow.server") and words[index + 1] in ("server", "ui")
        ),
        0,
    )
    if not start and not container.get("command") and words[:1] in (["server"], ["ui"]):
        start = 1  # the image's entry point is mlflow
    literal, references = environment_of(container, config_maps or {}, secret_keys or {})
    return ServerCommand(start > 0, options_of(words[start:]) if start else {}, literal, references)


def split_database_uri(uri: str) -> dict[str, Any]:
    """Take a store URI apart without its password; unknown parts are empty.

    Returns:
        ``scheme``, ``host``, ``port`` (int or None), ``user`` and ``database``.
    """
    try:
        parts = urllib.parse.urlsplit(uri)
        port = parts.port
    except ValueError:
        return {"scheme": uri.partition(":")[0], "host": "", "port": None, "user": "", "database": ""}
    host = parts.hostname or ""
    default_port = next((port for name, port in DATABASE_PORTS.items() if parts.scheme.startswith(name)), None)
    is_path = uri.startswith((".", "/")) or parts.scheme == "file"
    return {
        "scheme": "file" if is_path else parts.scheme,
        "host": "" if "$" in host else host,
        "port": port or default_port,
        "user": "" if "$" in (parts.username or "") else parts.username or "",
        "database": parts.path.lstrip("/"),
    }


def session_settings(options: str) -> dict[str, str]:
    """Return the time-outs that libpq's ``options`` set, such as ``-c statement_timeout=60s``."""
    found = {match["name"]: match["value"] for match in SESSION_OPTION.finditer(options)}
    return {name: value for name, value in found.items() if name in SESSION_SETTINGS}


def driver_settings(query: str) -> dict[str, str]:
    """Return what the query of a database address says about time-outs and TLS, and nothing else of it."""
    given = dict(urllib.parse.parse_qsl(query))
    return {key: value for key, value in given.items() if key in DRIVER_SETTINGS} | session_settings(
        given.get("options", "")
    )
