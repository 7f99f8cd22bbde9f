# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All servers of one run: the worst first, what several of them share said once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .content import HEADLINES, Entry, Section, ago, short_time
from .plain import harmless

RANKS = ("down", "degraded", "unknown", "at_risk", "recovered", "healthy")
"""Worst first; a server that could not be judged may be any of those before it."""

WORDS = {
    "down": "DOWN",
    "degraded": "DEGRADED",
    "unknown": "could NOT be judged",
    "at_risk": "AT RISK",
    "recovered": "recovered",
    "healthy": "healthy",
}

NAMESPACED = frozenset(
    {
        "configmap",
        "deployment",
        "ingress",
        "networkpolicy",
        "pod",
        "resourcequota",
        "secret",
        "service",
        "serviceaccount",
        "statefulset",
    }
)
"""Kinds whose objects of the same name in two namespaces are two objects."""

OF_A_DATABASE = ("role/", "session ")
"""Objects of the same name on two databases are two objects, too."""


@dataclass(frozen=True)
class Server:
    """One host of the run and the report on it; without a report, why there is none.

    Attributes:
        host: name in the inventory.
        path: file of the JSON report.
        page: its page, from the folder of the reports.
        report: the document.
        problem: why there is none.
    """

    host: str
    path: str
    page: str
    report: Mapping[str, Any] | None
    problem: str = ""

    @property
    def status(self) -> str:
        return str(self.report["verdict"]["status"]) if self.report else "unknown"

    @property
    def causes(self) -> list[Mapping[str, Any]]:
        return list(self.report["verdict"]["causes"]) if self.report else []

    @property
    def name(self) -> str:
        return f"{self.server['namespace']}/{self.server.get('name') or '?'}" if self.server else ""

    @property
    def server(self) -> Mapping[str, Any]:
        return dict(self.report["server"]) if self.report else {}

    @property
    def cluster(self) -> str:
        return str(self.server.get("cluster") or "")

    @property
    def database(self) -> str:
        return str(self.server.get("db_instance_identifier") or (self.server.get("backend") or {}).get("host") or "")


def key_of(cause: Mapping[str, Any], server: Server) -> tuple[str, ...]:
    """Name a cause so that two servers have the same name only for the same thing."""
    about, place = cause["object"], server.server
    if about.partition("/")[0] in NAMESPACED:
        return cause["id"], about, str(place.get("cluster_uid")), str(place.get("namespace"))
    if about.startswith(OF_A_DATABASE):
        return cause["id"], about, server.database
    return cause["id"], about


def fleet(servers: Sequence[Server]) -> dict[str, Any]:
    """Return the document on all servers of a run.

    Args:
        servers: one for each host of the run, in any order.
    """
    ranked = sorted(servers, key=lambda item: (RANKS.index(item.status), item.host))
    shared = [*same_causes(ranked), *same_databases(ranked)]
    return {
        "schema": 1,
        "started": max((str(item.report["started"]) for item in ranked if item.report), default=""),
        "counts": {rank: sum(item.status == rank for item in ranked) for rank in RANKS},
        "shared": shared,
        "servers": [row(item, shared) for item in ranked],
    }


