# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.lab.leaks NAME``: plant secrets around a server of that name, diagnose and escalate, find none."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.lab import kube, operator, servers
from tests.lab.faults.playbooks import ansible_playbook, environment
from tests.lab.leaks import planted, search
from tests.lab.leaks.watch import Watch
from tests.lab.settings import LabError

PLAYBOOKS = ("diagnose", "escalate")
TIME_OUT = 600
COLLECTION_SECONDS = 300
"""On a busy machine nothing may be missing for lack of time."""

SHOWN = 2000
MARKS = ("log", "uri", "header", "github", "aws", "statement", "json", "key", "sql")
"""What must be seen of the planted text, so that a run that looked at nothing does not pass."""


def say(text: str) -> None:
    print(f"leaks: {text}", flush=True)


def run(playbook: str, name: str, folder: Path) -> tuple[int, bytes, Watch]:
    """Run a playbook at ``-vvv`` as the operator, with its temporary files in a folder that is watched."""
    temporary = folder / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    variables = {
        "TMPDIR": str(temporary),
        "ANSIBLE_LOCAL_TEMP": str(temporary / "ansible"),
        "ANSIBLE_REMOTE_TEMP": str(temporary / "remote"),
    }
    chosen = {
        "mlflow_namespace": name,
        "mlflow_report_dir": str(folder / "reports"),
        "mlflow_timeout_seconds": str(COLLECTION_SECONDS),
    }
    words = [word for key, value in chosen.items() for word in ("-e", f"{key}={value}")]
    with Watch(temporary) as watch:
        done = subprocess.run(
            [ansible_playbook(), f"mlops.mlflow_runbook.{playbook}", "-vvv", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIME_OUT,
            check=False,
            env={**environment(operator.FULL), **variables},
        )
    return done.returncode, done.stdout, watch


def look(name: str, folder: Path, values: set[str]) -> list[str]:
    """Run the playbooks and return what was found wrong."""
    wrong = []
    for playbook in PLAYBOOKS:
        code, output, watch = run(playbook, name, folder)
        if code:
            raise LabError(f"{playbook} ended with {code}:\n{output.decode(errors='replace')[-SHOWN:]}")
        places = {**watch.seen, **search.files(folder / "reports"), "console": output}
        commands = sum(place.startswith("command line") for place in places)
        say(f"{playbook}: {len(places)} places, {commands} command lines in {watch.samples} samples")
        if not commands or not any("evidence.json" in place for place in places):
            wrong.append(f"{playbook}: neither command lines nor evidence were seen")
        wrong += [f"{playbook}: {hit}" for hit in search.search(places, values)]
    [bundle] = (folder / "reports").glob("*/*.tar.gz")
    if bundle.stat().st_mode & 0o777 != 0o600:
        wrong.append(f"{bundle.name} is not for its owner alone")
    return wrong + unseen(search.files(folder / "reports"))


def unseen(places: dict[str, bytes]) -> list[str]:
    """Name the planted texts that are nowhere in the bundle."""
    logs = b"".join(content for place, content in places.items() if ":" in place and "/logs/" in place)
    cloud = b"".join(content for place, content in places.items() if ":" in place and "/cloudwatch/" in place)
    events = b"".join(content for place, content in places.items() if place.endswith("events.txt"))
    services = b"".join(content for place, content in places.items() if "kubernetes/services." in place)
    missing = [f"the log's {mark}" for mark in MARKS if f"{planted.MARK} {mark}".encode() not in logs]
    missing += [f"CloudWatch's {mark}" for mark in MARKS[:-1] if f"{planted.MARK} {mark}".encode() not in cloud]
    missing += ["the events"] if planted.MARK.encode() not in events else []
    missing += ["the annotation"] if planted.MARK.encode() not in services else []
    told = b"".join(content for place, content in places.items() if place.endswith("not-seen.txt"))
    why = [line.decode(errors="replace") for line in told.splitlines()[2:]] if missing else []
    return [f"{what} did not reach the bundle, so that nothing is proven" for what in missing] + why


def refused(server: servers.Server, folder: Path) -> list[str]:
    """Let a Secret hold what the bundle cannot do without, the namespace: nothing may be written then."""
    patch = {"stringData": {"token": server.namespace}}
    kube.patch("v1", "Secret", planted.SECRET, patch, namespace=server.namespace)
    code, output, _watch = run("escalate", server.namespace, folder)
    text = " ".join(output.decode(errors="replace").split())
    say(text[text.find("no bundle was written") :][:200])
    bundles = list(folder.rglob("*.tar.gz"))
    wrong = [] if code and "no bundle was written, since it would hold secrets" in text else ["escalate did not refuse"]
    wrong += ["the refusal names no part"] if "report.json (a known secret value, as it is" not in text else []
    return wrong + [f"{path.name} was written nevertheless" for path in bundles]


def main() -> int:
    """Run the whole check; the exit code is 1 when anything leaked."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.leaks", description=__doc__)
    parser.add_argument("name", help="server to add and to remove again")
    parser.add_argument("--keep", action="store_true", help="keep the server")
    name = parser.parse_args().name
    keep = parser.parse_args().keep
    started = time.monotonic()
    values = planted.make()
    try:
        with tempfile.TemporaryDirectory(prefix="leaks-") as folder:
            server = planted.plant(name, values)
            keys = {server.database["password"], server.backend_store_uri, own_key()}
            say(f"{len(values.values() | keys)} secrets are planted after {time.monotonic() - started:.0f} s")
            wrong = look(name, Path(folder), values.values() | keys) + refused(server, Path(folder, "refused"))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if not keep and name in servers.names():
            planted.remove(name)
    for line in wrong:
        say(line)
    say(f"{'nothing leaked' if not wrong else f'{len(wrong)} problems'} after {time.monotonic() - started:.0f} s")
    return 1 if wrong else 0


def own_key() -> str:
    """The operator's own secret key, which every call is signed with."""
    return str(operator.environment()["AWS_SECRET_ACCESS_KEY"])


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
