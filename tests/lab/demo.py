# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration: a security group is closed, one command names it, one approved step repairs it."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tests.lab import clients, cloud, lifecycle, servers, settings
from tests.lab.faults import injection as injections
from tests.lab.faults import phases, playbooks, reading
from tests.lab.faults.__main__ import FOLDER
from tests.lab.settings import LabError

OUTPUT = settings.REPOSITORY / "build" / "demo"
SERVER = "mlflow"
FAULT = "security_group_rule_removed"
STEP = "restore_security_group_rule"
CAUSE = "database.security_group_closed"
NO_DIGEST = "0" * 64
SHOWN = 200


@contextmanager
def doing(text: str) -> Iterator[None]:
    """Say what is being done, and then how long it took."""
    print(f"\n==> {text}", flush=True)
    started = time.monotonic()
    yield
    print(f"    {time.monotonic() - started:.1f} s", flush=True)


def require(holds: bool, text: str) -> None:
    """End the demonstration unless something is so."""
    if not holds:
        raise LabError(text)


def rule_present(server: servers.Server) -> bool:
    """Whether the database's security group lets another group, that of the nodes, in to its port."""
    group = server.database["security_group_id"]
    described = cloud.admin("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
    rules = [rule for rule in described["IpPermissions"] if rule.get("FromPort") == server.database["port"]]
    return any(rule["UserIdGroupPairs"] for rule in rules)


def copy_newest(reports: Path, name: str) -> None:
    """Copy the newest report in all its forms to ``build/demo/<name>``."""
    folder = OUTPUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    newest = playbooks.reports(reports)[-1]
    for path in newest.parent.glob(f"{newest.stem}.*"):
        if ".evidence" not in path.suffixes:
            shutil.copy(path, folder)


def text_of(reports: Path) -> str:
    """The newest report as text."""
    return playbooks.reports(reports)[-1].with_suffix(".txt").read_text(encoding="utf-8")


def working_server() -> servers.Server:
    """The server with its client; one that an earlier run left broken is made anew."""
    if SERVER in injections.current():
        phases.restore_by_name(SERVER)
    server = servers.add(SERVER)
    if not rule_present(server):
        servers.remove(SERVER)
        server = servers.add(SERVER)
    clients.add(SERVER)
    seen = clients.wait(SERVER, ok=True, timeout=60, rounds=2)
    print(f"    {server.tracking_uri}: the client logged a run in {seen[-1]['seconds']} s")
    return server


def break_it(server: servers.Server) -> injections.Injection:
    """Close the security group, end the old connections, and wait until the client fails."""
    fault = reading.read_all(FOLDER, [FAULT])[FAULT]
    injection = phases.inject(FAULT, fault, FOLDER, server)
    seen = clients.wait(SERVER, ok=False, timeout=90, since=injection.since)
    print(f"    the client failed at {seen[-1]['step']} after {seen[-1]['seconds']} s: {seen[-1]['error'][:SHOWN]}")
    return injection


def remediate(server: servers.Server, reports: Path, digest: str | None) -> playbooks.Run:
    """Run ``remediate`` with the one step allowed, and the digest of a plan approved."""
    approved = {} if digest is None else {"mlflow_approved_plan": digest}
    return playbooks.run("remediate", server, reports, {"mlflow_allowed_steps": STEP, **approved})


def refuses(server: servers.Server, reports: Path, digest: str | None) -> None:
    """Require that ``remediate`` fails for want of approval alone and changes nothing."""
    done = remediate(server, reports, digest)
    require(done.code != 0, "remediate did not fail")
    require(not rule_present(server), "remediate put the rule back without approval")
    reasons = [reason for step in playbooks.newest(reports)["plan"]["steps"] for reason in step["refused"]]
    require([reason["guard"] for reason in reasons] == ["approval"], f"remediate was refused for {reasons}")
    print(f"    {reasons[0]['reason']}")


def show_plan(report: dict[str, Any]) -> None:
    """Print each step of the plan with its exact change and undo, and the plan's digest."""
    for step in report["plan"]["steps"]:
        shown = {key: step[key] for key in ("step", "class", "change", "undo")}
        print(textwrap.indent(yaml.safe_dump(shown, sort_keys=False), "    "), end="")
    print(f"    digest: {report['plan']['digest']}")


def broken_and_repaired(server: servers.Server, reports: Path) -> None:
    """Break the server, diagnose it, be refused twice, repair it, and see it healthy again."""
    with doing("remove the security-group rule, end the database's old connections, wait until the client fails"):
        injection = break_it(server)
    with doing("ansible-playbook mlops.mlflow_runbook.diagnose -e mlflow_namespace=mlflow"):
        report, _run = playbooks.diagnose(server, reports)
        copy_newest(reports, "before")
        print(text_of(reports))
        show_plan(report)
        named = [(cause["id"], cause["object"]) for cause in report["verdict"]["causes"]]
        require(named == [(CAUSE, server.database["security_group_id"])], f"the causes are {named}")
    with doing("remediate without the plan's digest, and with another one: both have to be refused"):
        refuses(server, reports, None)
        refuses(server, reports, NO_DIGEST)
    with doing("remediate with the digest"):
        begin = datetime.now(UTC)
        done = remediate(server, reports, report["plan"]["digest"])
        require(done.code == 0, f"remediate ended with {done.code}:\n{done.output[-playbooks.SHOWN :]}")
        outcome = playbooks.newest(reports).get("outcome")
        require(outcome == "fixed", f"the outcome is {outcome}")
        seen = clients.wait(SERVER, ok=True, timeout=60, since=begin, rounds=2)
        print(f"    outcome: {outcome}; the client logged a run again at {seen[0]['at']}")
        injection.forget()
    with doing("diagnose once more"):
        report, _run = playbooks.diagnose(server, reports)
        copy_newest(reports, "after")
        require(report["verdict"]["status"] == "healthy", f"the status is {report['verdict']['status']}")
        print(text_of(reports))


def main() -> int:
    """Run the demonstration; 0 when everything was as it says."""
    started = time.monotonic()
    reports = OUTPUT / "reports"
    shutil.rmtree(OUTPUT, ignore_errors=True)
    try:
        with doing("lab up"):
            lifecycle.up()
        with doing("a server and a client"):
            server = working_server()
        with doing("diagnose the healthy server (this records the baseline)"):
            report, _run = playbooks.diagnose(server, reports)
            require(report["verdict"]["status"] == "healthy", f"the status is {report['verdict']['status']}")
            print(text_of(reports))
        broken_and_repaired(server, reports)
    except LabError as error:
        print(f"\ndemo failed: {error}", file=sys.stderr)
        return 1
    print(f"\ndemo done in {time.monotonic() - started:.0f} s; reports: {OUTPUT}/before and {OUTPUT}/after")
    return 0


if __name__ == "__main__":
    sys.exit(main())
