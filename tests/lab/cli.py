# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab: ``python -m tests.lab``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from tests.lab.progress import say
from tests.lab.settings import LabError

Command = Callable[[argparse.Namespace], None]


def _setting(text: str) -> tuple[str, Any]:
    """``key=value`` of the command line; the value is YAML, so numbers and lists come as what they are."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not key=value")
    return name, yaml.safe_load(value)


def _up(_arguments: argparse.Namespace) -> None:
    from tests.lab import lifecycle

    lifecycle.up()


def _down(_arguments: argparse.Namespace) -> None:
    from tests.lab import lifecycle

    lifecycle.down()


def _status(_arguments: argparse.Namespace) -> None:
    from tests.lab import lifecycle

    status = lifecycle.status()
    print(yaml.safe_dump(status, sort_keys=False), end="")
    if not status["up"]:
        raise LabError("the lab is not up")


def _env(_arguments: argparse.Namespace) -> None:
    from tests.lab import lifecycle, operator

    if not lifecycle.is_up():
        raise LabError("the lab is not up: python -m tests.lab up")
    for name, value in operator.environment().items():
        print(f"export {name}={shlex.quote(value)}")


def _server_add(arguments: argparse.Namespace) -> None:
    from tests.lab import servers

    began = time.monotonic()
    server = servers.add(arguments.name, arguments.layout, **dict(arguments.set))
    say(f"server {server.name} is ready in namespace {server.namespace} after {time.monotonic() - began:.1f} s")


def _server_remove(arguments: argparse.Namespace) -> None:
    from tests.lab import servers

    servers.remove(arguments.name)


def _server_list(_arguments: argparse.Namespace) -> None:
    from tests.lab import servers

    for server in servers.every():
        print(f"{server.name}\t{server.namespace}/{server.deployment}\t{server.db_instance_identifier}")


def _client_add(arguments: argparse.Namespace) -> None:
    from tests.lab import clients

    clients.add(arguments.name, **dict(arguments.set))


def _client_stop(arguments: argparse.Namespace) -> None:
    from tests.lab import clients

    clients.stop(arguments.name)


def _client_remove(arguments: argparse.Namespace) -> None:
    from tests.lab import clients

    clients.remove(arguments.name)


def _client_show(arguments: argparse.Namespace) -> None:
    from tests.lab import clients

    for observation in clients.observe(arguments.name):
        print(json.dumps(observation))


def _fault_inject(arguments: argparse.Namespace) -> None:
    from tests.lab.faults import phases
    from tests.lab.faults.__main__ import FOLDER

    for result in phases.inject_by_name(arguments.server, arguments.fault, FOLDER):
        print(result)


def _fault_restore(arguments: argparse.Namespace) -> None:
    from tests.lab.faults import phases

    phases.restore_by_name(arguments.server)


def _fault_list(_arguments: argparse.Namespace) -> None:
    from tests.lab.faults import injection, reading
    from tests.lab.faults.__main__ import FOLDER

    into = {fault: server for server, fault in injection.current().items()}
    for name, fault in reading.read_all(FOLDER).items():
        print(f"{name}\t{into.get(name, '')}\t{fault.title}")


def _demo(_arguments: argparse.Namespace) -> None:
    from tests.lab import demo

    sys.exit(demo.main())


def parser() -> argparse.ArgumentParser:
    """The parser; each command carries its function as ``run``."""
    top = argparse.ArgumentParser(prog="python -m tests.lab", description="A real MLflow platform on this machine.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(group: Any, name: str, run: Command, text: str, *positional: str) -> argparse.ArgumentParser:
        command = group.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        for argument in positional:
            command.add_argument(argument)
        return command

    def group(name: str, text: str) -> Any:
        command = commands.add_parser(name, help=text, description=text)
        return command.add_subparsers(required=True, metavar="COMMAND")

    add(commands, "up", _up, "bring the lab up, building what is missing")
    add(commands, "down", _down, "take the lab down; nothing of it stays but the cache")
    add(commands, "status", _status, "what runs")
    add(commands, "env", _env, 'environment of the operator: eval "$(python -m tests.lab env)"')
    add(commands, "demo", _demo, "break a server, diagnose it, repair it, prove it")

    server = group("server", "MLflow servers")
    server_add = add(server, "add", _server_add, "add a server and wait until it is ready", "name")
    server_add.add_argument("--layout", default="mlflow", help="mlflow, asgard, or the path of a layout")
    add(server, "remove", _server_remove, "take a server away", "name")
    add(server, "list", _server_list, "list the servers")

    client = group("client", "the client of a server: a job that logs runs")
    client_add = add(client, "add", _client_add, "start the client, or change how it behaves", "name")
    add(client, "stop", _client_stop, "let it log nothing", "name")
    add(client, "remove", _client_remove, "take it away", "name")
    add(client, "show", _client_show, "what it saw, as JSON lines", "name")
    for command in (server_add, client_add):
        command.add_argument("--set", action="append", default=[], type=_setting, metavar="KEY=VALUE")

    fault = group("fault", "faults in servers")
    add(fault, "inject", _fault_inject, "put a fault of tests/faults into a server", "fault", "server")
    add(fault, "restore", _fault_restore, "take the fault out of a server again", "server")
    add(fault, "list", _fault_list, "list faults and the servers that they are in")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a problem of the lab is one sentence and exit code 1."""
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
    return 0
