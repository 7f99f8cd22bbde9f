# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container itself: its processes, memory, settings and the MLflow in it."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from typing import Any

from .common import MASK, redact

MEMORY_MARGIN_BYTES = 150 * 1024 * 1024
UNLIMITED_BYTES = 1 << 60
MOST_PROCESSES = 60
COMMAND_CHARACTERS = 300
REFERENCE = re.compile(r"\$\((\w+)\)|\$\{(\w+)\}|\$(\w+)")
URI = re.compile(
    r"^(?P<scheme>[\w+]+)://(?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:\[(?P<host6>[^/?]+)\]|(?P<host>[^/:?]+)?)(?::(?P<port>[^/?]*))?(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?$",
    re.DOTALL,
)
"""SQLAlchemy's own reading of an address (read in SQLAlchemy 2.0, engine/url.py): the first ``@`` ends the password."""


def read_text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isdigit() and int(text) < UNLIMITED_BYTES else None


def field(text: str, name: str) -> int | None:
    """Return one number of a file with a name and a number in each line."""
    match = re.search(rf"^{name} (\d+)$", text, re.MULTILINE)
    return int(match[1]) if match else None


def memory(root: str = "/sys/fs/cgroup") -> dict[str, Any]:
    """Read the container's memory from cgroup version 2 or 1.

    Returns:
        ``limit_bytes`` (``None`` when unlimited), ``working_set_bytes`` (usage without inactive file pages, as the
        kubelet counts it) and ``oom_kills``; ``None`` where the kernel does not say.
    """
    if os.path.exists(f"{root}/memory.current"):
        usage = number(read_text(f"{root}/memory.current"))
        inactive = field(read_text(f"{root}/memory.stat"), "inactive_file")
        limit = number(read_text(f"{root}/memory.max"))
        kills = field(read_text(f"{root}/memory.events"), "oom_kill")
    else:
        usage = number(read_text(f"{root}/memory/memory.usage_in_bytes"))
        inactive = field(read_text(f"{root}/memory/memory.stat"), "total_inactive_file")
        limit = number(read_text(f"{root}/memory/memory.limit_in_bytes"))
        kills = field(read_text(f"{root}/memory/memory.oom_control"), "oom_kill")
    working_set = None if usage is None else max(0, usage - (inactive or 0))
    return {"limit_bytes": limit, "working_set_bytes": working_set, "oom_kills": kills}


def has_room(now: dict[str, Any]) -> bool:
    """Tell whether a large import fits under the memory limit with a margin."""
    limit, used = now["limit_bytes"], now["working_set_bytes"]
    return limit is None or (used is not None and used + MEMORY_MARGIN_BYTES <= limit)


def throttling(root: str = "/sys/fs/cgroup") -> dict[str, int | None]:
    text = read_text(f"{root}/cpu.stat") or read_text(f"{root}/cpu/cpu.stat")
    return {"periods": field(text, "nr_periods"), "throttled": field(text, "nr_throttled")}


def throttled_since(before: dict[str, int | None]) -> dict[str, int]:
    """Return how many scheduling periods passed while we asked the server, and in how many it was held back."""
    now = throttling()
    return {name: (now[name] or 0) - (before[name] or 0) for name in now}


def mount_namespace(process: str) -> str:
    try:
        return os.readlink(f"/proc/{process}/ns/mnt")
    except OSError:
        return ""


def processes() -> list[dict[str, Any]]:
    """Return the container's other processes with their command lines as lists of words.

    A pod may show the processes of its other containers or of the whole node; those have mounts of their own.
    """
    found = []
    ours = mount_namespace("self")
    for name in sorted((entry for entry in os.listdir("/proc") if entry.isdigit()), key=int):
        words = [word for word in read_text(f"/proc/{name}/cmdline").split("\0") if word]
        if not words or int(name) == os.getpid() or mount_namespace(name) != ours:
            continue
        status = read_text(f"/proc/{name}/status")
        parent = re.search(r"^PPid:\s+(\d+)", status, re.MULTILINE)
        resident = re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)
        found.append(
            {
                "pid": int(name),
                "ppid": int(parent[1]) if parent else 0,
                "words": words,
                "rss_kib": int(resident[1]) if resident else 0,
            }
        )
    return found[:MOST_PROCESSES]


