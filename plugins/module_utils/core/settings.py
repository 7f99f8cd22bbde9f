# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every variable of the collection, checked and converted before anything is touched."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .quantity import byte_count, cores

PREFIX = "mlflow_"
TRUE = frozenset({"true", "yes", "on", "1"})
FALSE = frozenset({"false", "no", "off", "0"})
DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
CACHE_DIRECTORY = re.compile(r"^(/tmp|/var/tmp|/var/cache|/[\w.-]+/[\w.-]+)(/[\w.-]+)+$")
"""Nothing that holds a system or a home may be emptied by mistake."""
REVISIONS = re.compile(r"^\w+:\w+$")
PLAN_DIGEST = re.compile(r"^[0-9a-f]{64}$")
KUBERNETES_OPTIONS = ("kubeconfig", "context", "host", "api_key", "ca_cert", "validate_certs", "proxy")
AWS_OPTIONS = ("region", "profile", "endpoint_url", "access_key", "secret_key", "session_token", "aws_ca_bundle")
SECTIONS = ("pods", "service", "logs", "database", "artifact_store", "latency", "network_policy", "web_server")
FAIL_ON = ("none", "cause", "unknown")
REQUESTABLE = ("restart", "clear_artifact_cache")
"""Steps that a person may ask for without a cause: the runbook's quick fixes."""
SNAPSHOTS = ("take", "require", "none")
DASHBOARD_STATES = ("present", "absent")
DASHBOARD_WAYS = ("auto", "ingress", "kubectl", "api")


class SettingsError(ValueError):
    """A variable has a value that cannot be used."""

    def __init__(self, name: str, value: Any, expected: str) -> None:
        super().__init__(f"{name} is {value!r}, expected {expected}")


def default_report_dir(environment: Mapping[str, str]) -> str:
    """Return the reports' folder under the XDG state folder."""
    state = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return str(Path(state).expanduser() / "mlops-mlflow-runbook" / "reports")


@dataclass(frozen=True)
class Settings:
    """The converted variables; each field is the variable of the same name with the prefix ``mlflow_``.

    ``outputs`` is what the file ``terraform_outputs`` names: field to value and output (see ``core.terraform``).
    ``writing`` says that a write may follow, ``prove_new_pod`` that a new pod of the server may follow.
    """

    namespace: str = ""
    label_selectors: tuple[str, ...] = ()
    deployment: str = ""
    service: str = ""
    db_instance_identifier: str = ""
    artifact_bucket: str = ""
    terraform_outputs: str = ""
    outputs: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    source_namespaces: tuple[str, ...] = ("argo",)
    sections: tuple[str, ...] = SECTIONS
    probe_pods: bool = True
    probe_image: str = ""
    write_canary: bool = False
    timeout_seconds: int = 60
    tracking_username: str = ""
    tracking_password: str = field(default="", repr=False)
    tracking_token: str = field(default="", repr=False)
    host_header: str = ""
    allowed_steps: tuple[str, ...] = ()
    approved_plan: str = ""
    report_dir: str = ""
    bundle: str = ""
    fail_on: str = "none"
    settle_seconds: int = 10
    verify_seconds: int = 180
    artifact_cache_seconds: int = 3600
    requested_step: str = ""
    migrate_confirm: str = ""
    migrate_minutes: int = 60
    snapshot: str = "take"
    snapshot_minutes: int = 15
    dashboard_state: str = "present"
    dashboard_port: int = 5000
    dashboard_way: str = "auto"
    wait_seconds: int = 1200
    cooldown_seconds: int = 600
    attempts: int = 2
    quiet_minutes: int = 15
    idle_session_seconds: int = 600
    replicas_ceiling: int = 4
    workers_ceiling: int = 8
    memory_ceiling: str = "4Gi"
    cpu_ceiling: str = "2"
    start_tag: str = "mlflow-runbook/start=allowed"
    artifact_cache_dir: str = "/tmp/mlflow-artifacts"  # noqa: S108 - the directory of the runbook, in the pod
    check_mode: bool = False
    writing: bool = False
    prove_new_pod: bool = False
    kubernetes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    aws: Mapping[str, Any] = field(default_factory=dict, repr=False)


LISTS = ("label_selectors", "source_namespaces", "sections", "allowed_steps")
BOOLEANS = ("probe_pods", "write_canary")
RANGES = {
    "timeout_seconds": (10, 600),
    "settle_seconds": (0, 600),
    "verify_seconds": (10, 3600),
    "wait_seconds": (10, 7200),
    "cooldown_seconds": (0, 86400),
    "attempts": (1, 10),
    "quiet_minutes": (0, 1440),
    "idle_session_seconds": (60, 86400),
    "replicas_ceiling": (1, 100),
    "workers_ceiling": (1, 64),
    "artifact_cache_seconds": (60, 604800),
    "dashboard_port": (1024, 65535),
    "migrate_minutes": (1, 1440),
    "snapshot_minutes": (1, 1440),
}
CHOICES = {
    "fail_on": FAIL_ON,
    "requested_step": ("", *REQUESTABLE),
    "snapshot": SNAPSHOTS,
    "dashboard_state": DASHBOARD_STATES,
    "dashboard_way": DASHBOARD_WAYS,
}
INTERNAL = ("check_mode", "writing", "prove_new_pod", "kubernetes", "aws", "outputs")
TEXTS = tuple(name for name in Settings.__dataclass_fields__ if name not in (*LISTS, *BOOLEANS, *RANGES, *INTERNAL))
KNOWN = frozenset(PREFIX + name for name in (*LISTS, *BOOLEANS, *RANGES, *TEXTS, *KUBERNETES_OPTIONS, *AWS_OPTIONS)) | {
    "mlflow_hosts",
}


