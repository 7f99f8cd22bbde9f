# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The context that a diagnosis leaves in its bundle, and the same judgement made again from a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..core.findings import Context
from ..core.guards import Policy
from ..core.plan import make_plan
from ..core.report import build, plan_document, server_document, text
from ..core.settings import PREFIX, Settings, SettingsError, from_variables
from ..core.step import Situation
from ..diagnosis import analyze
from ..observations import observe
from .archive import BundleError, printable
from .bundle import Bundle, moment_of

REMEMBERED = (
    "namespace",
    "label_selectors",
    "deployment",
    "service",
    "db_instance_identifier",
    "artifact_bucket",
    "source_namespaces",
    "sections",
    "wait_seconds",
    "idle_session_seconds",
    "replicas_ceiling",
    "workers_ceiling",
    "memory_ceiling",
    "cpu_ceiling",
    "start_tag",
    "artifact_cache_dir",
)
"""Settings that a judgement depends on; none of them is a secret."""


@dataclass(frozen=True)
class Replayed:
    """A bundle, judged again.

    Attributes:
        report: the new report.
        remarks: how it compares with the one in the bundle, a sentence each.
        same: whether the verdict is the recorded one.
    """

    report: dict[str, Any]
    remarks: tuple[str, ...]
    same: bool


def context_of(
    settings: Settings, cluster: str, now: datetime, repaired: str, baseline: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what besides the evidence a judgement depends on.

    Args:
        settings: of the diagnosis.
        cluster: name of its connection.
        now: its moment.
        repaired: when a step of ours last changed something.
        baseline: what the last healthy diagnosis recorded.
    """
    remembered = {name: getattr(settings, name) for name in REMEMBERED}
    return {
        "now": now.isoformat(),
        "repaired": repaired,
        "cluster": cluster,
        "region": str(settings.aws.get("region") or ""),
        "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in remembered.items()},
        "outputs": {name: list(pair) for name, pair in settings.outputs.items()},
        "baseline": dict(baseline),
    }


def settings_of(context: Mapping[str, Any]) -> Settings:
    """Return the settings of a bundle's diagnosis.

    Raises:
        BundleError: they cannot be settings.
    """
    given, outputs = context.get("settings"), context.get("outputs")
    if not isinstance(given, dict) or not isinstance(outputs, dict) or not set(given) <= set(REMEMBERED):
        raise BundleError("has a context.json without the settings of its diagnosis")
    pairs = {name: tuple(pair) for name, pair in outputs.items() if isinstance(pair, list)}
    if len(pairs) != len(outputs) or not all(map(is_pair, pairs.values())):
        raise BundleError("has a context.json whose outputs are none of Terraform's")
    try:
        settings = from_variables({PREFIX + name: value for name, value in given.items()})
    except SettingsError as error:
        raise BundleError(f"has a context.json with settings that cannot be: {printable(str(error))}") from None
    return replace(settings, outputs=pairs, aws={"region": str(context.get("region") or "")})


def is_pair(pair: tuple[Any, ...]) -> bool:
    return len(pair) == 2 and all(isinstance(item, str) for item in pair)


def replay(bundle: Bundle, version: str) -> Replayed:
    """Judge a bundle with the rules of this version.

    Args:
        bundle: what ``read_bundle`` returned.
        version: of this collection.

    Raises:
        BundleError: its evidence cannot be judged.
    """
    try:
        report = judge(bundle)
        text(report)
        same = plain(report["verdict"]) == plain(bundle.report.get("verdict"))
        return Replayed(report, compared(bundle, report, version, same=same), same)
    except BundleError:
        raise
    except Exception as error:  # evidence of an unknown shape fails in as many ways as there are rules
        reason = printable(f"{type(error).__name__}: {error}")
        raise BundleError(f"holds evidence of a shape that no collection of ours makes ({reason})") from error


def plain(document: Any) -> str:
    return json.dumps(document, sort_keys=True)


def judge(bundle: Bundle) -> dict[str, Any]:
    """Build the report of a bundle's evidence as the diagnosis of that time would have."""
    context = bundle.context
    now, settings = moment_of(context.get("now")), settings_of(context)
    baseline = context.get("baseline")
    repaired = context.get("repaired")
    if not isinstance(baseline, dict) or not isinstance(repaired, str):
        raise BundleError("has a context.json without baseline and last repair")
    analysis = analyze(bundle.evidence, settings, now, repaired)
    target = analysis.discovery.target
    situation = Situation(Context(target, bundle.evidence, now), baseline, settings) if target else None
    plan = make_plan(situation, analysis.verdict, bundle.evidence)
    nobody = Policy(allowed_steps=(), approved_plan="", now=now, writing=False)
    started = bundle.report.get("started")
    moment_of(started)
    return build(
        server=server_document(target, bundle.evidence, settings.namespace, str(context.get("cluster") or "")),
        started=str(started),
        seconds={},
        calls={},
        verdict=analysis.verdict,
        plan=plan_document(plan, nobody),
        observed=observe(target, bundle.evidence, analysis.verdict, now),
    )


def compared(bundle: Bundle, report: Mapping[str, Any], version: str, *, same: bool) -> tuple[str, ...]:
    """Say whether versions and verdicts are the same."""
    then = printable(bundle.manifest["version"])
    versions = f"the bundle was written by version {then}, this is version {version}"
    if same:
        verdict = "the verdict is the recorded one"
    else:
        verdict = f"the verdict differs: then {named(bundle.report.get('verdict'))}, now {named(report['verdict'])}"
    remarks = [versions if then != version else f"version {version}, as when the bundle was written", verdict]
    missing = [row for row in bundle.manifest.get("left_out") or [] if row.get("part") == "evidence.json"]
    if missing:
        remarks.append(f"{len(missing)} pieces of evidence were too large for the bundle")
    return tuple(remarks)


def named(verdict: Any) -> str:
    """Name status and causes of a verdict that may have any form."""
    if not isinstance(verdict, dict):
        return "none"
    causes = verdict.get("causes")
    ids = [str(cause.get("id")) for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []
    return printable(f"{verdict.get('status')} ({', '.join(ids) or 'no cause'})")
