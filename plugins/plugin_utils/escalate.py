# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle on its way to the disk, and from the disk to a judge."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.changes import recent_changes
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.report import text
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.secret_scan import SecretScan
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import Settings
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.archive import (
    PACKED_BYTES,
    BundleError,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.attempts import attempts, attempts_text
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.bundle import (
    folder_name,
    make_manifest,
    write_bundle,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.contents import (
    LeftOut,
    build_parts,
    fit,
    missing_logs,
    pretty,
    smaller,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.replay import context_of
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.tables import versions
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.ticket import ticket

from .diagnose import Diagnosis, diagnose, utc_now
from .html import page
from .run import server_folder, write_whole

COLLECTION = Path(__file__).parents[2]
LIBRARIES = ("ansible-core", "kubernetes", "boto3", "botocore")
MOST_REPORTS = 100
MOST_CHANGES = 500


@dataclass(frozen=True)
class Escalation:
    """A diagnosis and the bundle that was made of it.

    Attributes:
        diagnosis: what was found.
        ticket: the text for the ticket.
        path: where the bundle is; empty in check mode.
        size: bytes of the archive.
        left_out: what the bundle does not hold.
    """

    diagnosis: Diagnosis
    ticket: str
    path: str
    size: int
    left_out: tuple[LeftOut, ...]


def collection_version() -> str:
    """Return the version of this collection, installed or as a checkout."""
    manifest = COLLECTION / "MANIFEST.json"
    if manifest.is_file():
        return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])
    return str(yaml.safe_load((COLLECTION / "galaxy.yml").read_text(encoding="utf-8"))["version"])


def own_versions() -> dict[str, str]:
    """Return the versions of what runs here."""
    found = {"mlops.mlflow_runbook": collection_version(), "Python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def earlier_reports(folder: Path) -> list[dict[str, Any]]:
    """Read what the newest reports of a server say; one that cannot be read is passed over."""
    found = []
    for path in sorted(folder.glob("[0-9]*Z.json"))[-MOST_REPORTS:]:
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
    return [report for report in found if isinstance(report, dict)]


def escalate(settings: Settings) -> Escalation:
    """Diagnose a server and write its bundle.

    Raises:
        BundleError: the bundle holds a secret or is too large; nothing was written.
    """
    diagnosis = diagnose(settings, cloud_logs=True)
    report, collected = diagnosis.report, diagnosis.collected
    folder = server_folder(settings.report_dir, report["server"])
    name = f"{folder_name(report)}.tar.gz"
    cited = [key for cause in report["verdict"]["causes"] for key in cause["evidence"]]
    evidence, dropped = smaller(collected.evidence, cited)
    now, target = diagnosis.policy.now, collected.target
    changes = recent_changes(Context(target, evidence, now), MOST_CHANGES) if target else []
    history = diagnosis.history
    context = context_of(settings, collected.cluster, now, history.repaired(), history.baseline())
    letter = ticket(report, name)
    documents = {
        "context.json": pretty(context),
        "ticket.txt": letter,
        "report.txt": text(report),
        "report.html": page(report),
        "attempts.txt": attempts_text(attempts(earlier_reports(folder), report["attempts"])),
        "versions.txt": versions(report, evidence, own_versions()),
    }
    parts, cut = fit(build_parts(report, evidence, documents, changes))
    left_out = (*dropped, *cut, *missing_logs(evidence))
    manifest = make_manifest(report, parts, left_out, collection_version(), utc_now())
    refuse_secrets({**parts, "manifest.json": pretty(manifest).encode()}, collected.secrets)
    packed = write_bundle(report, parts, manifest)
    if settings.check_mode:
        return Escalation(diagnosis, letter, "", len(packed), left_out)
    write_whole(folder / name, packed)
    return Escalation(diagnosis, letter, str(folder / name), len(packed), left_out)


def refuse_secrets(parts: Mapping[str, bytes], known: Iterable[str]) -> None:
    """Look through everything that would be written.

    Raises:
        BundleError: names the parts and the kinds of secrets, never a value.
    """
    scan = SecretScan(known)
    hits = []
    for number, (name, content) in enumerate(parts.items(), 1):
        kinds = scan.kinds(content.decode("utf-8", "replace"))
        in_name = scan.kinds(name)
        if kinds or in_name:
            hits.append(f"{f'part {number}' if in_name else name} ({', '.join(sorted({*kinds, *in_name}))})")
    if hits:
        raise BundleError("no bundle was written, since it would hold secrets: " + "; ".join(hits))


def read_packed(path: str) -> bytes:
    """Read an archive that somebody named.

    Raises:
        BundleError: it cannot be read, or is no file or too large.
    """
    try:
        handle = os.open(Path(path).expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is no path"
        raise BundleError(f"cannot be read: {reason}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BundleError("is no file")
    with os.fdopen(handle, "rb") as stream:
        return stream.read(PACKED_BYTES + 1)
