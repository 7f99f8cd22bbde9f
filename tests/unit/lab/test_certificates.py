# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import stat

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.lab import certificates


def test_a_server_certificate_is_signed_by_the_authority_for_its_names() -> None:
    certificate_path, key_path = certificates.issue("server", ["db.example", "10.90.0.100"])
    certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    authority = x509.load_pem_x509_certificate(certificates.ca_certificate().read_bytes())
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["db.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.90.0.100"]
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600


def test_a_client_certificate_carries_user_and_groups() -> None:
    path = certificates.issue("somebody", client=True, groups=["a", "b"], common_name="system:somebody")[0]
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    subject = certificate.subject
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:somebody"]
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["a", "b"]


def test_there_is_one_authority() -> None:
    assert certificates.ca_certificate().read_bytes() == certificates.ca_certificate().read_bytes()
    assert certificates.service_account_keys() == certificates.service_account_keys()
