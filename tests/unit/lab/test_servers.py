# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers and clients of the lab: options, manifests and what a client's output says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab import clients, noise, servers
from tests.lab.faults import templates
from tests.lab.settings import LabError


def server(layout: str, name: str = "one", **overrides: Any) -> servers.Server:
    chosen = servers.options(name, layout, overrides)
    return servers.Server(
        **chosen.model_dump(),
        name=name,
        layout=layout,
        region="us-west-2",
        account_id="123456789012",
        role_arn=f"arn:aws:iam::123456789012:role/{chosen.role}",
        database={**templates.SAMPLE_DATABASE, "password": "p@ss/word"},
    )


def objects(one: servers.Server) -> dict[str, dict[str, Any]]:
    return {item["kind"]: item for item in servers.manifests(one)}


def test_the_first_runbooks_names() -> None:
    one = server("mlflow", "mlflow")
    made = objects(one)
    assert {kind: item["metadata"]["name"] for kind, item in made.items()} == {
        "ServiceAccount": "mlflow",
        "Secret": "mlflow-db-credentials",
        "Deployment": "mlflow",
        "Service": "mlflow",
    }
    assert {item["metadata"]["namespace"] for item in made.values()} == {"mlflow"}
    role = made["ServiceAccount"]["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    assert role == "arn:aws:iam::123456789012:role/mlops-platform-dev-mlflow"
    assert one.bucket == "mlops-platform-dev-mlflow-artifacts-123456789012"
    assert one.db_instance_identifier == "mlops-platform-dev-mlflow"


def test_the_second_runbooks_names() -> None:
    made = objects(server("asgard", "asgard"))
    names = [made[kind]["metadata"]["name"] for kind in ("Deployment", "Service", "Ingress")]
    assert names == ["mlflow-deployment", "mlflow-service", "mlflow-ingress"]
    container = made["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["sh", "-c"]
    assert "--gunicorn-opts=" in container["args"][0]


def test_the_password_is_percent_encoded_in_the_uri() -> None:
    assert "mlflow:p%40ss%2Fword@" in server("mlflow").backend_store_uri


def test_overrides_reach_the_manifests() -> None:
    sidecar = {"name": "proxy", "image": "proxy:1"}
    made = objects(
        server("mlflow", labels={"app": "tracking"}, port=8080, service_port=80, replicas=2, sidecars=[sidecar],
               arguments=["--static-prefix=/x"], environment={"A": "b"})
    )  # fmt: skip
    spec = made["Deployment"]["spec"]
    container = spec["template"]["spec"]["containers"][0]
    assert spec["replicas"] == 2
    assert made["Service"]["spec"]["selector"] == {"app": "tracking"} == spec["template"]["metadata"]["labels"]
    assert made["Service"]["spec"]["ports"][0]["port"] == 80
    assert container["ports"][0]["containerPort"] == 8080
    assert container["args"][-1] == "--static-prefix=/x"
    assert {"name": "A", "value": "b"} in container["env"]
    assert spec["template"]["spec"]["containers"][1] == sidecar


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"replicsa": 2}, "replicsa: Extra inputs are not permitted, not 2"),
        ({"port": "80"}, "port: Input should be a valid integer, not '80'"),
    ],
)
def test_wrong_overrides_are_named(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match="server one: ") as raised:
        servers.options("one", "mlflow", overrides)
    assert message in str(raised.value)


def test_an_unknown_layout_is_named() -> None:
    with pytest.raises(LabError, match=r"neither one of asgard, .*mlflow.* nor a file"):
        servers.options("one", "midgard", {})


def test_noise_beside_a_server_does_not_select_it() -> None:
    one = server("mlflow")
    for item in noise.beside(one.namespace):
        selector = item["spec"].get("podSelector", item["spec"].get("selector", {}))["matchLabels"]
        assert not selector.items() <= one.labels.items()


def test_a_client_talks_to_its_server_with_short_time_outs() -> None:
    made = clients.manifests(server("mlflow"), clients.ClientOptions(interval=1))
    container = made[1]["spec"]["template"]["spec"]["containers"][0]
    variables = {item["name"]: item["value"] for item in container["env"]}
    assert variables["MLFLOW_TRACKING_URI"] == "http://mlflow.one.svc.cluster.local:5000"
    assert variables["INTERVAL"] == "1"
    assert int(variables["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 5


def test_observations_are_told_from_other_output() -> None:
    line = '{"at": "2026-01-01T00:00:00+00:00", "ok": false, "step": "run", "error": "x", "seconds": 1.0}'
    seen = clients.parse(f"a warning\n{line}\n")
    assert [one["step"] for one in seen] == ["run"]
    assert clients.matches(seen[0], ok=False)
    assert clients.matches(seen[0], ok=False, step="run")
    assert not clients.matches(seen[0], ok=False, step="artifact")
