# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of AWS services, operations and parameters, from botocore's own service descriptions."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import botocore.session
from botocore import xform_name


@functools.cache
def _services() -> frozenset[str]:
    return frozenset(botocore.session.get_session().get_available_services())


@functools.cache
def _operations(service: str) -> dict[str, frozenset[str]]:
    model = botocore.session.get_session().get_service_model(service)
    result = {}
    for name in model.operation_names:
        shape = model.operation_model(name).input_shape
        result[xform_name(name)] = frozenset(shape.members if shape else ())
    return result


def check(service: str, operation: str, parameters: Iterable[str]) -> None:
    """Raise ValueError unless the names are boto3's (``ec2``, ``revoke_security_group_ingress``, ``GroupId``)."""
    if service not in _services():
        raise ValueError(f"{service!r} is not a service of boto3")
    operations = _operations(service)
    if operation not in operations:
        raise ValueError(f"{operation!r} is not an operation of boto3's {service} client")
    unknown = set(parameters) - operations[operation]
    if unknown:
        names = ", ".join(sorted(operations[operation]))
        raise ValueError(f"{operation} has no parameter {', '.join(sorted(unknown))}; it has: {names}")