def server_words(found: list[dict[str, Any]]) -> list[str]:
    """Return the words that follow ``mlflow server`` in the running server's command line."""
    for process in found:
        words = process["words"]
        for index in range(len(words) - 1):
            if words[index].rsplit("/", 1)[-1] in ("mlflow", "mlflow.server") and words[index + 1] in ("server", "ui"):
                return list(words[index + 2 :])
    return []


def server_environment(found: list[dict[str, Any]]) -> dict[str, str]:
    """Return the running server's environment, which a shell may have changed, over our own."""
    environment = dict(os.environ)
    for process in found:
        if server_words([process]):
            entries = read_text(f"/proc/{process['pid']}/environ").split("\0")
            environment.update(entry.partition("=")[::2] for entry in entries if "=" in entry)
            break
    return environment


def option(words: list[str], name: str) -> str:
    for index, word in enumerate(words):
        if word == f"--{name}" and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return ""


def expand(text: str, environment: dict[str, str]) -> str:
    """Replace variable references as Kubernetes and a shell do."""
    return REFERENCE.sub(lambda match: environment.get(match[1] or match[2] or match[3], match[0]), text)


def backend_uri(words: list[str], environment: dict[str, str]) -> str:
    """Return the backend store's address with its password; never to be printed."""
    given = option(words, "backend-store-uri") or environment.get("MLFLOW_BACKEND_STORE_URI", "")
    return expand(given, environment).strip("\"'")


def split_uri(uri: str, environment: dict[str, str]) -> dict[str, Any]:
    """Take a database address apart as SQLAlchemy does; libpq's variables fill what it leaves out.

    Returns:
        ``scheme``, ``host``, ``port``, ``user``, ``password``, ``database`` and ``query`` as texts.
    """
    match = URI.match(uri)
    parts = {key: value or "" for key, value in match.groupdict().items()} if match else {}
    scheme = parts.get("scheme", uri.partition(":")[0])
    postgresql = scheme.startswith("postgres")
    fill = environment if postgresql else {}
    return {
        "scheme": scheme,
        "host": parts.get("host6") or parts.get("host") or fill.get("PGHOST", ""),
        "port": parts.get("port") or fill.get("PGPORT", "5432" if postgresql else ""),
        "user": parts.get("user") or fill.get("PGUSER", ""),
        "password": parts.get("password") or fill.get("PGPASSWORD", ""),
        "database": parts.get("database") or fill.get("PGDATABASE", ""),
        "query": parts.get("query", ""),
    }


def shown_host(host: str) -> str:
    """Mask what is no host: the end of a password with an ``@`` that was not escaped."""
    return f"{MASK}@{host.rpartition('@')[2]}" if "@" in host else host


def mlflow_folder() -> str:
    """Return MLflow's folder without importing it."""
    try:
        found = importlib.util.find_spec("mlflow")
    except (ImportError, ValueError):
        return ""
    return (found.submodule_search_locations or [""])[0] if found else ""


def mlflow_version() -> str:
    folder = mlflow_folder()
    match = (
        re.search(r"^VERSION\s*=\s*[\"']([^\"']+)", read_text(f"{folder}/version.py"), re.MULTILINE) if folder else None
    )
    return match[1] if match else ""


def describe(
    found: list[dict[str, Any]], words: list[str], environment: dict[str, str], backend: dict[str, Any]
) -> dict[str, Any]:
    """Return what the container says about itself, without any password."""
    prefix = option(words, "static-prefix") or environment.get("MLFLOW_STATIC_PREFIX", "")
    port = str(backend["port"])
    rows = [
        {
            **process,
            "command": redact(" ".join(process["words"]), (backend["password"],) if backend["password"] else ()),
        }
        for process in found
    ]
    for row in rows:
        del row["words"]
        row["command"] = row["command"][:COMMAND_CHARACTERS]
    return {
        "mlflow_version": mlflow_version(),
        "python": platform.python_version(),
        "static_prefix": prefix,
        "workers": option(words, "workers") or environment.get("MLFLOW_WORKERS", ""),
        "allowed_hosts": option(words, "allowed-hosts") or environment.get("MLFLOW_SERVER_ALLOWED_HOSTS", ""),
        "pool": {
            key[23:].lower(): value for key, value in environment.items() if key.startswith("MLFLOW_SQLALCHEMYSTORE_")
        },
        "backend": {
            "scheme": backend["scheme"],
            "host": shown_host(backend["host"]),
            "port": int(port) if port.isdigit() else None,
            "user": backend["user"],
            "database": backend["database"],
        },
        "processes": rows,
        "memory": memory(),
        "cpu_throttled": throttling(),
    }
