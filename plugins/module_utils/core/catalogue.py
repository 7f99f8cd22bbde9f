# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of finding: its weight, its owner, what it can explain, and what a person should and should not do.

``faults`` are ids of the field guide's catalogue. ``explains`` are the edges of the verdict's graph: kinds of findings
that follow from this one on the same flow or further down the flow.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Whether a kind can be a cause.

    ``EITHER`` is a cause only when nothing explains it; a ``NOTE`` is worth knowing, and never a cause or a question.
    """

    CAUSE = "cause"
    SYMPTOM = "symptom"
    EITHER = "either"
    NOTE = "note"


@dataclass(frozen=True)
class Kind:
    """One kind of finding; ``next`` and ``do_not`` are templates over the finding's facts."""

    id: str
    role: Role
    severity: str
    owner: str
    explains: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    do_not: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


PODS = (
    "pods.rollout_stuck",
    "pods.starting",
    "pods.crash_looping",
    "pods.restarted",
    "pods.not_ready",
    "pods.probe_failing",
    "pods.init_failing",
)
KILLED = "pods.liveness_too_tight"
SERVING = (
    *PODS,
    KILLED,
    "service.no_endpoints",
    "service.unreachable",
    "service.intermittent",
    "service.replica_failing",
    "web_server.not_answering",
)
API = (
    "web_server.api_failing",
    "service.replica_failing",
    "web_server.registry_failing",
    "database.pool_exhausted",
    "logs.worker_timeout",
    "web_server.worker_timeout",
    "latency.slow_calls",
)
NO_DATABASE = ("database.connect_timeout", "logs.database_timeout", "logs.database_unreachable", *API, *SERVING)
REFUSED = (
    "database.connect_refused",
    "database.not_listening",
    "logs.database_refused",
    "logs.database_unreachable",
    *API,
    *SERVING,
)
LOGIN = ("database.login_denied", "logs.database_rejects_login", "logs.database_unreachable", *API, *SERVING)
ARTIFACTS = (
    "logs.artifact_store_denied",
    "logs.artifact_store_unreachable",
    "artifact_store.list_failing",
    "artifact_store.access_denied",
)
NO_RESTART = "restart: a new pod could not {without}"

CAUSE, SYMPTOM, EITHER, NOTE = Role.CAUSE, Role.SYMPTOM, Role.EITHER, Role.NOTE
ML, K8S, DBA, NET, IAM = "ML platform", "Kubernetes platform", "database", "network", "cloud identity"

