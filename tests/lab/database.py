# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL behind RDS descriptions: one cluster and one address per RDS instance, and the states to put it into."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from psycopg import sql as compose

from tests.lab import aws, certificates, dns, identity, network, postgres, processes, settings
from tests.lab.settings import LabError

# As moto makes endpoint names.
ENDPOINT_SUFFIX = f"aaaaaaaaaa.{settings.AWS_REGION}.rds.amazonaws.com"
MAX_INSTANCES = 90
DEFAULT_MAX_CONNECTIONS = 60
# A second ordinary role in every cluster: whoever else uses the database.
OTHER_ROLE = "reporting"
# Port on which nothing listens: connections sent there are refused by the kernel.
CLOSED_PORT = 9


@dataclasses.dataclass(frozen=True)
class DatabaseInstance:
    """One RDS instance of the lab.

    Attributes:
        identifier: RDS instance identifier.
        address, port, endpoint: where it listens, and the name that the cluster's DNS gives it.
        database, user, password: the server's database, owned by its ordinary role.
        security_group_id, subnet_group, vpc_id: as RDS describes it.
        other_password: password of the second ordinary role, ``reporting``.
    """

    identifier: str
    address: str
    endpoint: str
    port: int
    database: str
    user: str
    password: str = dataclasses.field(repr=False)
    other_password: str = dataclasses.field(repr=False)
    security_group_id: str
    subnet_group: str
    vpc_id: str

    @property
    def folder(self) -> Path:
        """Folder of the cluster: its socket, its data and its description."""
        return _root() / self.address.rpartition(".")[2]

    @property
    def daemon(self) -> str:
        """Name of its process on record."""
        return f"postgres-{self.identifier}"

    def uri(self, scheme: str = "postgresql+psycopg2") -> str:
        """Connection URI with the password, for the server's Secret."""
        return f"{scheme}://{self.user}:{self.password}@{self.endpoint}:{self.port}/{self.database}"


def _root() -> Path:
    path = settings.state_dir() / "databases"
    path.mkdir(parents=True, exist_ok=True)
    return path


def instances() -> list[DatabaseInstance]:
    """All instances of the lab, by address."""
    found = []
    for file in sorted(_root().glob("*/instance.json")):
        with contextlib.suppress(FileNotFoundError):  # It may be removed at this very moment.
            found.append(DatabaseInstance(**json.loads(file.read_text(encoding="utf-8"))))
    return found


def get(identifier: str) -> DatabaseInstance:
    """The instance ``identifier``; LabError when there is none."""
    for instance in instances():
        if instance.identifier == identifier:
            return instance
    raise LabError(f"there is no database {identifier}")


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    with (_root() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _free_address() -> str:
    taken = {int(path.name) for path in _root().iterdir() if path.name.isdigit()}
    first = settings.DATABASE_ADDRESS_FIRST
    for number in range(first, first + MAX_INSTANCES):
        if number not in taken:
            (_root() / str(number)).mkdir()
            return f"{settings.DATABASE_ADDRESS_BASE}{number}"
    raise LabError(f"the lab has {MAX_INSTANCES} databases already")


def create_instance(
    identifier: str,
    database: str = "mlflow",
    user: str = "mlflow",
    *,
    max_connections: int = DEFAULT_MAX_CONNECTIONS,
    group: identity.Network | None = None,
) -> DatabaseInstance:
    """Create an RDS instance with its PostgreSQL cluster, security group and name; it accepts connections on return.

    Args:
        identifier: RDS instance identifier.
        database, user: database and its owner, an ordinary role with a random password.
        max_connections: of the cluster, three of them reserved for superusers.
        group: its place in the network; by default made by ``identity.create_network(identifier)``.
    """
    place = group or identity.create_network(identifier)
    with _lock():
        address = _free_address()
    instance = DatabaseInstance(
        identifier=identifier,
        address=address,
        endpoint=f"{identifier}.{ENDPOINT_SUFFIX}",
        port=postgres.PORT,
        database=database,
        user=user,
        password=secrets.token_urlsafe(18),
        other_password=secrets.token_urlsafe(18),
        security_group_id=place.security_group_id,
        subnet_group=place.subnet_group,
        vpc_id=place.vpc_id,
    )
    network.add_address(address)
    certificate = certificates.issue(f"rds-{identifier}", [instance.endpoint])
    postgres.create(instance.folder, address, max_connections, certificate)
    settings.write_text(instance.folder / "instance.json", json.dumps(dataclasses.asdict(instance)), mode=0o600)
    postgres.start(instance.daemon, instance.folder)
    _create_roles(instance)
    _publish_names()
    _describe(instance)
    return instance


def _create_roles(instance: DatabaseInstance) -> None:
    with postgres.connect(instance.folder, "postgres") as connection:
        for role, password in ((instance.user, instance.password), (OTHER_ROLE, instance.other_password)):
            statement = compose.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
            connection.execute(statement.format(compose.Identifier(role), compose.Literal(password)))
        names = compose.Identifier(instance.database), compose.Identifier(instance.user)
        connection.execute(compose.SQL("CREATE DATABASE {} OWNER {}").format(*names))


def _describe(instance: DatabaseInstance) -> None:
    identity.create_database_interface(instance.identifier, instance.address, instance.security_group_id)
    aws.admin("rds").create_db_instance(
        DBInstanceIdentifier=instance.identifier,
        DBName=instance.database,
        DBInstanceClass="db.t4g.micro",
        Engine="postgres",
        EngineVersion="15.18",
        AllocatedStorage=20,
        StorageType="gp3",
        Port=instance.port,
        MasterUsername=instance.user,
        MasterUserPassword=instance.password,
        VpcSecurityGroupIds=[instance.security_group_id],
        DBSubnetGroupName=instance.subnet_group,
        PubliclyAccessible=False,
        StorageEncrypted=True,
        CACertificateIdentifier="rds-ca-rsa2048-g1",
        Tags=[{"Key": "Name", "Value": instance.identifier}],
    )


def _publish_names() -> None:
    with _lock():
        dns.set_records("databases", {instance.endpoint: instance.address for instance in instances()})


def remove_instance(identifier: str) -> None:
    """Remove an instance with everything that ``create_instance`` made, as far as it is there."""
    for instance in instances():
        if instance.identifier == identifier:
            normal(identifier)
            _remove_files(instance)
    _publish_names()
    try:
        aws.admin("rds").modify_db_instance(DBInstanceIdentifier=identifier, DeletionProtection=False)
        aws.admin("rds").delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)
    except ClientError as error:
        if error.response["Error"]["Code"] != "DBInstanceNotFound":
            raise
    identity.remove_database_interface(identifier)
    identity.remove_network(identifier)


