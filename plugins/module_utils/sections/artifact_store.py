# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify S3 bucket access, S3 artifact storage issues."""

from __future__ import annotations

import re
import urllib.parse
from typing import Any

from ..core.evidence import API, POD, Evidence
from ..core.findings import TO_IDENTITY, TO_OBJECT_STORAGE, Context, Finding, SectionResult, Unknown, keys
from ..core.workload import probes_from_server, result_of, workload_name
from ..probes.storage import ENDPOINTS, REGIONS
from ..probes.web import REJECTED
from . import artifact_credentials, artifact_identity, artifact_policies
from .artifact_facts import (
    LOST,
    bucket_gone,
    bucket_of,
    calls_to_storage,
    elsewhere,
    endpoint_of,
    identity_of,
    listings,
    observed,
)
from .logs import accesses
from .stale_settings import stale_setting
from .web_server import HONEST

ARTIFACT_CALL = "mlflow-artifacts/artifacts"
UPLOAD_OR_DOWNLOAD = re.compile(r"/mlflow-artifacts/(?:artifacts|mpu/\w+)/")
"""A client's own call; the probe only lists, with a query behind ``artifacts``."""
SERVING_OFF = re.compile(r"--no-serve-artifacts|Artifact serving is disabled", re.IGNORECASE)
REGION_CODES = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"})
PROXIED = re.compile(r'"artifact_location":\s*"mlflow-artifacts:')
UNAVAILABLE = 503
NO_PROXY = "ProxyConnectionError"
PROXY_URL = re.compile(r'proxy URL: "(?P<url>[^"]+)"')
"""botocore's exception and its text (botocore.exceptions)."""
NOT_WAITED = "no answer"
"""The probe's own words for a call that it left behind, which had less time than the library gives it."""

BUSY_SECONDS = 0.2
"""A login takes 0.02 s and /health 0.01 s in a pod that has a processor to itself (design, measured)."""

LIBRARY_SECONDS = 12.0
"""The probe gives botocore 4 s to connect and 6 s to read; what ended later waited for a processor."""


def analyze(context: Context) -> SectionResult:
    """Judge route, identity, policies and bucket, and hold them against what the pods experienced."""
    result = SectionResult()
    driver(context, result)
    if not context.target.bucket:
        return result
    symptoms(context, result)
    serving(context, result)
    endpoint(context, result)
    wrong_region = region(context)
    result.findings += wrong_region
    reachability(context, result)
    if not elsewhere(context):
        bucket(context, result)
        artifact_credentials.analyze(context, result)
        artifact_identity.analyze(context, result)
        if context.target.role_name and not bucket_gone(context):
            artifact_policies.analyze(context, result)
    rule_out(context, result)
    return result


def stored(
    context: Context, identifier: str, summary: str, proof: list[Evidence | None], name: str = "", **more: Any
) -> Finding:
    """Build a finding about the bucket, measured unless it says otherwise."""
    given: dict[str, Any] = {"flow": TO_OBJECT_STORAGE, "measured": True, **more}
    return Finding(identifier, name or context.target.bucket, summary, keys(proof), **given)


def symptoms(context: Context, result: SectionResult) -> None:
    denied = [item for item in calls_to_storage(context) if result_of(item) == "denied"]
    if denied:
        text = str(denied[0].value.get("error", ""))[:200]
        result.findings.append(
            stored(context, "artifact_store.access_denied", f"S3 refuses the pods: {text}", [*denied])
        )
    failing = [item for item in listed_by_mlflow(context) if listing_failed(item) and experiments(context)]
    if failing:
        answer = failing[0].value.get("status") or result_of(failing[0])
        summary = f"listing artifacts through MLflow fails: {answer}"
        result.findings.append(stored(context, "artifact_store.list_failing", summary, [*failing]))


def listed_by_mlflow(context: Context) -> list[Evidence]:
    """Return the pods' own listings through MLflow's artifact proxy, below the static prefix."""
    prefix = context.target.static_prefix
    return [
        item
        for item in context.evidence.all("probe.http", POD)
        if item.seen and ARTIFACT_CALL in item.subject and f"{prefix}/api/" in item.subject
    ]


def listing_failed(item: Evidence) -> bool:
    status, body = int(item.value.get("status") or 0), str(item.value.get("body", ""))
    if REJECTED in body or SERVING_OFF.search(body):
        return False
    if status == 404:
        return "error_code" in body  # MLflow's own document, not the page of a path that does not exist
    return status in (401, 403, 500, UNAVAILABLE) or result_of(item) == "timeout"


