# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault file: its keys and what each accepts (tests/faults/README.md says the same in words)."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tests.lab.clients import ClientOptions
from tests.lab.faults import aws_operations

Status = Literal["healthy", "degraded", "down", "at_risk", "recovered", "unknown"]
Outcome = Literal["fixed", "improved", "unchanged", "worse", "unknown"]
PhaseName = Literal["running", "restarted", "aged"]


def _compiles(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


Regex = Annotated[str, AfterValidator(_compiles)]


class Strict(BaseModel):
    """A mapping in a fault file: unknown keys and other types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class OneOf(Strict):
    """A mapping of which exactly one of the keys ``choices`` is given."""

    choices: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _exactly_one(self) -> OneOf:
        given = [key for key in self.choices if key in self.model_fields_set]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(self.choices)} is needed, not {' and '.join(given) or 'none'}")
        return self

    @property
    def kind(self) -> str:
        """The choice that is given."""
        return next(key for key in self.choices if key in self.model_fields_set)


class Reference(Strict):
    """One Kubernetes object by name, or all that a label selector matches; the namespace is the server's by default."""

    api_version: str = Field(alias="apiVersion")
    object_kind: str = Field(alias="kind")
    namespace: str = "{{ server.namespace }}"
    name: str | None = None
    selector: str | None = None

    @model_validator(mode="after")
    def _name_or_selector(self) -> Reference:
        if (self.name is None) == (self.selector is None):
            raise ValueError("either name or selector is needed")
        return self


class Patch(Reference):
    """A change of objects; ``type`` as in ``kubectl patch --type``."""

    type: Literal["strategic", "merge", "json"] = "strategic"
    patch: dict[str, Any] | list[dict[str, Any]]

    @model_validator(mode="after")
    def _shape(self) -> Patch:
        if (self.type == "json") != isinstance(self.patch, list):
            raise ValueError("patch is a list of operations for type json, and a mapping otherwise")
        return self


class Delete(Reference):
    """Objects to delete; it is done when those that existed are gone, at most ``timeout`` seconds later."""

    timeout: float = Field(default=60, gt=0, strict=False)


class Sql(Strict):
    """A statement on the server's database, by the superuser unless ``user`` names a role."""

    statement: str
    database: str = "{{ server.database.database }}"
    user: str | None = None


class Aws(Strict):
    """A call of the AWS API, by the administrator, with boto3's names; error codes of ``ignore`` are no error."""

    service: str
    operation: str
    parameters: dict[str, Any] = {}
    ignore: list[str] = []

    @model_validator(mode="after")
    def _known(self) -> Aws:
        aws_operations.check(self.service, self.operation, self.parameters)
        return self


class Packets(Strict):
    """A rule of the packet filter, put at the head of a chain."""

    table: Literal["filter", "nat", "mangle", "raw"] = "filter"
    chain: Literal["INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"]
    rule: str


class Command(Strict):
    """A command in every running container that is meant; its failure is an error unless ``may_fail``."""

    argv: list[str] = Field(min_length=1)
    namespace: str = "{{ server.namespace }}"
    selector: str = "{{ server.selector }}"
    container: str = "{{ server.container }}"
    timeout: float = Field(default=30, gt=0, strict=False)
    may_fail: bool = False


class OldLog(Strict):
    """Lines put at the head of the logs of the containers that are meant, as if written ``age_hours`` ago."""

    lines: list[str] = Field(min_length=1)
    age_hours: float = Field(gt=0, strict=False)
    namespace: str = "{{ server.namespace }}"
    selector: str = "{{ server.selector }}"
    container: str = "{{ server.container }}"


class Fill(Strict):
    """Who holds how many of the database's connections: all but ``leave``."""

    leave: int = Field(default=0, ge=0)
    user: str = "reporting"


class Database(Strict):
    """What becomes of the database server; each key is a state of its own, several may be given at once.

    ``refuse``: new connections are reset; ``drop``: every packet is lost; ``slow``: milliseconds by which packets are
    delayed; ``fill``: connections held by somebody; ``read_only``; ``process``: the server process, of which RDS is
    not told; ``lock``: a table that somebody else's open transaction holds; ``hold``: RDS lingers in the next
    ``starting`` or ``rebooting``, with ``hold_seconds`` for so long; ``drop_connections``: all sessions end, once.
    """

    refuse: bool | None = None
    drop: bool | None = None
    slow: int | None = Field(default=None, ge=0)
    fill: Fill | None = None
    read_only: bool | None = None
    process: Literal["stopped", "started"] | None = None
    lock: str | None = Field(default=None, pattern=r"^[a-z_]+$")
    hold: bool | None = None
    hold_seconds: int | None = Field(default=None, gt=0)
    drop_connections: Literal[True] | None = None

    @model_validator(mode="after")
    def _something(self) -> Database:
        if not self.model_fields_set:
            raise ValueError(f"one of {', '.join(type(self).model_fields)} is needed")
        return self


class ClientProof(Strict):
    """The last ``rounds`` runs of the client that began after the injection succeeded, or failed like this."""

    ok: bool
    step: Literal["experiment", "run", "params", "metrics", "artifact", "model", "finish"] | None = None
    error: Regex | None = None
    rounds: int = Field(default=1, ge=1)


class Compared(Strict):
    """A value compared: equal to ``equals``, or its text contains a match of the regular expression ``matches``."""

    equals: Any = None
    matches: Regex | None = None

    @model_validator(mode="after")
    def _one(self) -> Compared:
        if ("equals" in self.model_fields_set) == ("matches" in self.model_fields_set):
            raise ValueError("either equals or matches is needed")
        return self


class PsqlProof(Strict):
    """What psql, with the server's own user over TLS, says: rows that match, or an error that matches."""

    statement: str = "SELECT 1"
    matches: Regex | None = None
    fails: Regex | None = None
    password: str = "{{ server.database.password }}"

    @model_validator(mode="after")
    def _one(self) -> PsqlProof:
        if (self.matches is None) == (self.fails is None):
            raise ValueError("either matches or fails is needed")
        return self


class KubernetesProof(Reference, Compared):
    """A value in an object (``name``), or in the list of objects (``selector``), found by the JMESPath ``path``."""

    path: str


class AwsProof(Aws, Compared):
    """A value in the answer of an AWS call, found by the JMESPath ``path``."""

    path: str


class LogProof(Strict):
    """A line in the log of one of the containers that are meant."""

    matches: Regex
    namespace: str = "{{ server.namespace }}"
    selector: str = "{{ server.selector }}"
    container: str = "{{ server.container }}"
    previous: bool = False


class Proof(OneOf):
    """Something that must become true within ``within`` seconds."""

    choices: ClassVar[tuple[str, ...]] = ("client", "psql", "kubernetes", "aws", "log")
    within: float = Field(default=60, gt=0, strict=False)
    client: ClientProof | None = None
    psql: PsqlProof | None = None
    kubernetes: KubernetesProof | None = None
    aws: AwsProof | None = None
    log: LogProof | None = None


class Wait(Strict):
    """A pause of ``seconds``, or until a proof holds."""

    seconds: float | None = Field(default=None, gt=0, strict=False)
    until: Proof | None = None

    @model_validator(mode="after")
    def _one(self) -> Wait:
        if (self.seconds is None) == (self.until is None):
            raise ValueError("either seconds or until is needed")
        return self


class Action(OneOf):
    """One thing that is done; ``register`` keeps its result under a name for later templates."""

    choices: ClassVar[tuple[str, ...]] = (
        "apply",
        "patch",
        "delete",
        "sql",
        "aws",
        "packets",
        "command",
        "old_log",
        "client",
        "database",
        "wait",
        "together",
    )
    register_as: str | None = Field(default=None, alias="register", pattern=r"^[a-z_][a-z0-9_]*$")
    apply: dict[str, Any] | None = None
    patch: Patch | None = None
    delete: Delete | None = None
    sql: Sql | None = None
    aws: Aws | None = None
    packets: Packets | None = None
    command: Command | None = None
    old_log: OldLog | None = None
    client: ClientOptions | None = None
    database: Database | None = None
    wait: Wait | None = None
    together: list[Action] | None = None


class Cause(Strict):
    """A cause that the verdict has to name."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")
    object: str = Field(min_length=1)


class Expectation(Strict):
    """What the diagnosis has to say, and what the repair has to achieve."""

    status: Status
    causes: list[Cause]
    findings: list[str] = []
    must_not: list[str] = []
    allowed_steps: list[str] = []
    forbidden_steps: list[str] = []
    tempt: bool = False
    variables: dict[str, str | int] = {}
    outcome: Outcome | None = None
    error: Regex | None = None

    @model_validator(mode="after")
    def _repair(self) -> Expectation:
        if self.outcome is not None and not self.allowed_steps:
            raise ValueError("outcome needs allowed_steps: without them nothing is repaired")
        if self.tempt and not self.forbidden_steps:
            raise ValueError("tempt needs forbidden_steps: without them nothing is tried")
        return self


class ServerSpec(BaseModel):
    """The server that the fault needs: a layout, and fields of ServerOptions instead of the layout's."""

    model_config = ConfigDict(extra="allow", strict=True)

    layout: str = "mlflow"

    @property
    def overrides(self) -> dict[str, Any]:
        """Fields of ServerOptions."""
        return dict(self.model_extra or {})


class Phase(Strict):
    """What a phase does, proves and expects besides or instead of the fault's own."""

    inject: list[Action] = []
    symptom: list[Proof] | None = None
    expect: Expectation | None = None


class Fault(Strict):
    """One fault file."""

    title: str = Field(min_length=1)
    imitates: str | None = Field(pattern=r"^[A-Z]-\d\d$")
    server: ServerSpec = ServerSpec()
    baseline: bool = False
    inject: list[Action] = []
    symptom: list[Proof] = Field(min_length=1)
    expect: Expectation
    phases: dict[PhaseName, Phase] = Field(default={"running": Phase()}, min_length=1)
    restore: list[Action] = []

    def phase(self, name: PhaseName) -> Phase:
        """A phase with the fault's own symptom and expectation where it has none."""
        phase = self.phases[name]
        return Phase(inject=phase.inject, symptom=phase.symptom or self.symptom, expect=phase.expect or self.expect)
