# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the evidence says about opening the dashboard: pods, ingress hosts and workers that connections can use up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .core.discovery import commands_of
from .core.evidence import API, POD
from .core.findings import Context
from .core.server_command import DEFAULT_WORKERS
from .core.verdict import Verdict
from .core.workload import ready_pods, workload, workload_name
from .sections.service_ingress import backends
from .sections.web_options import SYNC, gunicorn_options, workers_of
from .sections.web_workers import DEFAULT_TIMEOUT

NO_WORKER_LEFT = frozenset({"latency.workers_blocked", "web_server.worker_timeout"})


def hopeless(context: Context, verdict: Verdict) -> str:
    """Say why no page can open, before anything is started; empty when one may."""
    listed = context.evidence.first("kubernetes.pods", API, context.target.namespace)
    if listed is None or not listed.conclusive or ready_pods(context):
        return ""
    causes = "; ".join(f"{cause.finding.summary} ({cause.finding.id})" for cause in verdict.causes)
    return f"no pod of {workload_name(context)} is ready" + (f": {causes}" if causes else "")


def worker_note(context: Context, verdict: Verdict) -> str:
    """Say that open connections use up gunicorn's sync workers; empty where they do not.

    A sync worker serves one connection at a time and waits for its request, so that a connection which a browser opens
    in advance holds one until gunicorn's time-out kills it. ``kubectl port-forward`` passes each of them on.
    """
    found = workload(context)
    if context.target.web_server != "gunicorn" or found is None:
        return ""
    command = commands_of(found, context.evidence)[context.target.container]
    options = gunicorn_options(command)
    if options.get("worker-class", "") not in SYNC or options.get("threads", "1") not in ("", "1"):
        return ""
    counted = [item for item in context.evidence.all("probe.environment", POD) if item.seen and workers_of(item)]
    number = str(workers_of(counted[0])) if counted else command.setting("workers") or str(DEFAULT_WORKERS)
    limit = options.get("timeout") or DEFAULT_TIMEOUT
    busy = bool(NO_WORKER_LEFT & {finding.id for finding in verdict.findings})
    return (
        f"gunicorn serves one connection per sync worker and has {number}: a plain kubectl port-forward also passes on "
        f"connections on which nothing is asked, and each holds a worker for up to {limit} s; "
        "this forward opens one only for a request" + ("; workers are taken or were killed right now" if busy else "")
    )


def ingress_addresses(context: Context) -> list[tuple[str, str]]:
    """Return the URLs that ingresses promise for the server's page, with the name of each ingress."""
    return [
        (address, item["metadata"]["name"])
        for item in context.evidence.objects("kubernetes.ingresses", context.target.namespace)
        if any(backend["name"] == context.target.service for backend in backends(item))
        for address in addresses_of(item, context.target.service, context.target.static_prefix)
    ]


def addresses_of(ingress: Mapping[str, Any], service: str, prefix: str) -> list[str]:
    """Return the URLs of one ingress that lead to a Service; a wildcard or a rule without host names no address."""
    spec = ingress["spec"]
    secure = {host for entry in spec.get("tls") or [] for host in entry.get("hosts") or []}
    found = []
    for rule in spec.get("rules") or []:
        host = str(rule.get("host") or "")
        if not host or host.startswith("*"):
            continue
        for path in (rule.get("http") or {}).get("paths") or []:
            if ((path.get("backend") or {}).get("service") or {}).get("name") == service:
                scheme = "https" if host in secure else "http"
                found.append(f"{scheme}://{host}{prefix or plain(str(path.get('path') or ''))}/")
    return list(dict.fromkeys(found))


def plain(path: str) -> str:
    """Return the beginning of an ingress path that is no pattern, without a slash at its end."""
    literal = re.split(r"[(\[*?$]", path)[0]
    return "".join(f"/{part}" for part in literal.split("/") if part)
