# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One fault in one server: what was registered and what has to be undone, kept on disk until it is."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from tests.lab import kube, servers, settings
from tests.lab.faults import templates
from tests.lab.settings import LabError

SET_BY_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "selfLink")
Value = TypeVar("Value")


@dataclass
class Injection:
    """A fault in a server.

    Attributes:
        fault: name of the fault.
        folder: folder of the fault's file.
        server: the server it is in.
        registered: results of actions, by the names they were registered under.
        undo: notes for ``actions.undo_all``, oldest first.
        since: when the last change was made; the client is judged from then on.
    """

    fault: str
    folder: Path
    server: servers.Server
    registered: dict[str, Any] = field(default_factory=dict)
    undo: list[dict[str, Any]] = field(default_factory=list)
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    @property
    def variables(self) -> dict[str, Any]:
        """What templates may refer to."""
        return {"server": self.server.facts(), **self.registered}

    def rendered(self, value: Value) -> Value:
        """The value, or the fields of the model, with every template rendered."""
        if isinstance(value, BaseModel):
            fields = {name: getattr(value, name) for name in type(value).model_fields}
            return value.model_copy(update=templates.render(fields, self.variables))
        result: Value = templates.render(value, self.variables)
        return result

    def remember(self, note: dict[str, Any]) -> None:
        """Note down how to undo a change, before it is made."""
        with self._lock:
            self.undo.append(note)
        self.save()

    def remember_object(self, api_version: str, kind: str, name: str, namespace: str | None) -> None:
        """Note down an object as it is; what a controller makes anew by itself is left out."""
        before = kube.get(api_version, kind, name, namespace)
        if before is not None:
            if any(owner.get("controller") for owner in before["metadata"].get("ownerReferences", [])):
                return
            before.pop("status", None)
            before["metadata"] = {
                key: value for key, value in before["metadata"].items() if key not in SET_BY_THE_SERVER
            }
        reference = {"apiVersion": api_version, "kind": kind, "name": name, "namespace": namespace}
        self.remember(reference | {"before": before})

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def save(self) -> None:
        """Write the record, so that the fault can be taken back by another process."""
        with self._lock:
            record = {
                "fault": self.fault,
                "folder": str(self.folder),
                "registered": self.registered,
                "undo": self.undo,
                "since": self.since.isoformat(),
            }
            settings.write_text(record_path(self.server.name), json.dumps(record, indent=1), mode=0o600)

    def forget(self) -> None:
        """Delete the record: the fault is taken back."""
        record_path(self.server.name).unlink(missing_ok=True)


def record_path(server: str) -> Path:
    """File of the fault that is in a server."""
    return settings.state_dir() / "faults" / f"{server}.json"


def current() -> dict[str, str]:
    """Server to fault, for every fault that is in."""
    paths = sorted((settings.state_dir() / "faults").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8"))["fault"] for path in paths}


def resume(server: str) -> Injection:
    """The fault that is in a server; LabError when there is none."""
    try:
        record = json.loads(record_path(server).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LabError(f"there is no fault in the server {server!r}") from error
    return Injection(
        fault=record["fault"],
        folder=Path(record["folder"]),
        server=servers.get(server),
        registered=record["registered"],
        undo=record["undo"],
        since=datetime.fromisoformat(record["since"]),
    )
