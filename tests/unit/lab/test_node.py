# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.lab import cli, host, kube, registry, settings
from tests.lab.settings import LabError


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/", 200, None),
        ("/v2/mlflow/manifests/9.9.9", 404, "MANIFEST_UNKNOWN"),
        ("/v2/mlflow/blobs/sha256:0", 404, "NAME_UNKNOWN"),
    ],
)
def test_the_registry_has_nothing(path: str, status: int, code: str | None) -> None:
    found, body = registry.answer(path)
    errors: Any = body.get("errors", [])
    assert found == status
    assert [error["code"] for error in errors] == ([code] if code else [])


DEPLOYMENT: dict[str, Any] = {
    "kind": "Deployment",
    "metadata": {"generation": 2},
    "spec": {"replicas": 1},
    "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1},
}


@pytest.mark.parametrize(
    ("item", "ready"),
    [
        (None, False),
        (DEPLOYMENT, True),
        (DEPLOYMENT | {"metadata": {"generation": 3}}, False),
        (
            DEPLOYMENT | {"status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "readyReplicas": 1}},
            False,
        ),
        ({"kind": "Pod", "status": {"conditions": [{"type": "Ready", "status": "False"}]}}, False),
        ({"kind": "Pod", "status": {"conditions": [{"type": "Ready", "status": "True"}]}}, True),
        ({"kind": "APIService", "status": {"conditions": [{"type": "Available", "status": "True"}]}}, True),
        ({"kind": "Node", "status": {}}, False),
    ],
)
def test_what_counts_as_ready(item: dict[str, Any] | None, ready: bool) -> None:
    assert kube.is_ready(item) is ready


OPERATORS = {"group": "operators", "without_secrets": "no-secrets", "readers": "readers"}


def test_every_manifest_is_complete() -> None:
    variables = dict.fromkeys(
        ("domain", "coredns_image", "metrics_server_image", "node_address", "zone_dir", "dns_address"), "x"
    )
    objects = [
        *kube.manifest("system.yml.j2", api_port=1, **variables),
        *kube.manifest("irsa.yml.j2", region="us-west-2"),
        *kube.manifest("operator.yml.j2", **OPERATORS),
    ]
    assert all(item["apiVersion"] and item["kind"] and item["metadata"]["name"] for item in objects)


def test_the_operator_may_read_secrets_and_not_write_them() -> None:
    for role in kube.manifest("operator.yml.j2", **OPERATORS):
        for rule in role.get("rules", []):
            if "secrets" in rule["resources"]:
                assert set(rule["verbs"]) == {"get", "list", "watch"}
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("geteuid", lambda: 1000), "needs root"),
        (("sysconf", lambda name: 1024), "memory"),
    ],
)
def test_a_machine_that_cannot_is_told_in_one_sentence(
    change: tuple[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "_works", lambda argv: True)
    monkeypatch.setattr(host, "_check_cgroups", lambda: None)
    monkeypatch.setattr(os, *change)
    with pytest.raises(LabError) as caught:
        host.check(cold=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_feature_that_the_kernel_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_works", lambda argv: "ipset" not in argv[-1])
    with pytest.raises(LabError, match="IP sets"):
        host.check_network_features()


def test_a_setting_of_the_command_line_keeps_its_type() -> None:
    arguments = cli.parser().parse_args(["server", "add", "x", "--set", "replicas=2", "--set", "prefix=/a"])
    assert dict(arguments.set) == {"replicas": 2, "prefix": "/a"}


def test_a_problem_is_one_sentence_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env"]) == 1
    assert capsys.readouterr().err.startswith("lab: the lab is not up")


def test_the_state_of_another_xdg_folder_can_be_named_for_a_while(tmp_path: Path) -> None:
    before = settings.state_dir()
    other = tmp_path / "other" / "mlops-mlflow-runbook" / "lab"
    with settings.state_at(other):
        assert settings.state_dir() == other
    assert settings.state_dir() == before