def _remove_files(instance: DatabaseInstance) -> None:
    processes.stop(_holder(instance.identifier))
    processes.stop(_locker(instance.identifier))
    postgres.remove(instance.daemon, instance.folder)
    if network.exists():
        network.remove_address(instance.address)


def clear() -> None:
    """Stop and delete all databases without asking AWS: for the time when its emulation is gone."""
    for instance in instances():
        processes.stop(_delayer(instance))
        _remove_files(instance)
    shutil.rmtree(_root())
    dns.set_records("databases", {})


def sql(identifier: str, statement: str, database: str | None = None, user: str | None = None) -> list[tuple[Any, ...]]:
    """Run one statement over the local socket and return its rows, an empty list when it has none.

    Args:
        database: by default the server's.
        user: by default the superuser.
    """
    instance = get(identifier)
    with postgres.connect(instance.folder, database or instance.database, user or postgres.SUPERUSER) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def is_running(identifier: str) -> bool:
    """Whether the PostgreSQL server of the instance runs."""
    return processes.alive(get(identifier).daemon)


def stop_process(identifier: str) -> None:
    """Stop PostgreSQL (sessions are ended); RDS is not told."""
    postgres.stop(get(identifier).daemon)


def start_process(identifier: str) -> None:
    """Start PostgreSQL, unless it runs; RDS is not told."""
    instance = get(identifier)
    postgres.start(instance.daemon, instance.folder)


def drop_connections(identifier: str) -> int:
    """End all sessions of clients of the server's database and return how many there were."""
    instance = get(identifier)
    statement = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = current_database()"
    )
    return int(sql(identifier, statement, instance.database)[0][0])


def _rule(instance: DatabaseInstance, table: str, chain: str, target: list[str], on: bool) -> None:
    """Set or take away one packet filter rule for packets to the instance, at the head of the chain."""
    rule = ["-d", instance.address, "-p", "tcp", "--dport", str(instance.port), "-j", *target]
    present = network.iptables("-t", table, "-S", chain)
    listed = f"-d {instance.address}/32 -p tcp -m tcp --dport {instance.port} -j {target[0]}" in present
    if on != listed:
        network.iptables("-t", table, "-I" if on else "-D", chain, *rule)


def refuse(identifier: str, on: bool = True) -> None:
    """Refuse new connections at once (reset), as a host does where nothing listens; established ones stay."""
    instance = get(identifier)
    _rule(instance, "nat", "PREROUTING", ["DNAT", "--to-destination", f"{instance.address}:{CLOSED_PORT}"], on)


