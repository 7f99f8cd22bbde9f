# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as a whole: build what is missing, bring it up, take it down, tell how it is."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.lab import build, controlplane, debian, host, image, kubeconfig, network, processes, remains, settings
from tests.lab.progress import say, step


@contextmanager
def exclusively() -> Iterator[None]:
    """Hold the lab's lock: one ``up`` or ``down`` at a time."""
    settings.cache_dir().mkdir(parents=True, exist_ok=True)
    with (settings.cache_dir() / "lab.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("wait for another up or down of the lab")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare() -> None:
    """Install and build everything that is missing; the Go programs (CPU) beside the image (network)."""
    host.check(cold=bool(build.go_missing()) or not image.ready())
    debian.ensure()
    host.check_network_features()
    if not build.go_missing() and image.ready():
        return
    say("the parts of the lab are built once and kept; this takes up to 25 minutes")
    _together(build.build_go, image.prepare_layers)
    image.build_store()


def _together(*tasks: Callable[[], object]) -> None:
    with ThreadPoolExecutor(max_workers=len(tasks)) as pool:
        for future in [pool.submit(task) for task in tasks]:
            future.result()


def up() -> None:
    """Bring the lab up, unless it is; what is left of an earlier one that was killed goes first."""
    with exclusively():
        prepare()
        if is_up():
            say("the lab is up")
            return
        with step("clear what an earlier lab left"):
            remains.clear()
        from tests.lab import cloud, cluster, noise

        remains.remember()
        network.up()
        cluster.start()
        _together(cluster.wait_for_system_pods, partial(_start_cloud, cloud.up))
        noise.up()
        settings.write_text(_marker(), json.dumps({"repository": str(settings.REPOSITORY)}))
        say("the lab is up")


def _start_cloud(start: Callable[[], None]) -> None:
    with step("start the AWS emulation"):
        start()


def down() -> None:
    """Take the lab down; nothing of it stays but the cache."""
    with exclusively(), step("take the lab down"):
        remains.clear()


def _marker() -> Path:
    return settings.state_dir() / "up.json"


def is_up() -> bool:
    """Whether the lab came up and every daemon that was started since still runs."""
    return _marker().exists() and not stopped_daemons() and _api_answers()


def stopped_daemons() -> list[str]:
    """Daemons on record that do not run."""
    return [name for name in processes.names() if not processes.alive(name)]


def _api_answers() -> bool:
    try:
        return controlplane.api_ready()
    except Exception:  # whatever the client raises, it is no answer
        return False


def status() -> dict[str, Any]:
    """What there is: ``up``, daemons and whether they run, servers, injected faults, addresses for a shell."""
    from tests.lab import servers
    from tests.lab.faults import injection

    return {
        "up": is_up(),
        "kubernetes": kubeconfig.HOST_SERVER,
        "aws": f"http://127.0.0.1:{settings.HOST_AWS_PORT}",
        "state": str(settings.state_dir()),
        "daemons": {name: processes.alive(name) for name in processes.names()},
        "servers": servers.names(),
        "faults": injection.current(),
    }