def to_bool(name: str, value: Any) -> bool:
    """Convert what a survey, an inventory or the command line may deliver for a boolean."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise SettingsError(name, value, "true or false")


def to_int(name: str, value: Any, lowest: int, highest: int) -> int:
    """Convert a whole number and hold it to its range."""
    expected = f"a whole number from {lowest} to {highest}"
    if isinstance(value, bool):
        raise SettingsError(name, value, expected)
    try:
        number = int(str(value).strip())
    except ValueError:
        raise SettingsError(name, value, expected) from None
    if not lowest <= number <= highest:
        raise SettingsError(name, value, expected)
    return number


def to_list(name: str, value: Any) -> tuple[str, ...]:
    """Convert a list, or text with commas between the items."""
    if value in (None, ""):
        return ()
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise SettingsError(name, value, "a list of texts")


def near_misses(names: Iterable[str]) -> dict[str, str]:
    """Map each unknown name that looks like one of ours to the name that was probably meant."""
    result = {}
    for name in names:
        if name.startswith(PREFIX) and name not in KNOWN:
            close = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.84)
            if close:
                result[name] = close[0]
    return result


def from_variables(variables: Mapping[str, Any], *, check_mode: bool = False) -> Settings:
    """Build the settings from prefixed variables.

    Args:
        variables: ``mlflow_*`` variables, already templated; unknown ones are ignored.
        check_mode: whether Ansible runs in check mode.

    Raises:
        SettingsError: a value is of the wrong form, out of range or contradicts another.
    """
    given = {name[len(PREFIX) :]: value for name, value in variables.items() if name in KNOWN and value is not None}
    values: dict[str, Any] = {"check_mode": check_mode}
    values |= {name: to_list(PREFIX + name, given[name]) for name in LISTS if name in given}
    values |= {name: to_bool(PREFIX + name, given[name]) for name in BOOLEANS if name in given}
    values |= {name: to_int(PREFIX + name, given[name], *limits) for name, limits in RANGES.items() if name in given}
    values |= {name: to_text(PREFIX + name, given[name]) for name in TEXTS if name in given}
    values["kubernetes"] = {name: given[name] for name in KUBERNETES_OPTIONS if given.get(name) not in (None, "")}
    values["aws"] = {name: given[name] for name in AWS_OPTIONS if given.get(name) not in (None, "")}
    values["report_dir"] = str(Path(values.get("report_dir") or default_report_dir(os.environ)).expanduser())
    values["sections"] = values.get("sections") or SECTIONS
    settings = Settings(**values)
    validate(settings)
    return settings


def to_text(name: str, value: Any) -> str:
    if isinstance(value, (dict, list, tuple, bool)):
        raise SettingsError(name, value, "a text")
    return str(value).strip()


def validate(settings: Settings) -> None:
    """Refuse values that cannot be right.

    Raises:
        SettingsError: names the variable, its value and what was expected.
    """
    if not settings.namespace:
        raise SettingsError("mlflow_namespace", settings.namespace, "the namespace of the MLflow server")
    for name in ("namespace",):
        value = getattr(settings, name)
        if not DNS_LABEL.match(value):
            raise SettingsError(PREFIX + name, value, "a Kubernetes name (lower case letters, digits and dashes)")
    for value in settings.source_namespaces:
        if not DNS_LABEL.match(value):
            raise SettingsError("mlflow_source_namespaces", value, "Kubernetes namespaces")
    unknown = sorted(set(settings.sections) - set(SECTIONS))
    if unknown:
        raise SettingsError("mlflow_sections", unknown[0], "any of " + ", ".join(SECTIONS))
    for name, choices in CHOICES.items():
        if getattr(settings, name) not in choices:
            raise SettingsError(PREFIX + name, getattr(settings, name), "one of " + ", ".join(choices))
    validate_ceilings(settings)
    validate_approvals(settings)
    if settings.settle_seconds >= settings.verify_seconds:
        raise SettingsError("mlflow_settle_seconds", settings.settle_seconds, "less than mlflow_verify_seconds")


def validate_approvals(settings: Settings) -> None:
    """Refuse what a person cannot have approved."""
    if settings.migrate_confirm and not REVISIONS.match(settings.migrate_confirm):
        raise SettingsError("mlflow_migrate_confirm", settings.migrate_confirm, "<current>:<target>, two revisions")
    if settings.approved_plan and not PLAN_DIGEST.match(settings.approved_plan):
        raise SettingsError(
            "mlflow_approved_plan", settings.approved_plan, "the 64 hexadecimal digits of a plan's digest"
        )
    if settings.approved_plan and not settings.allowed_steps:
        raise SettingsError("mlflow_approved_plan", settings.approved_plan, "mlflow_allowed_steps beside it")


def validate_ceilings(settings: Settings) -> None:
    """Refuse ceilings that are no quantities, a tag without a value, and a directory that may not be emptied."""
    if not byte_count(settings.memory_ceiling):
        raise SettingsError("mlflow_memory_ceiling", settings.memory_ceiling, "a memory quantity, such as 4Gi")
    try:
        cores(settings.cpu_ceiling)
    except ValueError:
        raise SettingsError("mlflow_cpu_ceiling", settings.cpu_ceiling, "a CPU quantity, such as 2 or 1500m") from None
    if not all(settings.start_tag.partition("=")):
        raise SettingsError("mlflow_start_tag", settings.start_tag, "a tag of the form key=value")
    if not CACHE_DIRECTORY.match(settings.artifact_cache_dir) or ".." in settings.artifact_cache_dir.split("/"):
        expected = "a folder below /tmp, /var/tmp or /var/cache, or another absolute path of three parts or more"
        raise SettingsError("mlflow_artifact_cache_dir", settings.artifact_cache_dir, expected)
