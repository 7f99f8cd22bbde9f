# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the server is to AWS and whether it may use its bucket, with its own identity and the image's boto3."""

from __future__ import annotations

import base64
import importlib
import json
import os
import urllib.parse
from functools import partial
from typing import Any, Callable

from . import network
from .common import Failed, Record, classify, run_together

DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "Forbidden",
        "403",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
MISSING = frozenset({"NoSuchBucket", "404", "NotFound"})
NOTHING_TO_READ = frozenset({"NoSuchKey", "404", "InvalidRange", "416"})
"""Answers to a read that was allowed, of an object that is not there or is empty."""
ENDPOINTS = ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
REGIONS = ("AWS_DEFAULT_REGION", "AWS_REGION")
PROXIES = ("HTTPS_PROXY", "https_proxy")
TAKEN_OVER = ("AWS_", *PROXIES, "NO_PROXY", "no_proxy")
CANARY_KEY = "mlflow-runbook-canary"
CANARY_CONTENT = b"written and deleted by mlops.mlflow_runbook\n"
SECONDS = 25.0


def claims(path: str) -> dict[str, Any] | None:
    """Return what a web identity token says about itself; the token is not kept."""
    try:
        with open(path, encoding="ascii") as file:
            payload = file.read().split(".")[1]
        content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (OSError, ValueError, IndexError):
        return None
    audience = content.get("aud") or []
    return {
        "issuer": str(content.get("iss", "")),
        "audience": [audience] if isinstance(audience, str) else [str(item) for item in audience],
        "subject": str(content.get("sub", "")),
        "expires": content.get("exp"),
    }


def identity(environment: dict[str, str]) -> dict[str, Any]:
    """Return where an AWS identity would come from, without any of it."""
    token = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE", "")
    return {
        "role_arn": environment.get("AWS_ROLE_ARN") or None,
        "token_file": bool(token) and os.path.exists(token),
        "claims": claims(token) if token else None,
        "pod_identity": "AWS_CONTAINER_CREDENTIALS_FULL_URI" in environment,
        "region": next((environment[name] for name in REGIONS if environment.get(name)), ""),
        "static_keys": "AWS_ACCESS_KEY_ID" in environment,
        "endpoint_url": next((environment[name] for name in ENDPOINTS if environment.get(name)), ""),
    }


def outcome(error: BaseException) -> Failed:
    """Say what an error of botocore means, with the operation that failed."""
    response = getattr(error, "response", None) or {}
    details = response.get("Error") or {}
    code = str(details.get("Code") or type(error).__name__)
    operation = str(getattr(error, "operation_name", ""))
    text = " ".join(str(error).split())[:500]
    if code in DENIED or code in ("NoCredentialsError", "TokenRetrievalError"):
        result = "denied"
    elif code in MISSING:
        result = "not_found"
    elif isinstance(error, ImportError):
        result = "no_driver"
    elif isinstance(error, ValueError):
        result = "invalid"
    else:
        cause = (getattr(error, "kwargs", None) or {}).get("error")  # botocore's own text leaves the reason out
        result = classify(cause) if isinstance(cause, Exception) else classify(error)
    return Failed(result, text, code=code, operation=operation, message=text)


class Storage:
    """Clients of STS and S3 that share one session, so that the identity is asked for once.

    Args:
        environment: the server's; its variables become ours, since boto3 reads nothing else.
        region: for STS when the environment has none.
    """

    def __init__(self, environment: dict[str, str], region: str) -> None:
        os.environ.update({name: value for name, value in environment.items() if name.startswith(TAKEN_OVER)})
        os.environ.setdefault("AWS_STS_REGIONAL_ENDPOINTS", "regional")
        os.environ.setdefault("AWS_METADATA_SERVICE_TIMEOUT", "1")
        os.environ.setdefault("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1")
        # MLflow leaves the region to boto3, which reads this variable only.
        self._own_region = environment.get("AWS_DEFAULT_REGION") or None
        self._region = self._own_region or region or None
        self._endpoint = environment.get("MLFLOW_S3_ENDPOINT_URL") or None
        self._session = importlib.import_module("boto3").session.Session(region_name=self._own_region)
        self._config = importlib.import_module("botocore.config").Config(
            connect_timeout=4, read_timeout=6, retries={"total_max_attempts": 1}
        )

    def sts(self) -> Any:
        return self._session.client("sts", region_name=self._region, config=self._config)

    def s3(self) -> Any:
        return self._session.client("s3", config=self._config, endpoint_url=self._endpoint)


