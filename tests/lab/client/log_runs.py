# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A training job that logs a run every few seconds with the MLflow client and says in JSON lines how it went.

Each round is a process of its own, forked after the import: like a real job it comes with new connections, and
importing MLflow is paid for once. Settings are environment variables: MLFLOW_TRACKING_URI and MLflow's own time-outs,
INTERVAL (seconds between rounds), DEADLINE (seconds a round may take), EXPERIMENT, METRICS (points per run),
ARTIFACT_BYTES.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

INTERVAL = float(os.environ.get("INTERVAL", "3"))
DEADLINE = float(os.environ.get("DEADLINE", "15"))
EXPERIMENT = os.environ.get("EXPERIMENT", "training")
METRICS = int(os.environ.get("METRICS", "5"))
ARTIFACT_BYTES = int(os.environ.get("ARTIFACT_BYTES", "1024"))
MODEL = f"{EXPERIMENT}-model"
ERROR_LENGTH = 600


def experiment_id(client: MlflowClient) -> str:
    """Id of the experiment, made when it is not there."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)


def log_artifact(client: MlflowClient, run_id: str) -> None:
    """Upload one file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.bin"
        path.write_bytes(os.urandom(ARTIFACT_BYTES))
        client.log_artifact(run_id, str(path))


def register_model(client: MlflowClient, run_id: str, source: str) -> None:
    """Register the run's artifacts as one more version of the model."""
    try:
        client.create_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.create_model_version(MODEL, source, run_id, await_creation_for=0)


def steps(client: MlflowClient) -> Iterator[tuple[str, Callable[[], object]]]:
    """The steps of one run in order; each is called before the next is asked for."""
    found: dict[str, str] = {}
    yield "experiment", lambda: found.update(id=experiment_id(client))
    run_box = []
    yield "run", lambda: run_box.append(client.create_run(found["id"]))
    run = run_box[0].info
    now = int(time.time() * 1000)
    metrics = [Metric("loss", 1 / (step + 1), now, step) for step in range(METRICS)]
    yield "params", lambda: client.log_batch(run.run_id, params=[Param("rate", "0.1"), Param("depth", "4")])
    yield "metrics", lambda: client.log_batch(run.run_id, metrics=metrics)
    yield "artifact", lambda: log_artifact(client, run.run_id)
    yield "model", lambda: register_model(client, run.run_id, f"{run.artifact_uri}/weights.bin")
    yield "finish", lambda: client.set_terminated(run.run_id)


def log_run(report: int) -> None:
    """Log one run; each step's name goes to the pipe ``report`` as it begins, and an error at its end."""
    client = MlflowClient()
    for name, call in steps(client):
        os.write(report, json.dumps({"step": name}).encode() + b"\n")
        try:
            call()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
            os.write(report, json.dumps({"step": name, "error": text}).encode() + b"\n")
            return
    os.write(report, b'{"step": "", "done": true}\n')


def read_until(descriptor: int, deadline: float) -> str:
    """Everything the child wrote until it closed the pipe or the time (``time.monotonic``) has come."""
    data = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        chunk = os.read(descriptor, 4096)
        if not chunk:
            break
        data += chunk
    return data.decode()


def round_result() -> dict[str, object]:
    """Run one round in a child process and say how it went."""
    at, started = datetime.now(UTC), time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            log_run(writer)
        finally:
            os._exit(0)
    os.close(writer)
    lines = [json.loads(line) for line in read_until(reader, started + DEADLINE).splitlines()]
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    last = lines[-1] if lines else {"step": "start"}
    ok = bool(last.get("done"))
    error = last.get("error") or ("" if ok else f"no answer within {DEADLINE:g} s")
    seconds = round(time.monotonic() - started, 3)
    return {"at": at.isoformat(), "ok": ok, "step": last["step"], "error": error, "seconds": seconds}


def main() -> None:
    """Log runs for ever."""
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit(0))
    while True:
        print(json.dumps(round_result()), flush=True)
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main()