# fmt: off
KINDS = (
    # pods
    Kind("pods.image_not_found", CAUSE, "critical", ML, SERVING,
         ("kubectl -n {namespace} rollout history {kind}/{deployment}",
          "set an image that exists: kubectl -n {namespace} set image {kind}/{deployment} {container}=<image>"),
         ("restart: a new pod would pull the same image",), ("K-04",)),
    Kind("pods.image_pull_denied", CAUSE, "critical", K8S, SERVING,
         ("check the pull secret and the registry's permissions for {image}",),
         ("restart: a new pod could not pull its image",), ("K-05",)),
    Kind("pods.registry_unreachable", CAUSE, "critical", K8S, SERVING,
         ("check the route from the nodes to the registry of {image}",),
         ("restart: a new pod could not pull its image",), ("K-05",)),
    Kind("pods.config_missing", CAUSE, "critical", ML, SERVING,
         ("create {missing} in namespace {namespace}, or correct the reference in {kind}/{deployment}",),
         ("restart: the reference stays broken",), ("K-07",)),
    Kind("pods.command_not_found", CAUSE, "critical", ML, SERVING,
         ("compare the command of {kind}/{deployment} with the image {image}",), (), ("K-06",)),
    Kind("pods.out_of_memory", CAUSE, "critical", ML,
         (*SERVING, *API, "logs.worker_died", "logs.worker_timeout", "pods.worker_out_of_memory"),
         ("raise the memory limit of container {container} (now {limit}); MLflow needs about {need}",),
         ("restart: the same limit would be hit again", "scale out: each new pod has the same limit"), ("K-09", "K-10")),
    Kind("pods.worker_out_of_memory", CAUSE, "critical", ML, (*SERVING, *API, "logs.worker_died", "logs.worker_timeout"),
         ("raise the memory limit of container {container} (now {limit}) or lower --workers; MLflow needs about {need}",),
         ("restart: the same limit would be hit again", "scale out: each new pod has the same limit"), ("K-10",)),
    Kind("pods.sidecar_failing", CAUSE, "critical", ML, (*SERVING, *REFUSED, *NO_DATABASE),
         ("kubectl -n {namespace} logs {pod} -c {container} --previous", "repair or remove container {container} of {kind}/{deployment}"),
         ("restart: the side-car would end again",), ("K-20",)),
    Kind("pods.liveness_too_tight", EITHER, "critical", ML, (*PODS, "service.no_endpoints", "service.unreachable", "web_server.not_answering"),
         ("give container {container} of {kind}/{deployment} a startupProbe of five minutes or more; its {probe} probe gives it {budget} s",),
         ("restart: the probe kills the next start as well",), ("K-11", "K-12")),
    Kind("pods.readiness_too_tight", EITHER, "critical", ML, (*PODS, "service.no_endpoints", "service.unreachable", "service.intermittent"),
         ("give the readiness probe of container {container} of {kind}/{deployment} a timeoutSeconds of five or more",),
         ("restart: the probe stays as it is",), ("K-12",)),
    Kind("pods.unschedulable", CAUSE, "critical", K8S, SERVING,
         ("kubectl -n {namespace} describe pod {pod}: {reason}",),
         ("restart: a new pod would not be placed either",), ("K-01", "K-02")),
    Kind("pods.quota_exceeded", CAUSE, "critical", K8S, SERVING,
         ("kubectl -n {namespace} describe resourcequota",), (), ("K-03",)),
    Kind("pods.admission_denied", CAUSE, "critical", K8S, SERVING,
         ("kubectl -n {namespace} describe replicaset: {reason}",), (), ("K-21",)),
    Kind("pods.volume_not_mounted", CAUSE, "critical", K8S, SERVING,
         ("kubectl -n {namespace} describe pod {pod}: {reason}",), (), ("K-08",)),
    Kind("pods.no_sandbox", CAUSE, "critical", K8S, SERVING,
         ("kubectl -n {namespace} describe pod {pod}: {reason}",), (), ("K-22",)),
    Kind("pods.scaled_to_zero", CAUSE, "critical", ML, SERVING,
         ("ask who scaled {kind}/{deployment} to zero, then: kubectl -n {namespace} scale {kind}/{deployment} --replicas=1",),
         (), ("K-19",)),
    Kind("pods.evicted", CAUSE, "high", K8S, SERVING, ("kubectl -n {namespace} describe pod {pod}: {reason}",), (), ("K-17",)),
    Kind("pods.node_not_ready", CAUSE, "critical", K8S, (*SERVING, *API), ("kubectl describe node {node}",), (), ("H-01",)),
    Kind("pods.probe_misconfigured", CAUSE, "critical", ML, SERVING,
         ("correct the {probe} probe of container {container}: it asks {path} and gets {status}",),
         ("restart: the probe fails again",), ("K-13", "W-11")),
    Kind("pods.init_failing", EITHER, "critical", ML, SERVING,
         ("kubectl -n {namespace} logs {pod} -c {container}",), (), ("K-15", "K-16")),
    Kind("pods.rollout_stuck", SYMPTOM, "medium", ML),
    Kind("pods.starting", NOTE, "medium", ML, ("service.no_endpoints", "service.unreachable", "pods.not_ready", "pods.probe_failing")),
    Kind("pods.crash_looping", SYMPTOM, "critical", ML,
         (*PODS, "service.no_endpoints", "service.unreachable", "web_server.not_answering")),
    Kind("pods.restarted", SYMPTOM, "medium", ML, ("service.unreachable",)),
    Kind("pods.not_ready", SYMPTOM, "high", ML, ("service.no_endpoints", "service.unreachable")),
    Kind("pods.probe_failing", SYMPTOM, "high", ML, ("pods.not_ready", "pods.restarted", "pods.crash_looping", "service.no_endpoints")),
    # service
    Kind("service.missing", CAUSE, "critical", ML, ("service.unreachable", "service.name_not_found"),
         ("create service/{service} for the pods of {kind}/{deployment} in namespace {namespace}, or correct MLFLOW_TRACKING_URI of its clients",),
         ("restart: the pods are well",), ("N-04",)),
    Kind("service.selector_matches_nothing", CAUSE, "critical", ML, ("service.no_endpoints", "service.unreachable"),
         ("kubectl -n {namespace} patch service {service} --type=merge -p '{patch}'",),
         ("restart: the pods are well, the Service does not select them",), ("S-01",)),
    Kind("service.selector_matches_others", CAUSE, "critical", ML,
         ("service.no_endpoints", "service.unreachable", "service.intermittent", "web_server.api_failing"),
         ("kubectl -n {namespace} patch service {service} --type=merge -p '{patch}'",), ("restart: the pods are well",), ("S-05",)),
    Kind("service.port_mismatch", CAUSE, "critical", ML, ("service.unreachable", "service.no_endpoints"),
         ("let service/{service} lead to port {port}: kubectl -n {namespace} patch service {service} --type=json -p '{patch}'",),
         ("restart: the pods are well, the Service leads to another port",), ("S-02",)),
    Kind("service.ingress_backend_wrong", CAUSE, "high", ML, (),
         ("correct the backend of ingress/{ingress}: {reason}",), (), ("I-02", "I-03")),
    Kind("service.ingress_class_missing", CAUSE, "high", ML, (),
         ("correct the class of ingress/{ingress}: {reason}",), (), ("I-01",)),
    Kind("service.ingress_certificate_broken", CAUSE, "high", ML, (),
         ("renew or correct the certificate of ingress/{ingress}: {reason}",), (), ("I-09", "T-04")),
    Kind("service.ingress_path_wrong", CAUSE, "high", ML, (),
         ("correct the path of ingress/{ingress} or set --static-prefix: {reason}",), (), ("C-05", "I-12")),
    Kind("service.ingress_host_rejected", CAUSE, "high", ML, ("logs.host_rejected",),
         ("add the host of ingress/{ingress} to --allowed-hosts of {kind}/{deployment}: {reason}",),
         ("switch the security middleware off",), ("W-10", "W-12")),
    Kind("service.ingress_not_published", NOTE, "medium", K8S, (), ("look at the controller of ingress/{ingress}",), (), ("I-01",)),
    Kind("service.client_port_wrong", CAUSE, "medium", ML, (), ("set MLFLOW_TRACKING_URI of {client} to {uri}",),
         ("restart: the server is well, the client asks at the wrong place",), ("C-03",)),
    Kind("service.client_scheme_wrong", CAUSE, "medium", ML, (), ("set MLFLOW_TRACKING_URI of {client} to {uri}",),
         ("restart: the server is well, the client asks at the wrong place",), ("C-02", "C-04")),
    Kind("service.client_path_wrong", CAUSE, "medium", ML, (), ("set MLFLOW_TRACKING_URI of {client} to {uri}",),
         ("restart: the server is well, the client asks at the wrong place",), ("C-05",)),
    Kind("service.replica_failing", EITHER, "high", ML, ("service.intermittent", "service.unreachable"),
         ("compare {pod} with the other replicas: node, image, environment, age", "kubectl -n {namespace} delete pod {replica}"),
         (), ("S-06", "G-02")),
    Kind("service.intermittent", SYMPTOM, "high", NET),
    Kind("service.no_endpoints", SYMPTOM, "high", ML, ("service.unreachable",)),
    Kind("service.unreachable", SYMPTOM, "high", NET),
    Kind("service.name_not_found", SYMPTOM, "high", NET, ("service.unreachable",)),
    # database
    Kind("database.instance_stopped", CAUSE, "critical", DBA, (*REFUSED, *NO_DATABASE, "database.name_not_found"),
         ("ask why it was stopped, then: aws rds start-db-instance --db-instance-identifier {instance}",),
         (NO_RESTART,), ("D-02",)),
    Kind("database.instance_in_transition", CAUSE, "critical", DBA, (*REFUSED, *NO_DATABASE, "logs.database_rejects_login", "database.login_denied"),
         ("wait; RDS says {status}: aws rds wait db-instance-available --db-instance-identifier {instance}",),
         (NO_RESTART,), ("D-04",)),
    Kind("database.instance_failed", CAUSE, "critical", DBA, (*REFUSED, *NO_DATABASE),
         ("RDS says {status}: aws rds describe-events --source-type db-instance --source-identifier {instance}",),
         (NO_RESTART,), ("D-03",)),
    Kind("database.storage_full", CAUSE, "critical", DBA, (*REFUSED, *API, "logs.database_full"),
         ("let the database team free or grow the storage of {instance}",), (NO_RESTART,), ("D-22",)),
    Kind("database.instance_missing", CAUSE, "critical", DBA, (*REFUSED, *NO_DATABASE, "database.name_not_found"),
         ("find out whether {instance} was deleted or renamed",), (NO_RESTART,), ("N-01",)),
    Kind("database.name_not_found", EITHER, "critical", ML, NO_DATABASE,
         ("compare the host in {origin} with the endpoint that RDS describes",), (NO_RESTART,), ("N-01",)),
    Kind("database.uri_unescaped", CAUSE, "critical", ML, (*NO_DATABASE, "database.name_not_found"),
         ("percent-encode the password in the URI in {origin} (an @ is %40), then restart {kind}/{deployment}",), (NO_RESTART,), ("G-05",)),
    Kind("database.security_group_closed", CAUSE, "critical", NET, NO_DATABASE,
         ("put the ingress rule for TCP {port} from {source} back into {group}",), (NO_RESTART,), ("P-02",)),
    Kind("database.network_acl_closed", CAUSE, "critical", NET, NO_DATABASE,
         ("let the network team correct {acl}: {reason}; rules are judged by number, each way by itself",), (NO_RESTART,), ("P-02",)),
    Kind("database.wrong_port", CAUSE, "critical", ML, (*REFUSED, *NO_DATABASE),
         ("the URI in {origin} says port {port}, RDS listens on {endpoint_port}",), (NO_RESTART,), ("D-01", "D-13")),
    Kind("database.wrong_endpoint", CAUSE, "critical", ML, (*REFUSED, *NO_DATABASE, *LOGIN, "database.name_not_found"),
         ("the URI in {origin} says {host}, RDS describes {endpoint}",), (NO_RESTART,), ("N-01",)),
    Kind("database.not_listening", EITHER, "critical", DBA, REFUSED,
         ("let the database team look at {host}:{port}, which refuses connections",), (NO_RESTART,), ("D-01",)),
    Kind("database.password_wrong", CAUSE, "critical", ML, LOGIN,
         ("put the password of database user {user} into {origin}, then restart {kind}/{deployment}",), (NO_RESTART,), ("D-05", "G-05")),
    Kind("database.credentials_stale", CAUSE, "critical", ML, LOGIN,
         ("kubectl -n {namespace} rollout restart {kind}/{deployment}: the Secret is newer than the pod and its login works",),
         (), ("G-01",)),
    Kind("database.password_missing", CAUSE, "critical", ML, LOGIN, ("put a password into {origin}",), (NO_RESTART,), ("D-07",)),
    Kind("database.unknown_database", CAUSE, "critical", ML, LOGIN,
         ("database {database} does not exist on {host}: correct {origin} or ask the database team",),
         (NO_RESTART, "create the database: that would hide a loss of data"), ("D-08", "G-06")),
    Kind("database.tls_required", CAUSE, "critical", ML, LOGIN, ("add sslmode=require to the URI in {origin}",), (NO_RESTART,), ("D-09",)),
    Kind("database.certificate_rejected", CAUSE, "critical", ML, (*LOGIN, "logs.database_certificate"),
         ("renew the CA bundle that the URI in {origin} names: {error}",), (NO_RESTART,), ("D-10", "D-11", "D-12")),
    Kind("database.client_not_admitted", CAUSE, "critical", DBA, LOGIN,
         ("let the database team admit user {user} to {database}: {error}",), (NO_RESTART,), ("D-09",)),
    Kind("database.connections_exhausted", CAUSE, "critical", DBA, LOGIN,
         ("let whoever holds them end idle sessions ({holders}), before the limit is raised",),
         (NO_RESTART, "scale out: each pod wants more connections"), ("D-17",)),
    Kind("database.connection_limit_reached", CAUSE, "critical", DBA, LOGIN,
         ("let the database team raise the connection limit of {limit}, or let MLflow want fewer (workers, pool)",),
         (NO_RESTART, "scale out: each pod wants more connections"), ("D-18",)),
    Kind("database.not_accepting", CAUSE, "critical", DBA, (*LOGIN, *REFUSED), ("let the database team look: {error}",), (NO_RESTART,), ("D-35", "D-04")),
    Kind("database.read_only", CAUSE, "critical", DBA, API,
         ("let the database team look for a failover or default_transaction_read_only at {host}: {why}",),
         (NO_RESTART,), ("D-16",)),
    Kind("database.privileges_missing", CAUSE, "critical", DBA, (*LOGIN, "logs.database_privileges", "database.objects_missing"),
         ("let the database team grant {missing} to {user}",), (NO_RESTART,), ("D-31",)),
    Kind("database.schema_mismatch", CAUSE, "critical", ML, (*API, *SERVING, "logs.database_schema"),
         ("the schema is at {revision}, the image {image} expects {head}: take a snapshot, then decide which one to move",),
         ("restart: a new pod would exit at once", "roll back or forward before a snapshot exists"), ("D-24", "D-25")),
    Kind("database.objects_missing", EITHER, "critical", DBA, API, ("{error}: compare the schema with a backup",), (), ("D-32",)),
    Kind("database.blocked_by_lock", CAUSE, "critical", DBA, (*API, *SERVING),
         ("ask the owner of session {pid} ({application}) to end its transaction; the database team can: "
          "SELECT pg_terminate_backend({pid})",),
         ("restart: the lock stays", "raise the pool: more sessions would wait"), ("D-21", "D-28")),
    Kind("database.pool_exhausted", EITHER, "high", ML, ("web_server.api_failing", "logs.worker_timeout"),
         ("look for slow or locked queries before raising the pool",), (), ("D-19",)),
    Kind("database.statement_canceled", EITHER, "high", DBA, ("web_server.api_failing", "logs.worker_timeout"),
         ("let the database team look at {setting}, which ends MLflow's statements",), ("restart: the setting stays",), ("D-33",)),
    Kind("database.session_abandoned", NOTE, "medium", ML, (),
         ("end session {pid} ({application}), {seconds} s idle in a transaction: SELECT pg_terminate_backend({pid})",), (), ("D-21",)),
    Kind("database.change_pending", NOTE, "medium", DBA, (), ("ask the database team when RDS makes {changes}: sessions may end",), (), ("D-04",)),
    Kind("database.connect_timeout", SYMPTOM, "critical", NET, NO_DATABASE),
    Kind("database.connect_refused", SYMPTOM, "critical", DBA, REFUSED),
    Kind("database.login_denied", SYMPTOM, "critical", DBA, LOGIN),
    # artifact store
    Kind("artifact_store.role_policy_denies", CAUSE, "high", IAM, ARTIFACTS,
         ("let the owner of role {role} allow {actions} on {resource}",), ("restart: the policy stays as it is",), ("A-02",)),
    Kind("artifact_store.permissions_boundary_denies", CAUSE, "high", IAM, ARTIFACTS,
         ("let the owner of the permissions boundary {boundary} of role {role} allow {actions} on {resource}",),
         ("restart: the boundary stays as it is",), ("A-06",)),
    Kind("artifact_store.bucket_policy_denies", CAUSE, "high", IAM, ARTIFACTS,
         ("let the owner of bucket {bucket} look at its policy: it denies {actions} to role {role}",),
         ("restart: the policy stays as it is",), ("A-06", "A-22")),
    Kind("artifact_store.guardrail_denies", EITHER, "high", IAM, ARTIFACTS,
         ("ask the cloud platform for the {policy} that forbids {actions} to role {role}",),
         ("restart: the policy stays as it is",), ("A-06",)),
    Kind("artifact_store.encryption_key_denied", CAUSE, "high", IAM, ARTIFACTS,
         ("let the owner of {key} look at its state and at its policy for role {role}",),
         ("restart: the key stays as it is",), ("A-08",)),
    Kind("artifact_store.bucket_missing", CAUSE, "high", IAM, (*ARTIFACTS, "artifact_store.unreachable"),
         ("find out who removed or renamed bucket {bucket}",), ("create the bucket: that would hide a loss of data",), ("A-07",)),
    Kind("artifact_store.identity_missing", CAUSE, "high", IAM, ARTIFACTS,
         ("annotate serviceaccount/{service_account} with eks.amazonaws.com/role-arn, then restart",),
         ("restart: a new pod would have no identity either",), ("A-01", "A-04")),
    Kind("artifact_store.identity_stale", CAUSE, "high", ML, ARTIFACTS,
         ("kubectl -n {namespace} rollout restart {kind}/{deployment}: the annotation is newer than the pod",), (), ("A-01", "A-04")),
    Kind("artifact_store.identity_not_injected", CAUSE, "high", K8S, ARTIFACTS,
         ("look at the webhook that gives pods their AWS identity, then restart {kind}/{deployment}",),
         ("restart: a new pod would have no identity either",), ("A-01", "A-04")),
    Kind("artifact_store.trust_policy_denies", CAUSE, "high", IAM, ARTIFACTS,
         ("let the owner of role {role} trust {subject}",), ("restart: the trust policy stays as it is",), ("A-03", "A-05")),
    Kind("artifact_store.role_missing", CAUSE, "high", IAM, ARTIFACTS,
         ("role {role} of serviceaccount/{service_account} does not exist: correct the annotation or restore the role",),
         ("restart: a new pod could not assume the role either",), ("A-03",)),
    Kind("artifact_store.identity_provider_missing", CAUSE, "high", IAM, ARTIFACTS,
         ("let the cloud platform register the cluster's token issuer: {provider}",),
         ("restart: no pod of the cluster can assume a role",), ("A-05",)),
    Kind("artifact_store.token_audience_wrong", CAUSE, "high", IAM, ARTIFACTS,
         ("let the tokens' audience ({audience}) and the audiences of {provider} agree",), (), ("A-05",)),
    Kind("artifact_store.static_keys_refused", CAUSE, "high", ML, ARTIFACTS,
         ("remove AWS_ACCESS_KEY_ID from {kind}/{deployment} so that its role counts, or put keys that AWS accepts into {keys}",),
         ("restart: the keys stay as they are",), ("A-11", "A-12")),
    Kind("artifact_store.token_missing", CAUSE, "high", ML, ARTIFACTS,
         ("let {variable} of {kind}/{deployment} name the token that is mounted, or remove it so that the webhook sets it",),
         ("restart: the variable stays as it is",), ("A-20",)),
    Kind("artifact_store.wrong_region", CAUSE, "high", ML, (*ARTIFACTS, "artifact_store.unreachable"),
         ("set AWS_REGION and AWS_DEFAULT_REGION of {kind}/{deployment} to {region}",), ("restart: the region stays as it is",), ("A-09",)),
    Kind("artifact_store.endpoint_wrong", CAUSE, "high", ML, (*ARTIFACTS, "artifact_store.unreachable"),
         ("correct MLFLOW_S3_ENDPOINT_URL of {kind}/{deployment}, now {url}; Amazon S3 needs none",),
         ("restart: the address stays as it is",), ("A-10",)),
    Kind("artifact_store.unreachable", EITHER, "high", NET, ARTIFACTS,
         ("check the route or VPC endpoint from the pods to S3 and STS",), ("restart: the route stays as it is",), ("P-03", "A-14", "A-19")),
    Kind("artifact_store.driver_missing", CAUSE, "high", ML, ARTIFACTS, ("use an image with boto3: {error}",),
         ("restart: the image stays as it is",), ("A-17",)),
    Kind("artifact_store.serving_disabled", CAUSE, "high", ML, ARTIFACTS,
         ("decide: serve artifacts again (remove --no-serve-artifacts), or move the experiments to s3:// locations",),
         ("restart: the option stays",), ("A-18",)),
    Kind("artifact_store.access_denied", SYMPTOM, "high", IAM),
    Kind("artifact_store.list_failing", SYMPTOM, "high", IAM),
    # network policy
    Kind("network_policy.ingress_denied", CAUSE, "high", NET, ("service.unreachable",),
         ("let the owner of {policies} admit TCP {port} from namespace {source}",),
         ("restart: the policy stays as it is",), ("P-01",)),
    Kind("network_policy.source_egress_denied", CAUSE, "high", NET, ("service.unreachable", "service.name_not_found", "service.intermittent"),
         ("let the owner of {policies} admit egress to {destination}",), ("restart: the server is well",), ("P-01", "N-03")),
    Kind("network_policy.egress_denied", CAUSE, "critical", NET,
         (*NO_DATABASE, *REFUSED, "database.name_not_found", "artifact_store.unreachable", "logs.artifact_store_unreachable",
          "network_policy.dns_failing", "latency.slow_calls", *ARTIFACTS),
         ("let the owner of {policies} admit egress to {destination}",), (NO_RESTART,), ("P-02", "P-03", "N-03")),
    Kind("network_policy.dns_failing", EITHER, "critical", K8S,
         ("database.name_not_found", *NO_DATABASE, "artifact_store.unreachable", "logs.artifact_store_unreachable",
          "service.name_not_found", "latency.slow_calls"),
         ("look at CoreDNS in kube-system: {error}",), (NO_RESTART,), ("N-02", "N-03")),
    # web server
    Kind("web_server.static_prefix", CAUSE, "high", ML,
         ("web_server.api_failing", "web_server.root_not_found", "pods.probe_misconfigured",
          *PODS, "service.no_endpoints", "service.unreachable"),
         ("remove --static-prefix={prefix} from {kind}/{deployment}, and change its probes with it",),
         ("restart: the option stays",), ("C-05", "I-12", "K-13")),
    Kind("web_server.host_not_allowed", CAUSE, "high", ML, ("service.unreachable", "web_server.api_failing", "logs.host_rejected", *PODS),
         ("add {hosts} to --allowed-hosts of {kind}/{deployment}",), ("switch the security middleware off",), ("W-10", "W-12")),
    Kind("web_server.bound_to_loopback", CAUSE, "critical", ML, SERVING, ("start MLflow with --host=0.0.0.0",), (), ("S-03",)),
    Kind("web_server.options_invalid", CAUSE, "critical", ML, (*SERVING, *API),
         ("correct the command of {kind}/{deployment}: {error}",), ("restart: the options stay",),
         ("G-07", "G-08", "G-09", "G-10", "G-11", "G-12", "W-05")),
    Kind("web_server.driver_missing", CAUSE, "critical", ML, (*SERVING, *API), ("use an image with {error}, or name the driver in the URI",),
         (), ("D-14",)),
    Kind("web_server.workers_cannot_start", CAUSE, "critical", ML, (*SERVING, *API, "logs.worker_died"), ("{error}",), (), ("W-04",)),
    Kind("web_server.temporary_folder_missing", CAUSE, "critical", ML, (*SERVING, *API), ("give {kind}/{deployment} a writable {error}",), (),
         ("F-01", "F-02", "F-05")),
    Kind("web_server.sqlite_fallback", CAUSE, "critical", ML, (), ("stop writers, keep the pod's database file, then set the backend store URI",),
         ("restart: the pod's own database would be lost",), ("G-03", "G-04")),
    Kind("web_server.workers_overridden", NOTE, "medium", ML, (),
         ("set --workers or MLFLOW_WORKERS: MLflow appends it behind its gunicorn options",), (), ("W-09",)),
    Kind("web_server.keep_alive_ignored", NOTE, "medium", ML, (), ("use the gthread worker class if connections have to stay open",), (), ("I-06",)),
    Kind("web_server.worker_timeout", EITHER, "high", ML,
         (*API, KILLED, *PODS, "web_server.not_answering", "service.no_endpoints", "service.unreachable"),
         ("look at slow calls first, then at --timeout and --workers",), (), ("W-01",)),
    Kind("web_server.artifact_disk_full", CAUSE, "high", ML, ARTIFACTS, ("free or enlarge the pod's temporary folder",), (), ("A-16",)),
    Kind("web_server.api_failing", SYMPTOM, "critical", ML, ("service.unreachable",)),
    Kind("web_server.registry_failing", SYMPTOM, "high", ML),
    Kind("web_server.not_answering", SYMPTOM, "critical", ML, (*PODS, "service.unreachable", "service.no_endpoints")),
    Kind("web_server.root_not_found", SYMPTOM, "medium", ML),
    # latency
    Kind("latency.slow_calls", SYMPTOM, "medium", ML),
    Kind("latency.database_slow", EITHER, "high", DBA, ("latency.slow_calls", *API, *PODS, "service.unreachable"),
         ("aws cloudwatch get-metric-data for {instance}: ReadLatency, WriteLatency, CPUUtilization",
          "compare the zones of the pods and of {instance}"),
         ("scale out: each pod would wait as long",), ("L-04", "L-12", "D-20")),
    Kind("latency.burst_credits_exhausted", CAUSE, "high", DBA, ("latency.database_slow", "latency.slow_calls", *API, *PODS),
         ("let the database team move {instance} to storage or a class without burst credits",),
         ("scale out: each pod would wait as long",), ("L-11",)),
    Kind("latency.cpu_throttled", CAUSE, "high", ML, ("latency.slow_calls", *API, *PODS, "service.unreachable", "web_server.not_answering"),
         ("raise the CPU limit of container {container} (now {limit} cores)",), ("restart: the limit stays",), ("L-01",)),
    Kind("latency.workers_blocked", EITHER, "high", ML, ("latency.slow_calls", *API, *PODS, "web_server.not_answering", "service.unreachable"),
         ("find the peers that hold the workers (kubectl port-forward is one), then give gunicorn threads or more workers",), (), ("L-03", "W-01", "W-09")),
    Kind("latency.dns_slow", CAUSE, "high", K8S, ("latency.slow_calls", *API), ("look at CoreDNS in kube-system",), (), ("L-10",)),
    Kind("latency.object_storage_slow", CAUSE, "medium", NET, (), ("compare with the AWS health dashboard",), (), ("L-09",)),
    # logs
    *(
        Kind(f"logs.{name}", SYMPTOM, "medium", ML)
        for name in (
            "database_timeout", "database_refused", "database_unreachable", "database_rejects_login", "database_full",
            "database_certificate", "database_privileges", "database_schema", "artifact_store_denied",
            "artifact_store_unreachable", "worker_timeout", "worker_died", "host_rejected",
        )
    ),
)

# fmt: on
BY_ID = {kind.id: kind for kind in KINDS}


def closure(identifier: str) -> frozenset[str]:
    """Return every kind that one kind can explain, directly or through others."""
    reached: set[str] = set()
    waiting = list(BY_ID[identifier].explains)
    while waiting:
        current = waiting.pop()
        if current not in reached and current in BY_ID:
            reached.add(current)
            waiting += BY_ID[current].explains
    return frozenset(reached)
