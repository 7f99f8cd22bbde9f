# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a run and of a server's history, always written whole and for the owner only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
REPORT, EVIDENCE = "report.json", "evidence.json"
NOTES = ("refused", "actions", "resumed")


class RunError(Exception):
    """A run's files are missing, unreadable or were changed."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file of mode 0600 that is either the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_json(path: Path, default: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}") from error


def server_folder(report_dir: str, server: Mapping[str, Any]) -> Path:
    """Return ``<report_dir>/<cluster>_<namespace>_<name>``."""
    parts = (server.get("cluster") or "cluster", server["namespace"], server.get("name") or "unknown")
    return Path(report_dir) / "_".join(UNSAFE.sub("-", str(part)) for part in parts)


class Run:
    """One diagnosis on its way through the tasks: a folder that only its owner can read.

    Args:
        folder: path of the folder; without one a new temporary folder is made.
    """

    def __init__(self, folder: str = "") -> None:
        self.folder = Path(folder or tempfile.mkdtemp(prefix="mlflow-runbook-"))

    def save(self, report: Mapping[str, Any], evidence: str) -> str:
        """Write report and evidence; return the report's digest."""
        text = json.dumps(report, indent=1, sort_keys=True)
        write_whole(self.folder / EVIDENCE, evidence)
        write_whole(self.folder / REPORT, text)
        return hashlib.sha256(text.encode()).hexdigest()

    def report(self, digest: str) -> dict[str, Any]:
        """Read the report back.

        Raises:
            RunError: it is missing or is not the one that was written.
        """
        try:
            text = (self.folder / REPORT).read_text(encoding="utf-8")
        except OSError as error:
            raise RunError(f"the run's report cannot be read: {error}") from error
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            raise RunError(f"the report in {self.folder} is not the one that the diagnosis wrote")
        document: dict[str, Any] = json.loads(text)
        return document

    def note(self, kind: str, *more: Mapping[str, Any]) -> None:
        """Keep what later tasks report, such as refusals and actions; it never passes through a template."""
        write_whole(self.folder / f"{kind}.json", json.dumps([*self.notes(kind), *more]))

    def notes(self, kind: str) -> list[dict[str, Any]]:
        """Return what was noted, oldest first."""
        known: list[dict[str, Any]] = read_json(self.folder / f"{kind}.json", [])
        return known

    def replace(self, earlier: Run) -> None:
        """Take the place of an earlier run: what was noted is kept, its files are removed."""
        for kind in NOTES:
            if earlier.notes(kind):
                self.note(kind, *earlier.notes(kind))
        earlier.remove()

    def evidence(self) -> str:
        return (self.folder / EVIDENCE).read_text(encoding="utf-8")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class History:
    """What is remembered about one server between runs: baseline, plans that were shown, plans that were used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def _plans(self) -> Path:
        return self.folder / "plans.json"

    @property
    def _baseline(self) -> Path:
        return self.folder / "baseline.json"

    def baseline(self) -> dict[str, Any]:
        known: dict[str, Any] = read_json(self._baseline, {})
        return known

    def save_baseline(self, baseline: Mapping[str, Any]) -> None:
        write_whole(self._baseline, json.dumps(baseline, indent=1, sort_keys=True))

    def plans(self) -> dict[str, dict[str, str]]:
        known: dict[str, dict[str, str]] = read_json(self._plans, {})
        return known

    def repaired(self) -> str:
        """Return when a plan was last acted upon, ISO 8601; empty when none was."""
        return max((entry["used"] for entry in self.plans().values() if "used" in entry), default="")

    def issue(self, digest: str, at: str) -> None:
        """Remember that a plan was shown to a person."""
        plans = self.plans()
        plans[digest] = {**plans.get(digest, {}), "issued": at}
        write_whole(self._plans, json.dumps(plans, indent=1, sort_keys=True))

    def use(self, digest: str, at: str) -> None:
        """Remember that a plan was acted upon, before it is."""
        plans = self.plans()
        plans[digest] = {**plans.get(digest, {}), "used": at}
        write_whole(self._plans, json.dumps(plans, indent=1, sort_keys=True))
