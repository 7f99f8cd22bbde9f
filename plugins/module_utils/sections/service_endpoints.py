# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who stands behind the Service: the server's pods, all of them well, and nobody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..core.discovery_service import matches, ready_endpoints
from ..core.evidence import API, Evidence
from ..core.findings import Context, Finding, SectionResult, keys
from ..core.server_command import read_command
from ..core.workload import changed, labels_of, ready_pods, replica_sets, result_of, server_pods, workload

HONEST = "experiments/search"
"""Part of the path that asks the database."""
SERVED = frozenset({200, 401})
LOST = frozenset({"refused", "timeout", "reset"})


def endpoints_of(context: Context, name: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield the Service's ready endpoints, and whether their slice has a port to lead to."""
    for endpoint, ports in ready_endpoints(context.evidence, context.target.namespace, name):
        yield endpoint, any(port.get("port") for port in ports)


def selection(context: Context, service: Mapping[str, Any], result: SectionResult) -> None:
    """Hold the Service's selector against the labels of the server's pods, and its endpoints against the pods."""
    name = service["metadata"]["name"]
    selector = service["spec"].get("selector") or {}
    ready = list(endpoints_of(context, name))
    proof = keys(
        context.evidence.first(what, API, context.target.namespace)
        for what in ("kubernetes.services", "kubernetes.endpointslices", "kubernetes.pods")
    )
    if selector and not matches(selector, template_of(context)):
        astray(context, service, bool(ready), proof, result)
    elif selector:
        strangers(context, service, proof, result)
    if selector and not ready and was_seen(context, "kubernetes.endpointslices"):
        summary = f"service/{name} has no ready endpoint"
        result.findings.append(Finding("service.no_endpoints", f"service/{name}", summary, proof, measured=True))


def made_by_hand(context: Context, service: Mapping[str, Any], proof: list[Evidence], result: SectionResult) -> None:
    """Report a Service without a selector whose endpoints, which somebody wrote by hand, are no pods of the server.

    Args:
        context: the evidence.
        service: the Service.
        proof: connections through it that failed; nothing is reported while any works.
        result: where the finding goes.
    """
    name = service["metadata"]["name"]
    if service["spec"].get("selector") or not proof or not was_seen(context, "kubernetes.endpointslices"):
        return
    addresses = {address for endpoint, dummy in endpoints_of(context, name) for address in endpoint["addresses"]}
    if addresses & {pod.get("status", {}).get("podIP") for pod in server_pods(context)}:
        return
    whose = (
        f"its endpoints ({', '.join(sorted(addresses))}) are none of the server's pods" if addresses else "no endpoint"
    )
    wanted = dict(context.target.selector)
    result.findings.append(
        Finding(
            "service.selector_matches_nothing",
            f"service/{name}",
            f"service/{name} has no selector, and {whose}",
            keys(
                [
                    *(context.evidence.first(f"kubernetes.{what}", API) for what in ("services", "endpointslices")),
                    *proof,
                ]
            ),
            since=changed(service),
            configured=True,
            measured=True,
            facts={"patch": json.dumps({"spec": {"selector": wanted}}), "service": name},
        )
    )


def astray(
    context: Context, service: Mapping[str, Any], ready: bool, proof: tuple[str, ...], result: SectionResult
) -> None:
    """Report a selector that does not match the server's pods."""
    name, selector, labels = service["metadata"]["name"], service["spec"]["selector"], template_of(context)
    mine = {pod["metadata"]["name"] for pod in server_pods(context)}
    others = [
        item
        for item in context.evidence.objects("kubernetes.pods", context.target.namespace)
        if matches(selector, labels_of(item)) and item["metadata"]["name"] not in mine
    ]
    wrong = {key for key, value in selector.items() if labels.get(key) != value}
    whose = f"pods of {', '.join(sorted({owner_of(item) for item in others}))}" if others else "no pod"
    result.findings.append(
        Finding(
            "service.selector_matches_others" if others else "service.selector_matches_nothing",
            f"service/{name}",
            f"the selector of service/{name} ({spell(selector)}) matches {whose}; "
            f"the server's pods differ in {', '.join(sorted(wrong))}",
            proof,
            since=changed(service),
            configured=True,
            measured=not ready or bool(others),
            facts={"patch": selector_patch(selector, labels, context.target.selector), "service": name},
        )
    )


def selector_patch(selector: Mapping[str, str], labels: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    return json.dumps({"spec": {"selector": dict(repaired(selector, labels, wanted))}})


def strangers(context: Context, service: Mapping[str, Any], proof: tuple[str, ...], result: SectionResult) -> None:
    """Report other workloads' pods that the Service sends requests to, besides the server's."""
    name, selector = service["metadata"]["name"], service["spec"]["selector"]
    foreign = foreign_pods(context, name)
    if not foreign:
        return
    mine = {pod["metadata"]["name"] for pod in server_pods(context)}
    owners = sorted({owner_of(pod) for pod in foreign})
    addresses = {pod["status"].get("podIP") for pod in foreign}
    tried = [item for item in context.evidence.all("probe.tcp") if item.subject.rpartition(":")[0] in addresses]
    failed = [item for item in tried if item.seen and result_of(item) in LOST]
    instance = telling_apart(context, foreign)
    result.findings.append(
        Finding(
            "service.selector_matches_others",
            f"service/{name}",
            f"service/{name} ({spell(selector)}) also sends requests to {len(foreign)} pod(s) of {', '.join(owners)}, "
            f"beside {len(mine)} of {context.target.kind.lower()}/{context.target.deployment}",
            (*proof, *keys(failed)),
            since=min(pod["metadata"].get("creationTimestamp", "") for pod in foreign) or None,
            configured=True,
            measured=bool(failed),
            facts={
                "patch": json.dumps({"spec": {"selector": instance}})
                if instance
                else f"<a label that only the pods of {context.target.deployment} carry>",
                "service": name,
                "partly": True,
            },
        )
    )


def foreign_pods(context: Context, service: str) -> list[dict[str, Any]]:
    """Return the pods behind the Service that belong to another workload and are no server of the same store.

    An endpoint whose pod was not listed proves nothing: it may be newer than the list.
    """
    mine = {pod["metadata"]["name"] for pod in server_pods(context)}
    listed = {
        pod["metadata"]["name"]: pod
        for pod in context.evidence.objects("kubernetes.pods", context.target.namespace)
        if not pod["metadata"].get("deletionTimestamp")
    }
    names = {
        str((endpoint.get("targetRef") or {}).get("name") or "")
        for endpoint, leads in endpoints_of(context, service)
        if leads
    }
    own_sets = {item["metadata"]["name"] for item in replica_sets(context)}
    return [
        listed[name]
        for name in sorted(names & set(listed) - mine)
        if not any(owner["name"] in own_sets for owner in listed[name]["metadata"].get("ownerReferences") or [])
        and not serves_the_same(context, listed[name])
    ]


def serves_the_same(context: Context, pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod is a tracking server on the same backend store, as a canary or a second colour is."""
    backend = context.target.backend
    for container in pod["spec"]["containers"]:
        command = read_command(container)
        if not command.is_server:
            continue
        reference = command.reference("backend-store-uri")
        if reference is not None and (reference[1].name, reference[1].key) == (backend["secret"], backend["key"]):
            return True
        if reference is None and backend.get("host") and str(backend["host"]) in command.setting("backend-store-uri"):
            return True
    return False


def telling_apart(context: Context, foreign: list[dict[str, Any]]) -> dict[str, str]:
    """Return labels of the server's pods that tell them from the foreign ones; empty when there are none."""
    return {
        key: value
        for key, value in template_of(context).items()
        if not any(labels_of(pod).get(key) == value for pod in foreign)
    }


def owner_of(pod: Mapping[str, Any]) -> str:
    """Name a pod's workload as a person knows it."""
    for owner in pod["metadata"].get("ownerReferences") or []:
        suffix = labels_of(pod).get("pod-template-hash", "")
        if owner["kind"] == "ReplicaSet" and suffix:
            return f"deployment/{owner['name'].removesuffix(f'-{suffix}')}"
        return f"{owner['kind'].lower()}/{owner['name']}"
    return f"pod/{pod['metadata']['name']}"


def replicas(context: Context, result: SectionResult) -> None:
    """Report a ready pod that fails where another ready pod works; not while pods are being replaced."""
    found = workload(context)
    if found is None or not settled(found):
        return
    seen = {pod["metadata"]["name"]: answers_of(context, pod) for pod in ready_pods(context)}
    working = [name for name, items in seen.items() if any(works(item) for item in items)]
    for name, items in seen.items():
        failing = [item for item in items if not works(item)]
        if name in working or not failing or not working:
            continue
        good = next(item for item in seen[working[0]] if works(item))
        result.findings.append(
            Finding(
                "service.replica_failing",
                f"pod/{name}",
                f"pod/{name} is ready, but {describe(failing)}; pod/{working[0]} works",
                keys([*failing, good]),
                configured=False,
                measured=True,
                facts={
                    "pod": f"pod/{name}",
                    "replica": name,
                    "reason": describe(failing),
                    "service": context.target.service,
                },
            )
        )


def settled(found: Mapping[str, Any]) -> bool:
    """Tell whether no pod of the workload is about to come or go."""
    status, wanted = found.get("status") or {}, found["spec"].get("replicas", 1)
    counts = {status.get("replicas", 0), status.get("updatedReplicas", status.get("currentReplicas", 0))}
    return counts == {wanted} and wanted > 1


def answers_of(context: Context, pod: Mapping[str, Any]) -> list[Evidence]:
    """Return what was seen of one pod that says whether it serves: honest calls, and connections that failed."""
    address, name = (pod.get("status") or {}).get("podIP"), pod["metadata"]["name"]
    calls = [
        item
        for item in context.evidence.all("probe.http")
        if item.seen
        and HONEST in item.subject
        and (f"//{address}:" in item.subject or ("//127.0.0.1:" in item.subject and item.value["probe_pod"] == name))
    ]
    lost = [
        item
        for item in context.evidence.all("probe.tcp")
        if item.seen and item.subject == f"{address}:{context.target.port}" and result_of(item) in LOST
    ]
    outside = [item for item in calls if item.place != "pod"] + lost
    return outside or calls


def works(item: Evidence) -> bool:
    return item.what == "probe.http" and result_of(item) == "ok" and item.value.get("status") in SERVED


def describe(failing: list[Evidence]) -> str:
    """Say in a few words how a pod fails."""
    worst = next((item for item in failing if item.what == "probe.tcp"), failing[0])
    if worst.what == "probe.tcp":
        return f"its port cannot be reached: {result_of(worst)}"
    status = worst.value.get("status")
    if not status:
        return f"a call that uses the database gets no answer: {result_of(worst)}"
    return f"a call that uses the database gets {status}"


def was_seen(context: Context, what: str) -> bool:
    item = context.evidence.first(what, API, context.target.namespace)
    return item is not None and item.seen


def spell(selector: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))


def repaired(
    selector: Mapping[str, str], labels: Mapping[str, str], deployment_selector: Mapping[str, str]
) -> Mapping[str, str | None]:
    """Return the change that lets a selector match again: wrong terms removed, the workload's own terms put in."""
    change: dict[str, str | None] = {key: None for key, value in selector.items() if labels.get(key) != value}
    change.update({key: value for key, value in deployment_selector.items() if selector.get(key) != value})
    return change


def template_of(context: Context) -> Mapping[str, str]:
    found = workload(context)
    return (found["spec"]["template"]["metadata"].get("labels") or {}) if found else context.target.selector
