# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables are checked and converted before anything is touched, and are the same wherever they are listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import (
    AWS_OPTIONS,
    BOOLEANS,
    FAIL_ON,
    KNOWN,
    KUBERNETES_OPTIONS,
    LISTS,
    PREFIX,
    RANGES,
    SECTIONS,
    TEXTS,
    Settings,
    SettingsError,
    default_report_dir,
    from_variables,
    near_misses,
)

ROLE = Path(__file__).resolve().parents[5] / "roles" / "mlflow"
DIGEST = "0a" * 32
NAMES = {PREFIX + name for name in (*LISTS, *BOOLEANS, *RANGES, *TEXTS)}
CONNECTION = {PREFIX + name for name in (*KUBERNETES_OPTIONS, *AWS_OPTIONS)}


def settings(**variables: Any) -> Settings:
    return from_variables({"mlflow_namespace": "mlflow", **{PREFIX + name: value for name, value in variables.items()}})


def test_the_namespace_is_enough() -> None:
    given = from_variables({"mlflow_namespace": " mlflow ", "mlflow_unrelated": 7, "other": 8})
    report_dir = given.report_dir
    assert given == Settings(namespace="mlflow", report_dir=report_dir)
    assert report_dir.endswith("/mlops-mlflow-runbook/reports")
    assert given.sections == SECTIONS
    assert given.allowed_steps == ()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/state"}, "/state/mlops-mlflow-runbook/reports"),
        ({"XDG_STATE_HOME": ""}, "/home/u/.local/state/mlops-mlflow-runbook/reports"),
        ({}, "/home/u/.local/state/mlops-mlflow-runbook/reports"),
    ],
)
def test_reports_go_to_the_state_folder(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    assert default_report_dir(environment) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *[("probe_pods", value, True) for value in (True, "true", "Yes", "ON", "1", 1)],
        *[("probe_pods", value, False) for value in (False, "false", "No", " off ", "0", 0)],
        ("timeout_seconds", "30", 30),
        ("timeout_seconds", 30, 30),
        ("settle_seconds", 0, 0),
        ("sections", "pods, service", ("pods", "service")),
        ("sections", ["pods"], ("pods",)),
        ("sections", [], SECTIONS),
        ("sections", "", SECTIONS),
        ("source_namespaces", [], ()),
        ("source_namespaces", ("a", "b"), ("a", "b")),
        ("allowed_steps", "restart_all", ("restart_all",)),
        ("deployment", " mlflow ", "mlflow"),
        ("artifact_bucket", 7, "7"),
        ("report_dir", "~/r", str(Path.home() / "r")),
        ("fail_on", "cause", "cause"),
    ],
)
def test_conversions(name: str, value: Any, expected: Any) -> None:
    assert getattr(settings(**{name: value}), name) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("namespace", ""),
        ("namespace", "MLflow"),
        ("namespace", "a_b"),
        ("namespace", "-a"),
        ("namespace", "a" * 64),
        ("namespace", ["mlflow"]),
        ("namespace", True),
        ("probe_pods", "maybe"),
        ("probe_pods", ""),
        ("timeout_seconds", "soon"),
        ("timeout_seconds", True),
        ("timeout_seconds", 60.5),
        ("timeout_seconds", ""),
        *[(name, limits[0] - 1) for name, limits in RANGES.items()],
        *[(name, limits[1] + 1) for name, limits in RANGES.items()],
        ("sections", "pods,nonsense"),
        ("sections", {"pods": 1}),
        ("sections", [1]),
        ("source_namespaces", ["Argo"]),
        ("source_namespaces", [""]),
        ("approved_plan", DIGEST[:-1]),
        ("approved_plan", DIGEST.upper()),
        ("fail_on", "always"),
        ("deployment", {"name": "x"}),
        ("memory_ceiling", "lots"),
        ("cpu_ceiling", "2 cores"),
        ("start_tag", "allowed"),
        ("start_tag", "=allowed"),
        ("artifact_cache_dir", "/"),
        ("artifact_cache_dir", "/tmp"),
        ("artifact_cache_dir", "/etc/ssl"),
        ("artifact_cache_dir", "/tmp/x/../../etc"),
        ("artifact_cache_dir", "tmp/mlflow"),
    ],
)
def test_refusals_name_the_variable(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"^{PREFIX}{name} is .*, expected "):
        settings(**{name: value})


