# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracking URIs as clients write them."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.client_uri import ClientUri, parse


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("http://mlflow.ml:5000", ClientUri("http", "mlflow.ml", 5000, ""), "http://mlflow.ml:5000"),
        ("https://MLflow.ml/", ClientUri("https", "mlflow.ml", 443, ""), "https://mlflow.ml"),
        ("http://user:word@mlflow.ml/x/", ClientUri("http", "mlflow.ml", 80, "/x"), "http://mlflow.ml/x"),
        ("mlflow.ml:5000", ClientUri("", "mlflow.ml", 5000, ""), "mlflow.ml:5000"),
    ],
)
def test_an_address(text: str, expected: ClientUri, shown: str) -> None:
    uri = parse(text)
    assert uri == expected
    assert uri.text == shown


@pytest.mark.parametrize(
    "text", ["", "databricks", "http://", "http://mlflow:port", "sqlite:///mlflow.db", "file:/tmp/x"]
)
def test_what_is_no_address_of_a_server(text: str) -> None:
    uri = parse(text)
    assert uri is None or uri.scheme == ""
