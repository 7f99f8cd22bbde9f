# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret is kept, whatever form it takes."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.redaction import MASK, Redactor

SECRET = "p@ss/w0rd+x"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        "p%40ss%2Fw0rd%2Bx",
        base64.b64encode(SECRET.encode()).decode(),
        f"before{SECRET}after",
    ],
)
def test_known_values_in_every_spelling(form: str) -> None:
    kept = Redactor([SECRET]).text(f"value is {form}!")
    assert form not in kept
    assert MASK in kept


def test_the_longer_of_two_values_goes_first() -> None:
    assert Redactor(["hunter", "hunter22"]).text("hunter22") == MASK


def test_short_values_are_left_alone() -> None:
    assert Redactor(["abc", ""]).text("abcdef") == "abcdef"


def test_values_learned_later_count() -> None:
    redactor = Redactor()
    assert redactor.text("hunter22") == "hunter22"
    redactor.learn(["hunter22"])
    assert redactor.text("hunter22") == MASK


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://mlflow:hunter22@db/mlflow", f"postgresql://mlflow:{MASK}@db/mlflow"),
        ("postgresql+psycopg2://mlflow:hu@nter@22@db:5432/x", f"postgresql+psycopg2://mlflow:{MASK}@db:5432/x"),
        ("redis://:hunter22@cache", f"redis://:{MASK}@cache"),
        ("got 'postgres://u:hunter22@db/mlflow' for", f"got 'postgres://u:{MASK}@db/mlflow' for"),
        ('could not translate host name "ter22@10.0.0.9" to', f'could not translate host name "{MASK}@10.0.0.9" to'),
        ("failed to resolve host 'ter22@10.0.0.9': [", f"failed to resolve host '{MASK}@10.0.0.9': ["),
        ("AKIAIOSFODNN7EXAMPLE", f"AKIA{MASK}"),
        ("ASIAIOSFODNN7EXAMPLE used", f"ASIA{MASK} used"),
        ("Authorization: Bearer abc.def-ghi_jkl", f"Authorization: Bearer {MASK}"),
        ("Authorization: Basic dXNlcjpwYXNz", f"Authorization: Basic {MASK}"),
        ("token eyJhbGciOiJSUzI1.eyJzdWIiOiJzeXM.c2ln end", f"token {MASK} end"),
        ("?X-Amz-Signature=0a1b2c&x=1", f"?X-Amz-Signature={MASK}&x=1"),
        ("X-Amz-Security-Token=FwoGZX", f"X-Amz-Security-Token={MASK}"),
        ("password=hunter22 host=db", f"password={MASK} host=db"),
        ('"password": "hunter22"', f'"password": "{MASK}"'),
        ("PGPASSWORD=hunter22", f"PGPASSWORD={MASK}"),
        ("MYSQL_PWD=hunter22", f"MYSQL_PWD={MASK}"),
        ("AWS_SECRET_ACCESS_KEY=abcd/efgh", f"AWS_SECRET_ACCESS_KEY={MASK}"),
        ("AWS_SESSION_TOKEN: FwoGZX", f"AWS_SESSION_TOKEN: {MASK}"),
        ("MLFLOW_TRACKING_PASSWORD=hunter22", f"MLFLOW_TRACKING_PASSWORD={MASK}"),
        ("MLFLOW_TRACKING_TOKEN=hunter22", f"MLFLOW_TRACKING_TOKEN={MASK}"),
        ("MLFLOW_FLASK_SERVER_SECRET_KEY=hunter22", f"MLFLOW_FLASK_SERVER_SECRET_KEY={MASK}"),
        ("MLFLOW_CRYPTO_KEK_PASSPHRASE=hunter22", f"MLFLOW_CRYPTO_KEK_PASSPHRASE={MASK}"),
    ],
)
def test_patterns(text: str, expected: str) -> None:
    kept = Redactor().text(text)
    assert kept == expected
    assert Redactor().text(kept) == expected


@pytest.mark.parametrize(
    "text",
    [
        'FATAL:  password authentication failed for user "mlflow"',
        "fe_sendauth: no password supplied",
        "postgresql://mlflow@db/mlflow",
        "http://mlflow.mlflow.svc:5000/api/2.0/mlflow/experiments/search",
        'could not translate host name "db.internal" to address',
        "AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/token",
        "PWD=/app",
        "secret/mlflow-db-credentials key password",
    ],
)
def test_what_a_diagnosis_needs_stays(text: str) -> None:
    assert Redactor().text(text) == text


def test_nested_data() -> None:
    data = {
        "log": ["hunter22 here", ("x", "hunter22")],
        "count": 3,
        "ready": True,
        "none": None,
        "deep": {"uri": "postgresql://u:other@db/d"},
    }
    assert Redactor(["hunter22"]).data(data) == {
        "log": [f"{MASK} here", ["x", MASK]],
        "count": 3,
        "ready": True,
        "none": None,
        "deep": {"uri": f"postgresql://u:{MASK}@db/d"},
    }
    assert data["log"] == ["hunter22 here", ("x", "hunter22")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"name": "DB_PASSWORD", "value": "hunter22"}, {"name": "DB_PASSWORD", "value": MASK}),
        ({"name": "MLFLOW_TRACKING_TOKEN", "value": "hunter22"}, {"name": "MLFLOW_TRACKING_TOKEN", "value": MASK}),
        ({"DB_PASSWORD": "hunter22"}, {"DB_PASSWORD": MASK}),
        ({"name": "DB_HOST", "value": "db"}, {"name": "DB_HOST", "value": "db"}),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token"}, {"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token"}),
        ({"name": "URI_PASSWORD", "value": "$(OTHER)"}, {"name": "URI_PASSWORD", "value": "$(OTHER)"}),
        ({"name": "DB_PASSWORD", "value": ""}, {"name": "DB_PASSWORD", "value": ""}),
        ({"has_password": True, "value": "x"}, {"has_password": True, "value": "x"}),
        (
            {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
            {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        ),
        ({"keys": {"password": {"length": 8}}}, {"keys": {"password": {"length": 8}}}),
    ],
)
def test_secrets_by_the_name_of_their_variable(data: dict[str, object], expected: dict[str, object]) -> None:
    assert Redactor().data(data) == expected
