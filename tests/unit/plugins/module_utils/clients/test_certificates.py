# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate is told in words."""

from __future__ import annotations

import base64
import datetime

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.clients import certificates
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

UNTIL = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def certificate(names: list[str]) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "database")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(UNTIL - datetime.timedelta(days=1)).not_valid_after(UNTIL)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(item) for item in names]), False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    return base64.b64encode(der).decode()


@pytest.mark.parametrize("names", [["db.example.org", "*.example.org"], []])
def test_describe(names: list[str]) -> None:
    assert certificates.describe(certificate(names)) == {
        "subject": "CN=database",
        "issuer": "CN=database",
        "not_after": "2030-01-02T03:04:05Z",
        "names": names,
    }


@pytest.mark.parametrize("text", ["", base64.b64encode(b"nonsense").decode()])
def test_what_is_no_certificate_tells_nothing(text: str) -> None:
    assert certificates.describe(text) == {}
