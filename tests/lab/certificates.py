# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One certificate authority for the whole lab, and the certificates it issues.

The authority is kept in the cache folder, since the server image trusts it and is built once. It is good for this
lab only: the private key never leaves the machine and nothing else trusts it.
"""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.lab import settings

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = datetime.timedelta(days=1)


def ca_certificate() -> Path:
    """The authority's certificate (PEM); made at the first call."""
    return _authority()[0]


def ca_key() -> Path:
    """The authority's private key (PEM)."""
    return _authority()[1]


def issue(
    name: str,
    sans: Sequence[str] = (),
    client: bool = False,
    groups: Sequence[str] = (),
    common_name: str | None = None,
) -> tuple[Path, Path]:
    """Issue a certificate and return the paths of certificate and key (PEM, the key mode 0600).

    Args:
        name: name of the files; also the subject's common name unless ``common_name`` is given.
        sans: host names and IP addresses.
        client: for client authentication; a certificate with ``sans`` serves too.
        groups: organizations of the subject, which are Kubernetes groups.
    """
    certificate_path, key_path = settings.pki_dir() / f"{name}.crt", settings.pki_dir() / f"{name}.key"
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, (common_name or name)[:64]))
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH] if client else []
    usages += [ExtendedKeyUsageOID.SERVER_AUTH] if sans or not client else []
    authority = x509.load_pem_x509_certificate(ca_certificate().read_bytes())
    builder = (
        _builder(x509.Name(subject), authority.subject, key, 365)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName([_san(san) for san in sans]), critical=False)
    certificate = builder.sign(_load_key(ca_key()), hashes.SHA256())
    _write_key(key_path, key)
    settings.write_text(certificate_path, certificate.public_bytes(serialization.Encoding.PEM).decode())
    return certificate_path, key_path


def service_account_keys() -> tuple[Path, Path]:
    """Key pair that signs Kubernetes service account tokens: public key, private key (PEM, RSA 2048)."""
    public, private = settings.pki_dir() / "service-account.pub", settings.pki_dir() / "service-account.key"
    if not private.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        settings.write_text(public, pem.decode())
        _write_key(private, key)
    return public, private


def _authority() -> tuple[Path, Path]:
    folder = settings.cache_dir() / "ca"
    folder.mkdir(parents=True, exist_ok=True)
    certificate_path, key_path = folder / "ca.crt", folder / "ca.key"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not certificate_path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MLflow runbook lab CA")])
            usage = {"digital_signature": True, "key_cert_sign": True, "crl_sign": True}
            unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
            certificate = (
                _builder(name, name, key, 3650)
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                .add_extension(
                    x509.KeyUsage(**usage, **dict.fromkeys(unused, False), encipher_only=False, decipher_only=False),
                    critical=True,
                )
                .sign(key, hashes.SHA256())
            )
            _write_key(key_path, key)
            settings.write_text(certificate_path, certificate.public_bytes(serialization.Encoding.PEM).decode())
    return certificate_path, key_path


def _builder(subject: x509.Name, issuer: x509.Name, key: PrivateKey, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    authority_key = key.public_key() if subject == issuer else _load_key(ca_key()).public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key), critical=False)
    )


def _san(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _load_key(path: Path) -> PrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey))
    return key


def _write_key(path: Path, key: PrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    settings.write_text(path, pem.decode(), mode=0o600)
