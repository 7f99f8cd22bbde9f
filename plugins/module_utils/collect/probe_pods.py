# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the probe in the server's pods and in pods of our own, which are always removed."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..clients import certificates
from ..clients.calls import CallFailed, Observation
from ..clients.kubernetes import ClusterReader
from ..core.evidence import DEBUG_COPY, POD, Evidence, State
from ..probes import bundle
from .pod_specs import LIFETIME_MARGIN_SECONDS, image_id_of, start_of
from .threads import Notebook

START_SECONDS, PART_OF_DEADLINE = 25.0, 3
"""A probe pod may take 25 s to start, or a third of the whole time that was given."""

ANSWER_SECONDS = 3.0
"""What a probe whose time is up needs to be heard."""

EARLY_SECONDS = 3.0
EARLY_PAUSE_SECONDS = 0.1
NOT_YET = re.compile(r"container not found|pod does not exist|cannot exec in|in CREATED state", re.IGNORECASE)
"""The kubelet's words for a container that it has not started; it lets one be entered up to a second before it reports
that it runs (kubelet, ``GetExec`` and the period of its pod lifecycle event generator).
"""


def to_evidence(text: str, place: str, pod: str, notebook: Notebook) -> list[Evidence]:
    """Turn the probe's output into evidence.

    Args:
        text: what the probe printed.
        place: where it ran.
        pod: name of the pod.
        notebook: where times come from.

    Raises:
        ValueError: the text is not the probe's document.
    """
    found = []
    try:
        for row in json.loads(text)["rows"]:
            value = row.get("value")
            if value is not None:
                value = {**value, "probe_pod": pod}
                if "der" in value:
                    value |= certificates.describe(value.pop("der"))
            found.append(
                notebook.note(
                    row["what"], place, row["subject"], Observation(State(row["state"]), value, row.get("detail", ""))
                )
            )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the probe's document: {error}") from error
    return found


def probe_name() -> str:
    return f"mlflow-runbook-{secrets.token_hex(4)}"


class ProbeRunner:
    """Makes probe pods, runs the probe in them and in the server's own, and removes what it made.

    Args:
        reader: the API.
        notebook: where times come from.
        lifetime: seconds after which the cluster itself ends a probe pod, should we be gone.
    """

    def __init__(self, reader: ClusterReader, notebook: Notebook, lifetime: int) -> None:
        self.reader = reader
        self.notebook = notebook
        self.lifetime = lifetime + LIFETIME_MARGIN_SECONDS
        self._made: list[tuple[str, str]] = []

    def run(
        self, place: str, namespace: str, pod: str, container: str, wanted: Mapping[str, Any], about: Mapping[str, Any]
    ) -> list[Evidence]:
        """Run the probe in a container that runs.

        Args:
            place: what the container stands for.
            namespace: its namespace.
            pod: its pod.
            container: its name.
            wanted: the specification.
            about: what else ``probe.pod`` tells of it.
        """
        begun = time.monotonic()
        seconds = min(wanted["seconds"], self.reader.deadline.left() - ANSWER_SECONDS)
        document = bundle.document({**wanted, "seconds": seconds})
        seen = self.reader.exec_python(namespace, pod, container, bundle.PROGRAM, document, seconds + ANSWER_SECONDS)
        if not seen.seen:
            return [self.notebook.note("probe.pod", place, "", seen)]
        try:
            found = to_evidence(seen.value["out"], place, pod, self.notebook)
        except ValueError:
            reason = seen.value["problem"] or seen.value["error"][-300:] or "the probe printed no result"
            return [self.notebook.unreachable("probe.pod", place, "", f"{pod}: {' '.join(reason.split())}")]
        value = {"result": "ok", "name": pod, "seconds": round(time.monotonic() - begun, 3), **about}
        return [self.notebook.note("probe.pod", place, "", Observation(State.OK, value)), *found]

    def enter(self, namespace: str, pod: str, container: str, wanted: Mapping[str, Any]) -> list[Evidence]:
        """Run the probe in one of the server's own containers."""
        return self.run(POD, namespace, pod, container, wanted, {})

    def start(self, manifest: Mapping[str, Any]) -> Observation:
        """Ask for a probe pod; it is removed at the end whatever becomes of it."""
        named = (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        self._made.append(named)
        made = self.reader.create_pod(named[0], manifest)
        if made.state is State.FORBIDDEN:
            self._made.remove(named)
        return made

    def finish(
        self,
        place: str,
        manifest: Mapping[str, Any],
        made: Observation,
        wanted: Mapping[str, Any],
        *,
        early: bool = False,
    ) -> list[Evidence]:
        """Wait until a probe pod runs, run the probe in it and remove it.

        Args:
            place: what it stands for.
            manifest: what was asked for.
            made: the answer to ``start``.
            wanted: the specification.
            early: enter as soon as the container can be entered, which leaves network policies no time to reach it.
        """
        if not made.seen:
            return [self.notebook.note("probe.pod", place, "", made)]
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        container = manifest["spec"]["containers"][0]
        about = {"labels": manifest["metadata"]["labels"], "image": container["image"]}
        begun = time.monotonic()
        try:
            for problem, image_id in self._moments(namespace, name, early=early):
                if problem:
                    return [self.notebook.unreachable("probe.pod", place, "", f"{name}: {problem}")]
                about["image_id"] = image_id
                about["start_seconds"] = round(time.monotonic() - begun, 3)
                found = self.run(place, namespace, name, container["name"], wanted, about)
                if problem is None and NOT_YET.search(found[0].detail):
                    continue
                return found
            return []
        except CallFailed as failure:
            return [self.notebook.note("probe.pod", place, "", failure.observation)]
        finally:
            self.remove(namespace, name)

    def copy(self, manifest: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Evidence]:
        """Run the probe in a copy of the server's pod."""
        return self.finish(DEBUG_COPY, manifest, self.start(manifest), wanted)

    def remove(self, namespace: str, name: str) -> None:
        """Remove one probe pod."""
        self.reader.delete_pod(namespace, name)
        self._made = [item for item in self._made if item != (namespace, name)]

    def remove_all(self, leftovers: Iterable[tuple[str, str]] = ()) -> None:
        """Remove every probe pod that is still there, and ended ones that an earlier run left."""
        for namespace, name in [*self._made, *leftovers]:
            self.remove(namespace, name)

    def _moments(self, namespace: str, name: str, *, early: bool) -> Iterator[tuple[str | None, str]]:
        """Yield ``None`` whenever it is worth a try, and at last what keeps the pod from running, empty if nothing.

        Beside it comes the digest of the image that the pod got, as soon as it is known.
        """
        problem, tries = "not started yet", int(EARLY_SECONDS / EARLY_PAUSE_SECONDS) if early else 0
        patience = max(START_SECONDS, self.reader.deadline.left() / PART_OF_DEADLINE)
        for pod in self.reader.watch_pod(namespace, name, patience):
            decided, problem = start_of(pod)
            if decided:
                yield problem, image_id_of(pod)
                return
            while tries and pod["spec"].get("nodeName"):
                tries -= 1
                time.sleep(EARLY_PAUSE_SECONDS)
                yield None, ""
        yield f"{problem} after {patience:.0f} s", ""