def judged(step: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Return a step whose errors are outcomes."""

    def run() -> dict[str, Any]:
        try:
            return step()
        except Failed:
            raise
        except Exception as error:
            raise outcome(error) from error

    return run


def caller(client: Any) -> dict[str, Any]:
    answer = client.get_caller_identity()
    return {"arn": answer["Arn"], "account": answer["Account"]}


def list_bucket(client: Any, bucket: str, prefix: str) -> dict[str, Any]:
    answer = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    keys = [item["Key"] for item in answer.get("Contents") or []]
    return {"code": "", "operation": "ListObjectsV2", "empty": not keys, "key": next(iter(keys), "")}


def read_object(client: Any, bucket: str, key: str) -> dict[str, Any]:
    """Read the first byte of an object; one that does not exist tells as well whether it could be read."""
    try:
        client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
    except Exception as error:
        failed = outcome(error)
        if failed.value["code"] not in NOTHING_TO_READ:
            raise failed from error
    return {"code": "", "operation": "GetObject"}


def canary(client: Any, bucket: str, key: str, extra: dict[str, Any]) -> dict[str, Any]:
    """Put, get and delete one small object; the outcome is that of the first step that failed."""
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("put", lambda: client.put_object(Bucket=bucket, Key=key, Body=CANARY_CONTENT, **extra)),
        ("get", lambda: list(client.get_object(Bucket=bucket, Key=key)["Body"])),
        ("delete", lambda: client.delete_object(Bucket=bucket, Key=key)),
    )
    done: dict[str, str] = {}
    failures: list[Failed] = []
    for name, step in steps:
        try:
            step()
            done[name] = "ok"
        except Exception as error:
            failures.append(outcome(error))
            done[name] = failures[-1].value["result"]
            if name == "put":
                break
    if failures:
        failures[0].value |= {"steps": done, "key": key}
        raise failures[0]
    return {"code": "", "operation": "", "steps": done, "key": key}


def endpoint(record: Record, client: Any) -> None:
    """Measure name and port of a client's endpoint, which tells a closed route from a refusal."""
    parts = urllib.parse.urlsplit(client.meta.endpoint_url)
    host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    if record.measure("probe.dns", host, lambda: network.resolve(host)) is not None:
        network.tcp(record, host, port)


def s3_calls(record: Record, client: Any, wanted: dict[str, Any], environment: dict[str, str]) -> None:
    """List, read and, where it is wanted, write, each only when the one before it worked."""
    bucket, folder = wanted["bucket"], wanted["prefix"].strip("/")
    prefix = f"{folder}/" if folder else ""  # as MLflow lists: policies often name the folder with its slash
    listed = record.measure("probe.s3_list", bucket, judged(lambda: list_bucket(client, bucket, prefix)))
    if listed is not None:
        key = listed["key"] or prefix + CANARY_KEY
        record.measure("probe.s3_get", bucket, judged(lambda: read_object(client, bucket, key)))
    if wanted.get("canary"):
        extra = environment.get("MLFLOW_S3_UPLOAD_EXTRA_ARGS") or "{}"
        record.measure(
            "probe.s3_canary", bucket, judged(lambda: canary(client, bucket, prefix + CANARY_KEY, json.loads(extra)))
        )


def probe(record: Record, wanted: dict[str, Any], environment: dict[str, str], roomy: bool) -> None:
    """Measure the caller's identity and the bucket.

    Args:
        record: where results go.
        wanted: ``bucket``, ``prefix``, ``region`` and ``canary`` (whether to write).
        environment: the server's environment.
        roomy: whether the container's memory allows boto3 to be imported.
    """
    bucket = wanted["bucket"]
    asked = [("probe.sts", ""), *([("probe.s3_list", bucket)] if bucket else [])]
    if not roomy:
        for what, subject in asked:
            record.skip(what, subject, "importing boto3 could exceed the container's memory limit")
        return
    jobs: list[Callable[[], object]] = []
    storage: Storage | None = None
    for what, subject in asked:
        try:
            storage = storage or Storage(environment, wanted["region"])
            client = storage.sts() if what == "probe.sts" else storage.s3()
        except Exception as error:
            record.measure(what, subject, partial(fail, outcome(error)))
            continue
        if what == "probe.sts":
            jobs.append(partial(record.measure, what, subject, judged(partial(caller, client))))
        else:
            jobs.append(partial(s3_calls, record, client, wanted, environment))
        if not any(environment.get(name) for name in PROXIES):
            jobs.append(partial(endpoint, record, client))
    run_together(jobs, SECONDS)


def fail(failed: Failed) -> dict[str, Any]:
    raise failed
