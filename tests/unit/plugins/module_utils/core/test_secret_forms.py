# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every form of a secret that somebody's log or manifest may hold."""

from __future__ import annotations

import base64
import html
import json
import urllib.parse

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.redaction import MASK, Redactor, mask_key_lines
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.secret_forms import (
    aligned,
    parts_of,
    spellings,
)
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.secret_scan import SecretScan, scan

SECRETS = ["p@ss/w0rd+x?&", "hunter22", "Zażółć-gęślą", 'quo"te\\back<s>&', "staple of horses", "x" * 40]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("after", ["", "1", "12", "@host/db"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_of_a_longer_text_holds_a_form(secret: str, before: str, after: str, encode: object) -> None:
    whole = encode(f"{before}{secret}{after}".encode()).decode()  # type: ignore[operator]
    assert any(form in whole for form in aligned(secret.encode()))
    kept = Redactor([secret]).text(whole)
    assert not any(form in kept for form in spellings(secret))
    assert SecretScan([secret]).kinds(whole) != []
    assert SecretScan([secret]).kinds(kept) == []


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "encode",
    [
        str,
        html.escape,
        urllib.parse.quote_plus,
        urllib.parse.quote,
        lambda text: urllib.parse.quote(text, safe=""),
        lambda text: urllib.parse.quote(urllib.parse.quote(text, safe=""), safe=""),
        lambda text: json.dumps(text)[1:-1],
        lambda text: repr(text)[1:-1],
        lambda text: f"postgresql://u:{urllib.parse.quote(text, safe='')}@db/x",
        lambda text: base64.b64encode(f"postgresql://u:{urllib.parse.quote(text, safe='')}@db/x".encode()).decode(),
        lambda text: urllib.parse.quote(base64.b64encode(text.encode()).decode(), safe=""),
    ],
)
def test_every_spelling_is_masked_and_found(secret: str, encode: object) -> None:
    shown = f"it is {encode(secret)} here"  # type: ignore[operator]
    assert any(form in shown for form in spellings(secret))
    kept = Redactor([secret]).text(shown)
    assert not any(form in kept for form in spellings(secret))
    assert SecretScan([secret]).kinds(shown) != []


def test_a_name_is_masked_too() -> None:
    assert Redactor(["hunter22"]).data({"key-hunter22": {"a": 1}}) == {"key-********": {"a": 1}}


DOCKER = '{"auths": {"r": {"auth": "dXNlcjpw", "username": "robot"}}}'
SETTINGS = "[default]\naws_secret_access_key = abc/def+123456\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBpjCCAUugAwIBAgIU\n-----END CERTIFICATE-----"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hunter22", set()),
        ("first-line-of-it\nsecond-line-of-it\nshort", {"first-line-of-it", "second-line-of-it"}),
        (SETTINGS, {"aws_secret_access_key = abc/def+123456", "abc/def+123456"}),
        (DOCKER, {"dXNlcjpw", DOCKER}),
        (CERTIFICATE, set()),
    ],
)
def test_parts_of_a_value_that_turn_up_alone(value: str, expected: set[str]) -> None:
    assert parts_of(value) == expected


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("postgresql://u:hunter22@db/x", "a password in a URI"),
        ("postgresql%3A%2F%2Fu%3Ahunter22%40db", "a password in an encoded URI"),
        ("AKIAIOSFODNN7EXAMPLE", "an AWS access key"),
        ("Authorization: Bearer abc.def-ghi_jkl", "an authorization header"),
        ("eyJhbGciOiJSUzI1.eyJzdWIiOiJzeXM.c2ln", "a JSON web token"),
        ("?X-Amz-Signature=0a1b2c&x=1", "a signed URL"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\n-----END RSA PRIVATE KEY-----", "a private key"),
        ("-----BEGIN%20PRIVATE%20KEY-----%0AMIIEvQIBADANBgkqhkiG", "a private key"),
        ("ALTER ROLE x PASSWORD 'battery-staple'", "a password in SQL"),
        ("SCRAM-SHA-256$4096:c2FsdA==$abc:def", "a password's verifier"),
        ("token ghp_0123456789abcdefghijABCDEFGHIJ012345", "a token of a service"),
        ("export DB_PASSWORD=hunter22", "a named secret"),
        ('{"client_secret": "a1b2c3d4"}', "a named secret"),
        (base64.b64encode(b"postgresql://u:hunter22@db/x").decode(), "a password in a URI, in base64"),
    ],
)
def test_what_looks_like_a_secret_is_found_and_would_be_masked(text: str, kind: str) -> None:
    assert kind in SecretScan([]).kinds(text)
    assert SecretScan([]).kinds(Redactor().text(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        'FATAL:  password authentication failed for user "mlflow"',
        "postgresql://u:********@db/x",
        "the password: take the one from the Secret",
        "MLFLOW_TRACKING_TOKEN=$(TOKEN)",
        '{"password": {"length": 24, "reserved_characters": false}}',
        "Can't locate revision identified by 'dc11669786a5'",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "Basic authentication is not configured",
    ],
)
def test_what_a_person_needs_is_no_secret(text: str) -> None:
    assert SecretScan(["hunter22"]).kinds(text) == []


@pytest.mark.parametrize("length", range(6, 22))
def test_a_value_that_was_cut_in_two_is_masked(length: int) -> None:
    secret = "battery+staple/of=horse"
    kept = Redactor([secret]).text("x" * 1000 + " token " + secret[:length])
    assert kept == "x" * 1000 + f" token {MASK}"


def test_a_key_in_a_log_is_masked_line_by_line() -> None:
    texts = ["said -----BEGIN PRIVATE KEY-----", "MIIE", "AAAA", "-----END PRIVATE KEY-----", "next"]
    rows = mask_key_lines([{"at": "t", "text": text} for text in texts])
    assert [row["text"] for row in rows] == [texts[0], MASK, MASK, *texts[3:]]


def test_a_masked_key_is_no_secret_any_more() -> None:
    kept = Redactor().text("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\nAAAA\n-----END PRIVATE KEY-----")
    assert "MIIE" not in kept
    assert SecretScan([]).kinds(f"-----BEGIN%20PRIVATE%20KEY-----%0A{MASK}%0A-----END {kept}") == []


def test_parts_and_their_names_are_looked_through() -> None:
    found = scan({"a.txt": "nothing", "b.txt": "hunter22", "hunter22.log": ""}, ["hunter22"])
    assert found == {"b.txt": ["a known secret value, as it is"], "hunter22.log": ["a known secret value, as it is"]}


def test_a_kind_never_tells_the_value() -> None:
    kinds = SecretScan(["hunter22"]).kinds("hunter22 " + base64.b64encode(b"xhunter22").decode())
    assert kinds == ["a known secret value, as it is", "a known secret value, in base64"]
