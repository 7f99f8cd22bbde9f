# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions of a fault file; what they change in the lab by themselves is noted down, so that it can be undone."""

from __future__ import annotations

import contextlib
import json
import shlex
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from tests.lab import clients, cloud, database, kube, network, settings
from tests.lab.faults import model, symptoms
from tests.lab.faults.injection import Injection
from tests.lab.settings import LabError

COMMENT = ("-m", "comment", "--comment", "fault")


def perform_all(actions: list[model.Action], injection: Injection) -> None:
    """Perform actions one after the other."""
    for action in actions:
        perform(action, injection)


def perform(action: model.Action, injection: Injection) -> None:
    """Perform one action and keep its result where it says so."""
    chosen = getattr(action, action.kind)
    result = PERFORMERS[action.kind](injection.rendered(chosen), injection)
    if action.register_as:
        injection.registered[action.register_as] = json.loads(json.dumps(result, default=str))
        injection.save()
    if action.kind != "wait":
        injection.since = datetime.now(UTC)


def _apply(manifest: dict[str, Any], injection: Injection) -> dict[str, Any]:
    metadata = manifest["metadata"]
    if "namespace" not in metadata and manifest["kind"] != "Namespace":
        metadata["namespace"] = injection.server.namespace
    injection.remember_object(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace"))
    kube.apply([manifest])
    return manifest


def _named(reference: model.Reference) -> list[str]:
    """Names of the objects that are meant; those of a selector are the ones that exist."""
    if reference.name is not None:
        return [reference.name]
    found = kube.list_objects(
        reference.api_version, reference.object_kind, reference.namespace, reference.selector or ""
    )
    return [item["metadata"]["name"] for item in found]


def _patch(patch: model.Patch, injection: Injection) -> None:
    for name in _named(patch):
        injection.remember_object(patch.api_version, patch.object_kind, name, patch.namespace)
        kube.patch(
            patch.api_version,
            patch.object_kind,
            name,
            patch.patch,
            namespace=patch.namespace,
            kind_of_patch=patch.type,
        )


def _delete(delete: model.Delete, injection: Injection) -> None:
    uids = {}
    for name in _named(delete):
        found = kube.get(delete.api_version, delete.object_kind, name, delete.namespace)
        if found:
            uids[name] = found["metadata"]["uid"]
            injection.remember_object(delete.api_version, delete.object_kind, name, delete.namespace)
            kube.delete(delete.api_version, delete.object_kind, name, delete.namespace, wait=False)

    def gone() -> bool:
        now = {name: kube.get(delete.api_version, delete.object_kind, name, delete.namespace) for name in uids}
        return all(found is None or found["metadata"]["uid"] != uids[name] for name, found in now.items())

    kube.wait_until(gone, f"{delete.object_kind} {', '.join(uids)} to be gone", delete.timeout)


def _sql(sql: model.Sql, injection: Injection) -> Any:
    identifier = injection.server.db_instance_identifier
    return database.sql(identifier, sql.statement, database=sql.database, user=sql.user)


def _aws(call: model.Aws, _injection: Injection) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = getattr(cloud.admin(call.service), call.operation)(**call.parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] in call.ignore:
            return {}
        raise
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def _packets(packets: model.Packets, injection: Injection) -> None:
    rule = [packets.chain, *shlex.split(packets.rule), *COMMENT]
    if packets.rule.find(" -j ") < 0:
        raise ValueError(f"packets.rule needs a target (-j), not {packets.rule!r}")
    injection.remember({"packets": ["-t", packets.table, "-D", *rule]})
    network.iptables("-t", packets.table, "-I", *rule)


def _command(command: model.Command, _injection: Injection) -> list[str]:
    pods = kube.list_objects("v1", "Pod", command.namespace, command.selector)
    running = [pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") == "Running"]
    if not running:
        raise LabError(f"no pod runs in {command.namespace} with {command.selector}")
    outputs = []
    for pod in running:
        try:
            outputs.append(kube.exec(command.namespace, pod, command.argv, command.container, command.timeout))
        except LabError:
            if not command.may_fail:
                raise
    return outputs


def _old_log(old: model.OldLog, _injection: Injection) -> None:
    at = (datetime.now(UTC) - timedelta(hours=old.age_hours)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
    head = "".join(f"{at} stderr F {line}\n" for line in old.lines)
    for pod in kube.list_objects("v1", "Pod", old.namespace, old.selector):
        folder = settings.state_dir() / "pods" / f"{old.namespace}_{pod['metadata']['name']}_{pod['metadata']['uid']}"
        newest = max((folder / old.container).glob("*.log"), key=lambda path: int(path.stem))
        with newest.open("r+", encoding="utf-8") as file:  # in place: the runtime goes on appending to it
            text = file.read()
            file.seek(0)
            file.write(head + text)


def _client(options: clients.ClientOptions, injection: Injection) -> None:
    injection.remember({"client": injection.server.name})
    clients.add(injection.server.name, **options.model_dump(exclude_unset=True))


def _database(change: model.Database, injection: Injection) -> None:
    identifier = injection.server.db_instance_identifier
    injection.remember({"database": identifier})
    if change.refuse is not None:
        database.refuse(identifier, change.refuse)
    if change.drop is not None:
        database.drop(identifier, change.drop)
    if change.slow is not None:
        database.slow(identifier, change.slow)
    if change.fill is not None:
        database.fill_connections(identifier, change.fill.leave, change.fill.user)
    if change.read_only is not None:
        database.read_only(identifier, change.read_only)
    if change.hold is not None:
        database.hold(identifier, change.hold)
    if change.hold_seconds is not None:
        database.hold(identifier)
        release = threading.Timer(change.hold_seconds, _let_go, [identifier])
        release.daemon = True
        release.start()
    if change.lock is not None:
        database.lock_table(identifier, change.lock)
    if change.process is not None:
        (database.stop_process if change.process == "stopped" else database.start_process)(identifier)
    if change.drop_connections:
        database.drop_connections(identifier)


def _let_go(identifier: str) -> None:
    """End what lingers, unless its server is gone meanwhile."""
    with contextlib.suppress(LabError):
        database.hold(identifier, on=False)


def _wait(wait: model.Wait, injection: Injection) -> None:
    if wait.until is None:
        injection.pause(wait.seconds or 0)
        return
    result = symptoms.prove(wait.until, injection)
    if not result.holds:
        raise LabError(f"waited {wait.until.within:g} s in vain: {result.text}")


def _together(actions: list[model.Action], injection: Injection) -> None:
    with ThreadPoolExecutor(len(actions) or 1) as pool:
        for outcome in [pool.submit(perform, action, injection) for action in actions]:
            outcome.result()


PERFORMERS: dict[str, Callable[[Any, Injection], Any]] = {
    "apply": _apply,
    "patch": _patch,
    "delete": _delete,
    "sql": _sql,
    "aws": _aws,
    "packets": _packets,
    "command": _command,
    "old_log": _old_log,
    "client": _client,
    "database": _database,
    "wait": _wait,
    "together": _together,
}


def undo_all(injection: Injection) -> None:
    """Undo what the actions changed by themselves, last first; each is forgotten once it is undone."""
    while injection.undo:
        _undo(injection.undo[-1])
        injection.undo.pop()
        injection.save()


def _undo(note: dict[str, Any]) -> None:
    if "packets" in note:
        network.iptables(*note["packets"], check=False)
    elif "client" in note:
        clients.add(note["client"])
    elif "database" in note:
        database.start_process(note["database"])
        database.normal(note["database"])
    elif note["before"] is None:
        kube.delete(note["apiVersion"], note["kind"], note["name"], note["namespace"])
    elif kube.get(note["apiVersion"], note["kind"], note["name"], note["namespace"]) is None:
        kube.apply([note["before"]])
    else:
        kube.replace(note["before"])
