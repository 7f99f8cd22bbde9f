# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs of a fault file: what the client, psql, the Kubernetes API, AWS and the logs say, never the collection."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jmespath
from botocore.exceptions import ClientError
from kubernetes.client.exceptions import ApiException

from tests.lab import clients, cloud, kube, processes, servers
from tests.lab.faults import model
from tests.lab.faults.injection import Injection
from tests.lab.settings import LabError

POLL = 0.5
PSQL_TIME_OUT = 5
SHOWN = 300


@dataclass(frozen=True)
class Result:
    """Whether a proof holds, and in words what was seen."""

    holds: bool
    text: str


def prove_all(proofs: list[model.Proof], injection: Injection) -> list[Result]:
    """Try proofs one after the other, each for as long as it may take; ends with the first that does not hold."""
    results = []
    for proof in proofs:
        results.append(prove(proof, injection))
        if not results[-1].holds:
            break
    return results


def prove(proof: model.Proof, injection: Injection) -> Result:
    """Try a proof until it holds or its time is over."""
    deadline = time.monotonic() + proof.within
    check = CHECKS[proof.kind]
    wanted = injection.rendered(getattr(proof, proof.kind))
    while True:
        try:
            result = check(wanted, injection)
        except (ApiException, ClientError, LabError) as error:
            result = Result(False, str(error).strip())
        if result.holds or time.monotonic() > deadline:
            return Result(result.holds, f"{proof.kind}: {result.text[:SHOWN]}")
        time.sleep(POLL)


def _client(wanted: model.ClientProof, injection: Injection) -> Result:
    last = clients.observe(injection.server.name, injection.since)[-wanted.rounds :]
    if len(last) < wanted.rounds:
        return Result(False, f"{len(last)} of {wanted.rounds} runs since {injection.since:%H:%M:%S}")
    holds = all(
        clients.matches(one, wanted.ok, wanted.step)
        and (wanted.error is None or re.search(wanted.error, str(one["error"])) is not None)
        for one in last
    )
    return Result(holds, json.dumps(last[-1]))


def client_process(server: servers.Server) -> int:
    """Id of a process in the pod of the server's client; LabError when it does not run."""
    for pod in kube.list_objects("v1", "Pod", clients.NAMESPACE, f"app={clients.deployment(server.name)}"):
        for group in Path("/proc").glob("[0-9]*/cgroup"):
            with contextlib.suppress(OSError):
                if pod["metadata"]["uid"] in group.read_text(encoding="utf-8"):
                    return int(group.parent.name)
    raise LabError(f"the client of {server.name} does not run")


def psql(server: servers.Server, statement: str, password: str) -> tuple[bool, str]:
    """Run psql in the network of the server's client, as the server's user over TLS.

    Returns whether it succeeded, and what it wrote. Its network is a pod's, since packets of the node itself pass no
    security group; the address is given, since the host's resolver does not know the name.
    """
    parameters = {
        "hostaddr": server.database["address"],
        "host": server.database["endpoint"],
        "port": server.database["port"],
        "dbname": server.database["database"],
        "user": server.database["user"],
        "sslmode": "require",
        "connect_timeout": PSQL_TIME_OUT,
    }
    connection = " ".join(f"{key}={value}" for key, value in parameters.items())
    argv = ["psql", "--no-psqlrc", "--no-password", "--tuples-only", "--no-align", connection, "--command", statement]
    network = f"--net=/proc/{client_process(server)}/ns/net"
    try:
        output = processes.run(["nsenter", network, "--", *argv], timeout=60, env={"PGPASSWORD": password})
    except LabError as error:
        return False, str(error)
    return True, output


def _psql(wanted: model.PsqlProof, injection: Injection) -> Result:
    succeeded, text = psql(injection.server, wanted.statement, wanted.password)
    pattern = wanted.fails if wanted.matches is None else wanted.matches
    holds = succeeded == (wanted.fails is None) and re.search(pattern or "", text) is not None
    return Result(holds, text.strip())


def compare(wanted: model.Compared, found: Any) -> Result:
    """Compare a value with what is wanted."""
    text = found if isinstance(found, str) else json.dumps(found, default=str)
    holds = found == wanted.equals if wanted.matches is None else re.search(wanted.matches, text) is not None
    return Result(holds, text)


def _kubernetes(wanted: model.KubernetesProof, _injection: Injection) -> Result:
    place = (wanted.api_version, wanted.object_kind)
    if wanted.name is not None:
        found: Any = kube.get(*place, wanted.name, wanted.namespace)
    else:
        found = kube.list_objects(*place, wanted.namespace, wanted.selector or "")
    return compare(wanted, jmespath.search(wanted.path, found))


def _aws(wanted: model.AwsProof, _injection: Injection) -> Result:
    answer = getattr(cloud.admin(wanted.service), wanted.operation)(**wanted.parameters)
    return compare(wanted, jmespath.search(wanted.path, answer))


def _log(wanted: model.LogProof, _injection: Injection) -> Result:
    pods = kube.list_objects("v1", "Pod", wanted.namespace, wanted.selector)
    for pod in pods:
        try:
            log = kube.pod_log(wanted.namespace, pod["metadata"]["name"], wanted.container, wanted.previous)
        except ApiException:
            continue
        for line in log.splitlines():
            if re.search(wanted.matches, line):
                return Result(True, line)
    return Result(False, f"no such line in the log of {len(pods)} pods")


CHECKS: dict[str, Callable[[Any, Injection], Result]] = {
    "client": _client,
    "psql": _psql,
    "kubernetes": _kubernetes,
    "aws": _aws,
    "log": _log,
}