def driver(context: Context, result: SectionResult) -> None:
    """Find an image that cannot speak with S3 at all."""
    lacking = [item for item in listings(context) if result_of(item) == "no_driver"]
    if lacking:
        error = str(lacking[0].value.get("error", ""))
        summary = f"the image {context.target.image} cannot use S3: {error}"
        found = stored(
            context,
            "artifact_store.driver_missing",
            summary,
            [context.evidence.first("kubernetes.deployments", API), *lacking],
            workload_name(context),
            configured=True,
            facts={"error": error},
        )
        result.findings.append(found)


def serving(context: Context, result: SectionResult) -> None:
    """A server that is told not to serve artifacts is well, unless its experiments' artifacts are to come from it."""
    if context.target.artifacts_proxied:
        return
    off = [item for item in listed_by_mlflow(context) if SERVING_OFF.search(str(item.value.get("body", "")))]
    wanting = [item for item in experiments(context) if PROXIED.search(str(item.value.get("body", "")))]
    calls = [
        at for at, dummy, path, status in accesses(context) if status == UNAVAILABLE and UPLOAD_OR_DOWNLOAD.search(path)
    ]
    if not calls and not (off and wanting):
        return
    logs = [item for item in context.evidence.all("kubernetes.pod_log", API) if item.seen and calls]
    asked = f"answered {UNAVAILABLE} to {len(calls)} calls" if calls else "its newest experiment keeps artifacts there"
    found = stored(
        context,
        "artifact_store.serving_disabled",
        f"MLflow runs with artifact serving off, and {asked}",
        [context.evidence.first("kubernetes.deployments", API), *off, *wanting, *logs],
        workload_name(context),
        configured=True,
        since=min(calls, default="") or None,
    )
    result.findings.append(found)


def experiments(context: Context) -> list[Evidence]:
    """Return the pods' own answers that hold an experiment."""
    rows = context.evidence.all("probe.http", POD)
    return [item for item in rows if item.seen and HONEST in item.subject and item.value.get("status") == 200]


def failing_calls(context: Context) -> list[Evidence]:
    return [item for item in listings(context) if result_of(item) != "ok"]


def endpoint(context: Context, result: SectionResult) -> None:
    """Find an S3 address that leads nowhere: malformed, unknown to DNS, or not needed since the bucket is Amazon's."""
    url, failing = endpoint_of(context), failing_calls(context)
    seen = bucket_of(context)
    if not url or not failing:
        return
    outcome = result_of(failing[0])
    at_amazon = seen is not None and seen.seen and elsewhere(context)
    unknown_host = outcome == "not_found" and not failing[0].value.get("operation")
    if outcome == "invalid" or unknown_host or (at_amazon and outcome in (*LOST, "error")):
        why = f"; bucket {context.target.bucket} is Amazon's and needs none" if at_amazon else ""
        error = str(failing[0].value.get("error", ""))[:160]
        summary = f"MLFLOW_S3_ENDPOINT_URL is {url}, where no S3 answers ({error}){why}"
        found = stored(
            context,
            "artifact_store.endpoint_wrong",
            summary,
            [context.evidence.first("kubernetes.deployments", API), *failing, *([seen] if at_amazon else [])],
            workload_name(context),
            configured=True,
            facts={"url": url},
        )
        stale = stale_setting(context, ENDPOINTS, lambda configured: configured != url, failing, TO_OBJECT_STORAGE)
        result.findings.append(stale or found)


def region(context: Context) -> list[Finding]:
    """Hold the pods' region against the bucket's when calls fail, and take S3's own word for it."""
    told = [item for item in listings(context) if item.value.get("code") in REGION_CODES]
    seen = bucket_of(context)
    real = seen.value.get("region") if seen is not None and seen.seen else ""
    used = str(identity_of(context).get("region") or "")
    differs = isinstance(real, str) and bool(real and used) and real != used
    failing = [*failing_calls(context), *[item for item in observed(context, "probe.sts") if result_of(item) in LOST]]
    if not told and not (differs and [item for item in failing if result_of(item) in LOST]):
        return []
    name = real if isinstance(real, str) and real else "another region"
    summary = f"bucket {context.target.bucket} is in {name}, the pods ask {used or 'another region'}"
    proof = [seen, *observed(context, "probe.identity"), *(told or failing)]
    stale = stale_setting(context, REGIONS, lambda configured: configured == name, told or failing, TO_IDENTITY)
    return [
        stale
        or stored(
            context,
            "artifact_store.wrong_region",
            summary,
            proof,
            flow=TO_IDENTITY,  # STS is asked in the same region
            configured=differs,
            facts={"region": name},
        )
    ]


def bucket(context: Context, result: SectionResult) -> None:
    gone = [item for item in listings(context) if item.value.get("code") in ("NoSuchBucket", "404")]
    absent = bucket_gone(context)
    if absent or gone:
        name = context.target.bucket
        found = stored(
            context,
            "artifact_store.bucket_missing",
            f"bucket {name} does not exist",
            [bucket_of(context), *gone],
            configured=absent,
            measured=bool(gone or failing_calls(context)),
            facts={"bucket": name},
        )
        result.findings.append(found)