def row(item: Server, shared: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    causes = [{name: cause[name] for name in ("id", "object", "summary", "since")} for cause in item.causes]
    return {
        "host": item.host,
        "server": item.name,
        "cluster": item.cluster,
        "database": item.database,
        "status": item.status,
        "causes": causes,
        "shares": [index for index, entry in enumerate(shared, 1) if item.host in entry["hosts"]],
        "problem": item.problem or problem_of(item),
        "report": item.path,
        "page": item.page,
    }


def problem_of(item: Server) -> str:
    """Say what is open about a server without a cause."""
    if item.report is None or item.causes or item.status == "healthy":
        return ""
    verdict = item.report["verdict"]
    over = (verdict.get("recovered") or {}).get("what")
    told = over.partition("; ")[0] if over else next((entry["what"] for entry in verdict["unknown"]), "")
    return str(told)


def same_causes(servers: Sequence[Server]) -> list[dict[str, Any]]:
    """Return the causes that more than one server has."""
    found: dict[tuple[str, ...], list[tuple[Server, Mapping[str, Any]]]] = {}
    for item in servers:
        for cause in item.causes:
            found.setdefault(key_of(cause, item), []).append((item, cause))
    return [
        {
            "kind": "cause",
            "id": rows[0][1]["id"],
            "object": rows[0][1]["object"],
            "owner": rows[0][1]["owner"],
            "what": rows[0][1]["summary"],
            "next": list(rows[0][1]["next"]),
            "hosts": hosts,
        }
        for rows in found.values()
        if len(hosts := list(dict.fromkeys(item.host for item, dummy in rows))) > 1
    ]


def same_databases(servers: Sequence[Server]) -> list[dict[str, Any]]:
    """Return the databases on which several servers have different causes: one of them may be the other's."""
    found: dict[str, list[tuple[Server, Mapping[str, Any]]]] = {}
    for item in servers:
        for cause in item.causes:
            if cause["section"] == "database" and item.database:
                found.setdefault(item.database, []).append((item, cause))
    entries = []
    for database, rows in found.items():
        names = sorted({f"{cause['id']} ({cause['object']})" for dummy, cause in rows})
        hosts = list(dict.fromkeys(item.host for item, dummy in rows))
        if len(hosts) > 1 and len(names) > 1:
            what = f"{len(hosts)} servers use database {database}, and their causes are on it: {', '.join(names)}"
            entries.append(
                {
                    "kind": "database",
                    "id": "",
                    "object": database,
                    "owner": "database",
                    "what": what,
                    "next": [],
                    "hosts": hosts,
                }
            )
    return entries


@dataclass(frozen=True)
class FleetContent:
    """What text and page say of a fleet."""

    headline: str
    status: str
    subtitle: str
    sections: tuple[Section, ...]


def fleet_content(document: Mapping[str, Any]) -> FleetContent:
    """Say what a fleet's document says.

    Args:
        document: see ``fleet``.
    """
    document = harmless(dict(document))
    counts = {rank: count for rank, count in document["counts"].items() if count}
    total, worst = sum(counts.values()), next(iter(counts), "unknown")
    number = counts.get(worst, 0)
    words = HEADLINES[worst].partition(":")[0]
    if number > 1:
        words = words.replace("is ", "are ", 1).replace("has ", "have ", 1)
    sick = [item for item in document["servers"] if item["status"] != "healthy"]
    well = [item for item in document["servers"] if item["status"] == "healthy"]
    at = [short_time(document["started"])] if document["started"] else []
    sections = (
        Section("shared", "What several servers share", tuple(map(shared_entry, enumerate(document["shared"], 1)))),
        Section("servers", "Servers", tuple(server_entry(item, document) for item in sick)),
        Section("healthy", "Healthy", tuple(Entry(item["host"], where(item), item) for item in well)),
    )
    return FleetContent(
        headline=f"{number} of {total} servers {words}",
        status=worst,
        subtitle=" · ".join([*at, *(f"{count} {rank.replace('_', ' ')}" for rank, count in counts.items())]),
        sections=tuple(section for section in sections if section.entries),
    )


def where(item: Mapping[str, Any]) -> str:
    return item["server"] + (f" in cluster {item['cluster']}" if item["cluster"] else "")


def parted(head: str, parts: Iterable[str]) -> Entry:
    """Return an entry whose parts the page sets as paragraphs and the text in one line."""
    kept = [part for part in parts if part]
    return Entry(head, "; ".join(kept), {"parts": kept})


def shared_entry(numbered: tuple[int, Mapping[str, Any]]) -> Entry:
    """Say once what several servers share, whom it concerns and what to do."""
    number, item = numbered
    named = f"{item['id']} · {item['object']} · owner: {item['owner']}" if item["id"] else ""
    return parted(f"{number}", [item["what"], named, f"concerns {', '.join(item['hosts'])}", *item["next"]])


def server_entry(item: Mapping[str, Any], document: Mapping[str, Any]) -> Entry:
    """Say of one server what is wrong, of a shared cause only its number."""
    entries = document["shared"]
    numbers = [number for number in item["shares"] if entries[number - 1]["id"]]
    told = {(entries[number - 1]["id"], entries[number - 1]["object"]) for number in numbers}
    own = [cause["summary"] for cause in item["causes"] if (cause["id"], cause["object"]) not in told]
    said = [*(f"shared cause {number}" for number in numbers), *own] or [item["problem"]]
    since = min((cause["since"] for cause in item["causes"] if cause["since"]), default="")
    begun = f"since {short_time(since)} ({ago(since, document['started'])})" if since else ""
    entry = parted(item["host"], [WORDS[item["status"]], *said, begun, where(item) if item["server"] else ""])
    return Entry(entry.head, entry.rest, {**entry.data, "status": item["status"], "page": item["page"]})
