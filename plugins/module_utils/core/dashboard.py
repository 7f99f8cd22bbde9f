# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether MLflow's page opens, judged from what a browser would have got, and which processes are ours."""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from ..probes.web import REJECTED

TITLE = re.compile(r"<title>\s*MLflow\s*</title>", re.IGNORECASE)
REJECTED_ORIGIN = "Cross-origin request blocked"
"""Body of a 403 answer since MLflow 3.5 (field guide I-13)."""

API = "/ajax-api/2.0/mlflow/experiments/search"
"""What the page itself asks first; unlike ``/health`` it needs the database."""

TRANSIENT = frozenset({0, 502, 503, 504})
"""Answers, or none (0), that may be another a moment later, while a pod starts."""

START_TOLERANCE_SECONDS = 2.0
"""The start of a process is computed from the time of the boot, which a clock that is set moves a little."""

LINKED = {"script": ("src",), "link": ("href",), "img": ("src",)}
LOADED_LINKS = frozenset({"stylesheet", "icon", "shortcut", "manifest", "preload", "modulepreload"})


@dataclass(frozen=True)
class Answer:
    """One HTTP answer.

    Attributes:
        status: HTTP status; 0 when there was none.
        body: the text, or its beginning.
        content_type: without parameters.
        size: length of the whole body in bytes.
        problem: why there was no answer, or why it was not whole; otherwise empty.
    """

    status: int
    body: str = ""
    content_type: str = ""
    size: int = 0
    problem: str = ""


class _Files(HTMLParser):
    """Collects what a browser loads with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and not LOADED_LINKS & set(str(given.get("rel") or "").lower().split()):
            return
        self.found += [str(given[name]) for name in LINKED.get(tag, ()) if given.get(name)]


def static_files(html: str, address: str) -> list[str]:
    """Return the paths of the files that a page names and that its own server has, each once.

    Args:
        html: the page.
        address: its URL, to which relative names are relative.
    """
    parser = _Files()
    parser.feed(html)
    here = urllib.parse.urlsplit(address)
    paths = []
    for name in parser.found:
        parts = urllib.parse.urlsplit(urllib.parse.urljoin(address, name))
        if parts.scheme == here.scheme and parts.netloc == here.netloc:
            paths.append(parts.path + (f"?{parts.query}" if parts.query else ""))
    return list(dict.fromkeys(paths))


def refusal(answer: Answer, path: str, host: str) -> str:
    """Say why an answer is not what a browser needs; empty when it is a 200.

    Args:
        answer: what came back.
        path: what was asked for.
        host: the Host header that was sent.
    """
    if not answer.status:
        return f"{path} gets no answer: {answer.problem}"
    if answer.status == 403 and REJECTED in answer.body:
        return (
            f"MLflow does not accept the Host header {host} (403): its allowed hosts lack it; "
            "--allowed-hosts replaces the defaults, so it has to name localhost:* as well"
        )
    if answer.status == 403 and REJECTED_ORIGIN in answer.body:
        return f"MLflow blocks calls of a page from {host} (403, {REJECTED_ORIGIN}): see --cors-allowed-origins"
    if answer.status == 404:
        return f"{path} answers 404: the server has its page below another path (see --static-prefix)"
    if answer.status != 200:
        start = " ".join(answer.body.split())[:160]
        return f"{path} answers {answer.status}" + (f": {start}" if start else "")
    return f"{path} is not whole: {answer.problem}" if answer.problem else ""


def page_problem(answer: Answer, path: str, host: str) -> str:
    """Say why the page does not open; empty when it does."""
    refused = refusal(answer, path, host)
    if refused or TITLE.search(answer.body):
        return refused
    return f"{path} answers 200, but the page is not MLflow's: it has no <title>MLflow</title>"


def file_problem(answer: Answer, path: str, host: str) -> str:
    """Say why a static file that the page names cannot be used; a page instead of the file is a 404 in disguise."""
    refused = refusal(answer, path, host)
    if not refused and answer.content_type == "text/html":
        return f"static file {path} is answered with a page"
    return f"static file {refused}" if refused else ""


def api_problem(answer: Answer, path: str, host: str) -> str:
    """Say why the page's first API call fails; empty when it works."""
    refused = refusal(answer, path, host)
    if not refused and answer.content_type != "application/json":
        return f"{path} answers with {answer.content_type or 'no type'} instead of JSON"
    return refused


def command_digest(command: Sequence[str]) -> str:
    """Return what identifies a command line in a record."""
    return hashlib.sha256("\0".join(command).encode("utf-8", "surrogateescape")).hexdigest()


def is_same_process(record: Mapping[str, Any], running: Mapping[str, Any] | None) -> bool:
    """Tell whether the process that has a recorded id now is the recorded one, and not another with its number.

    Args:
        record: ``pid``, ``started`` (seconds since 1970) and ``digest`` as written when it was started.
        running: the same of the process that has this id now, and ``ours``: whether it is our user's; ``None`` when
            there is none.
    """
    if running is None or not running["ours"]:
        return False
    same_start = abs(float(record["started"]) - float(running["started"])) <= START_TOLERANCE_SECONDS
    return bool(record["pid"] == running["pid"] and record["digest"] == running["digest"] and same_start)


def choose_way(asked: str, kubernetes: Mapping[str, Any], environment: Mapping[str, str], kubectl: str) -> str:
    """Choose between ``kubectl`` and ``api`` for a forward.

    ``kubectl`` takes a kubeconfig and a context. Any other option is a credential, which has no place in an argument
    list, or one that kubectl knows by another name; the API's client takes them all.

    Args:
        asked: ``mlflow_dashboard_way``.
        kubernetes: the connection options that are set.
        environment: of this process, in which kubernetes.core reads ``K8S_AUTH_*``.
        kubectl: path of the program; empty when there is none.
    """
    if asked in ("kubectl", "api"):
        return asked
    plain = {"kubeconfig", "context"}
    options = {name[len("K8S_AUTH_") :].lower() for name in environment if name.startswith("K8S_AUTH_")}
    return "kubectl" if kubectl and {*kubernetes, *options} <= plain else "api"


def ready_pod(pods: Iterable[Mapping[str, Any]]) -> str:
    """Return the name of the newest pod that is ready and not about to end; empty when none is."""
    usable = [
        pod["metadata"]
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
        and any(
            item["type"] == "Ready" and item["status"] == "True"
            for item in pod.get("status", {}).get("conditions") or []
        )
    ]
    newest = max(usable, key=lambda item: (item["creationTimestamp"], item["name"]), default=None)
    return str(newest["name"]) if newest else ""