def lost_hosts(context: Context) -> dict[str, list[Evidence]]:
    """Return S3's and STS's host names that the pods do not reach, each with the proof."""
    host_of = {"s3": s3_host(context), "sts": "sts."}
    found: dict[str, list[Evidence]] = {}
    for item in [*probes_from_server(context, "probe.dns"), *probes_from_server(context, "probe.tcp")]:
        host = item.subject.rpartition(":")[0] or item.subject
        for prefix in host_of.values():
            if prefix and host.startswith(prefix) and result_of(item) in LOST:
                found.setdefault(host, []).append(item)
    return found


def s3_host(context: Context) -> str:
    url = endpoint_of(context)
    return (urllib.parse.urlsplit(url).hostname or "") if url else "s3."


def reachability(context: Context, result: SectionResult) -> None:
    """Report each of S3 and STS that the pods do not reach; a proxy hides which one it is."""
    calls = [*listings(context), *observed(context, "probe.sts")]
    lost = [item for item in calls if result_of(item) in LOST and not item.value.get("operation")]
    if not lost:
        return
    told = proxy(context, lost)
    if told is not None:
        result.findings.append(told)
    hosts = lost_hosts(context)
    if not hosts and answered(context):
        return
    reached = any(result_of(item) == "ok" for item in observed(context, "probe.sts"))
    for host, proof in sorted(hosts.items()):
        summary = f"the pods cannot reach {host}: {result_of(proof[0])}"
        flow = TO_IDENTITY if host.startswith("sts.") else TO_OBJECT_STORAGE
        result.findings.append(stored(context, "artifact_store.unreachable", summary, [*proof, *lost], host, flow=flow))
    if not hosts and ports_open(context) and slow_elsewhere(context):
        what = "whether S3 and STS answer the pods"
        why = "their ports do, and the calls did not end in time, like other work of these pods"
        result.unknown.append(Unknown(what, why, "another run, when the pods are less busy"))
    elif not hosts:
        service = "S3" if reached else "S3 or STS"
        error = str(lost[0].value.get("error", ""))[:160]
        summary = f"the pods' calls to {service} get no answer: {error}"
        result.findings.append(stored(context, "artifact_store.unreachable", summary, [*lost]))


def proxy(context: Context, lost: list[Evidence]) -> Finding | None:
    """Find the proxy that the pods are told to use for S3 and STS, and that they do not reach."""
    failed = [item for item in lost if item.value.get("code") == NO_PROXY]
    if not failed:
        return None
    told = PROXY_URL.search(str(failed[0].value.get("error", "")))
    name = told["url"] if told else "a proxy"
    return stored(
        context,
        "artifact_store.proxy_unreachable",
        f"the pods are told to reach S3 and STS through {name}, which does not answer ({result_of(failed[0])})",
        [context.evidence.first("kubernetes.deployments", API), *failed],
        workload_name(context),
        flow=TO_IDENTITY,
        facts={"proxy": name},
    )


def answered(context: Context) -> bool:
    """Tell whether S3 gave an answer to the pods, for which STS had to give an identity first."""
    by_mlflow = any(item.value.get("status") == 200 for item in listed_by_mlflow(context))
    return by_mlflow or any(result_of(item) == "ok" for item in listings(context))


def ports_open(context: Context) -> bool:
    """Tell whether the pods reach S3 as far as its port; behind a proxy nobody knows."""
    return any(
        result_of(item) == "ok" and item.subject.startswith(s3_host(context))
        for item in probes_from_server(context, "probe.tcp")
    )


def slow_elsewhere(context: Context) -> bool:
    """Tell whether what needs neither S3 nor STS takes long too: then the pods or their node are slow, or stopped."""
    others = [
        *probes_from_server(context, "probe.login"),
        *(item for item in context.evidence.all("probe.http", POD) if item.seen and "/health" in item.subject),
    ]
    cut_off = any(
        item.value.get("error") == NOT_WAITED or float(item.value.get("seconds") or 0) >= LIBRARY_SECONDS
        for item in listings(context)
    )
    return cut_off or any(float(item.value.get("seconds") or 0) >= BUSY_SECONDS for item in others)


def rule_out(context: Context, result: SectionResult) -> None:
    listed = [item for item in listings(context) if result_of(item) == "ok"]
    if not listed:
        return
    for what in ("identity_missing", "trust_policy_denies", "bucket_missing", "unreachable", "wrong_region"):
        result.rule_out(f"artifact_store.{what}", *listed)