def drop(identifier: str, on: bool = True) -> None:
    """Lose every packet to the database, those of established connections too."""
    _rule(get(identifier), "mangle", "PREROUTING", ["DROP"], on)


def slow(identifier: str, milliseconds: int) -> None:
    """Delay every packet to the database; 0 ends it. Established connections feel it too."""
    instance = get(identifier)
    name, queue = _delayer(instance), instance.address.rpartition(".")[2]
    target = ["NFQUEUE", "--queue-num", queue, "--queue-bypass"]
    _rule(instance, "mangle", "INPUT", target, False)
    processes.stop(name)
    if milliseconds:
        processes.start(name, [sys.executable, "-m", "tests.lab.delay", queue, str(milliseconds)])
        _rule(instance, "mangle", "INPUT", target, True)


def _delayer(instance: DatabaseInstance) -> str:
    return f"delay-{instance.identifier}"


def read_only(identifier: str, on: bool = True) -> None:
    """Make new transactions of all sessions read-only, as on a replica or a full disk."""
    with postgres.connect(get(identifier).folder, "postgres") as connection:
        value = "= on" if on else "TO DEFAULT"
        connection.execute(f"ALTER SYSTEM SET default_transaction_read_only {value}".encode())
        connection.execute("SELECT pg_reload_conf()")


def _holder(identifier: str) -> str:
    return f"connections-{identifier}"


def fill_connections(identifier: str, leave: int = 0, user: str = OTHER_ROLE) -> None:
    """Hold all connections that ordinary roles may have but ``leave``; returns when they are taken.

    Args:
        user: who holds them, ``reporting`` or the server's own role.
    """
    instance = get(identifier)
    argv = [sys.executable, "-m", "tests.lab.connections", identifier, str(leave), user]
    processes.start(_holder(identifier), argv)
    free = "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    used = "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())"
    deadline = time.monotonic() + 60
    while sql(identifier, f"{free} - {used}", instance.database)[0][0] > leave:
        if time.monotonic() > deadline or not processes.alive(_holder(identifier)):
            raise LabError(f"the connections of {identifier} could not be filled")
        time.sleep(0.1)


def release(identifier: str) -> None:
    """Give back the connections of ``fill_connections``."""
    processes.stop(_holder(identifier))


def _locker(identifier: str) -> str:
    return f"lock-{identifier}"


def lock_table(identifier: str, table: str) -> None:
    """Let ``reporting`` lock a table in a transaction that it leaves open and idle; returns when it is locked."""
    instance = get(identifier)
    sql(identifier, f"GRANT ALL ON {table} TO {OTHER_ROLE}")
    processes.start(_locker(identifier), [sys.executable, "-m", "tests.lab.table_lock", identifier, table])
    locked = (
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE granted AND mode = 'AccessExclusiveLock' AND application_name = 'nightly-report'"
    )
    deadline = time.monotonic() + 20
    while not sql(identifier, locked, instance.database)[0][0]:
        if time.monotonic() > deadline or not processes.alive(_locker(identifier)):
            raise LabError(f"the table {table} of {identifier} could not be locked")
        time.sleep(0.1)


def unlock_tables(identifier: str) -> None:
    """End the session of ``lock_table``; what ``reporting`` was granted for it may stay."""
    processes.stop(_locker(identifier))


def hold(identifier: str, on: bool = True) -> None:
    """Let RDS linger in its next ``starting`` or ``rebooting`` until this is ended, as AWS does for minutes."""
    marker = get(identifier).folder / "hold"
    if on:
        marker.touch()
    else:
        marker.unlink(missing_ok=True)


def held(identifier: str) -> bool:
    """Whether ``hold`` is on."""
    return (get(identifier).folder / "hold").exists()


def normal(identifier: str) -> None:
    """End every state of this module but a stopped process."""
    hold(identifier, on=False)
    release(identifier)
    unlock_tables(identifier)
    slow(identifier, 0)
    refuse(identifier, on=False)
    drop(identifier, on=False)
    if is_running(identifier):
        read_only(identifier, on=False)


def check_login(identifier: str) -> None:
    """Log in as the server's role over TCP and TLS, from inside the namespace; LabError when that fails.

    The environment, not the argument list, carries the password.
    """
    instance = get(identifier)
    environment = {"PGPASSWORD": instance.password, "PGSSLMODE": "verify-full", "PGCONNECT_TIMEOUT": "5"}
    environment |= {"PGSSLROOTCERT": str(certificates.ca_certificate()), "PGHOSTADDR": instance.address}
    argv = ["psql", "-h", instance.endpoint, "-U", instance.user, "-d", instance.database, "-Atc", "SELECT 1"]
    processes.run(argv, in_netns=True, env=environment)