@pytest.mark.parametrize(("name", "limits"), RANGES.items())
def test_the_ends_of_a_range_are_in_it(name: str, limits: tuple[int, int]) -> None:
    longest = {"verify_seconds": RANGES["verify_seconds"][1], "settle_seconds": RANGES["settle_seconds"][0]}
    assert [getattr(settings(**(longest | {name: value})), name) for value in limits] == list(limits)


def test_an_approval_goes_with_a_step() -> None:
    assert settings(approved_plan=DIGEST, allowed_steps="restart").approved_plan == DIGEST
    with pytest.raises(SettingsError, match=r"mlflow_approved_plan is .*, expected mlflow_allowed_steps beside it"):
        settings(approved_plan=DIGEST)


def test_settling_ends_before_verifying() -> None:
    with pytest.raises(SettingsError, match="mlflow_settle_seconds is 60, expected less than mlflow_verify_seconds"):
        settings(settle_seconds=60, verify_seconds=60)


def test_none_means_not_given() -> None:
    assert settings(deployment=None, sections=None, probe_pods=None) == settings()


def test_connection_options_are_passed_on_only_when_given() -> None:
    given = settings(kubeconfig="/k", context="", region="us-west-2", profile=None, validate_certs=False)
    assert given.kubernetes == {"kubeconfig": "/k", "validate_certs": False}
    assert given.aws == {"region": "us-west-2"}


def test_secrets_are_not_in_the_representation() -> None:
    given = settings(tracking_password="hunter22", tracking_token="hunter23", api_key="hunter24", secret_key="hunter25")
    assert "hunter" not in repr(given)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mlflow_namespce", "mlflow_namespace"),
        ("mlflow_allowed_step", "mlflow_allowed_steps"),
        ("mlflow_aproved_plan", "mlflow_approved_plan"),
        ("mlflow_timeout_second", "mlflow_timeout_seconds"),
    ],
)
def test_near_misses(name: str, meant: str) -> None:
    assert near_misses([name, "mlflow_namespace"]) == {name: meant}


LEFT_BY_TASKS = (
    "mlflow_result",
    "mlflow_write",
    "mlflow_step",
    "mlflow_undo",
    "mlflow_pod",
    "mlflow_resumed",
    "mlflow_interrupted",
    "mlflow_taken_back",
)


def test_other_names_are_no_near_misses() -> None:
    assert (
        near_misses([*KNOWN, "mlflow_assessment", "mlflow_verification", "mlflow_home", *LEFT_BY_TASKS, "namespace"])
        == {}
    )


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROLE / name).read_text(encoding="utf-8"))
    return loaded


SPECS = load("meta/argument_specs.yml")["argument_specs"]
OPTIONS: dict[str, dict[str, Any]] = SPECS["main"]["options"]
DEFAULTS = load("defaults/main.yml")


def expected_default(name: str) -> Any:
    """Return the default as a variable: a list for lists, and an empty one where the code fills in."""
    if name in ("report_dir", "sections"):
        return "" if name == "report_dir" else []
    value = getattr(Settings(), name)
    return list(value) if name in LISTS else value


def test_the_role_lists_the_variables_of_the_code() -> None:
    assert set(OPTIONS) == NAMES | CONNECTION
    assert set(DEFAULTS) == NAMES - {"mlflow_namespace"}
    assert all(spec["options"] == OPTIONS for spec in SPECS.values())


@pytest.mark.parametrize("name", sorted(name.removeprefix(PREFIX) for name in NAMES - {"mlflow_namespace"}))
def test_defaults_agree(name: str) -> None:
    assert OPTIONS[PREFIX + name]["default"] == DEFAULTS[PREFIX + name] == expected_default(name)


@pytest.mark.parametrize("name", sorted(name.removeprefix(PREFIX) for name in NAMES))
def test_types_agree(name: str) -> None:
    option = OPTIONS[PREFIX + name]
    kind = "list" if name in LISTS else "bool" if name in BOOLEANS else "int" if name in RANGES else "str"
    assert option["type"] == kind
    assert option.get("elements") == ("str" if kind == "list" else None)
    assert option.get("required", False) is (name == "namespace")


def test_choices_agree() -> None:
    assert OPTIONS["mlflow_fail_on"]["choices"] == list(FAIL_ON)


@pytest.mark.parametrize("name", ["tracking_password", "tracking_token", "api_key", "secret_key", "session_token"])
def test_secret_variables_are_not_logged(name: str) -> None:
    assert OPTIONS[PREFIX + name]["no_log"] is True
