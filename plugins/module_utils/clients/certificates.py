# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a TLS certificate that a person compares."""

from __future__ import annotations

import base64
from typing import Any

try:
    from cryptography import x509

    MISSING = ""
except ImportError as error:
    MISSING = f"the Python library cryptography is needed: {error}"


def describe(der: str) -> dict[str, Any]:
    """Read a certificate.

    Args:
        der: base64 of its DER form.

    Returns:
        ``subject``, ``issuer``, ``not_after`` (ISO 8601 UTC) and ``names``; empty when it cannot be read.
    """
    if MISSING or not der:
        return {}
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(der))
    except ValueError:
        return {}
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [str(name.value) for name in names]
    except x509.ExtensionNotFound:
        found = []
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_after": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "names": found,
    }
