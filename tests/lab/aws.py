# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the lab itself speaks to its AWS emulation, from the host."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.lab import settings
from tests.lab.settings import LabError

ENDPOINT = f"http://127.0.0.1:{settings.HOST_AWS_PORT}"
OPERATOR = "mlflow-runbook-operator"


def folder() -> Path:
    """Folder of the emulation's files."""
    path = settings.state_dir() / "aws"
    path.mkdir(parents=True, exist_ok=True)
    return path


def unix_socket() -> Path:
    """Socket on which the emulation listens for the host, plain HTTP."""
    return folder() / "aws.sock"


def administrator_file() -> Path:
    """Access key of the lab's administrator, written by the emulation once it listens."""
    return folder() / "administrator.json"


def operator_file(user: str = OPERATOR) -> Path:
    """Access key of an operator, by its IAM user."""
    return folder() / ("operator.json" if user == OPERATOR else f"{user}.json")


def environment(credentials: Path | None) -> dict[str, str]:
    """Environment variables for AWS clients on the host, with the access key in the file ``credentials``.

    Without a file there are no credentials, and none are looked for anywhere else.

    Raises:
        LabError: the cloud is not up.
    """
    place = {"AWS_ENDPOINT_URL": ENDPOINT, "AWS_REGION": settings.AWS_REGION, "AWS_DEFAULT_REGION": settings.AWS_REGION}
    if credentials is None:
        nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        return {**place, **nowhere, "AWS_EC2_METADATA_DISABLED": "true"}
    if not credentials.exists():
        raise LabError("the AWS emulation is not up; run `python -m tests.lab up`")
    key = json.loads(credentials.read_text(encoding="utf-8"))
    return {**place, "AWS_ACCESS_KEY_ID": key["access_key_id"], "AWS_SECRET_ACCESS_KEY": key["secret_access_key"]}


def client(service: str, credentials: Path) -> Any:
    """A boto3 client for the emulation; every call ends within 20 s."""
    variables = environment(credentials)
    return _client(service, variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])


@functools.lru_cache(maxsize=32)
def _client(service: str, access_key_id: str, secret_access_key: str) -> Any:
    return boto3.client(  # type: ignore[call-overload]
        service,
        endpoint_url=ENDPOINT,
        region_name=settings.AWS_REGION,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2}),
    )


def admin(service: str) -> Any:
    """A client with the administrator's rights (boto3 service name)."""
    return client(service, administrator_file())
