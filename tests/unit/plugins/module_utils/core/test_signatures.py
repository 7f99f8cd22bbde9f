# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of MLflow 3.17.2, its drivers and its web servers (field guide section 9), and what they are a sign of."""

from __future__ import annotations

import re

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.redaction import Redactor
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.signatures import ACCESS, SIGNATURES, Signature

LINES = {
    "artifact_store.driver_missing": ("ModuleNotFoundError: No module named 'boto3'",),
    "logs.artifact_store_denied": (
        "An error occurred (AccessDenied) when calling the AssumeRoleWithWebIdentity operation: Not "
        "authorized to perform sts:AssumeRoleWithWebIdentity",
        "An error occurred (InvalidIdentityToken) when calling the AssumeRoleWithWebIdentity operation: "
        "Incorrect token audience",
        "An error occurred (AccessDenied) when calling the PutObject operation: User: "
        "arn:aws:sts::111122223333:assumed-role/mlflow/x is not authorized to perform: kms:GenerateDataKey "
        "on resource: …",
        "An error occurred (AccessDenied) when calling the PutObject operation: … because no VPC endpoint "
        "policy allows the s3:ListBucket action",
        "An error occurred (AccessDenied) when calling the PutObject operation: User: … is not authorized to "
        "perform: s3:PutObject … because no identity-based policy allows the s3:PutObject action",
        "An error occurred (NoSuchBucket) when calling the PutObject operation: The specified bucket does not exist",
        "An error occurred (RequestTimeTooSkewed) when calling the PutObject operation: The difference "
        "between the request time and the current time is too large.",
        "An error occurred (SlowDown) when calling the PutObject operation (reached max retries: 2): Please "
        "reduce your request rate.",
        "botocore.exceptions.NoCredentialsError: Unable to locate credentials",
    ),
    "logs.artifact_store_unreachable": (
        "botocore.exceptions.EndpointConnectionError: Could not connect to the endpoint URL: "
        '"http://127.0.0.1:5799/b/mlflow/r/a.txt"',
        "botocore.exceptions.SSLError: SSL validation failed for https://127.0.0.1:5700/b/mlflow/r/a.txt "
        "[SSL: WRONG_VERSION_NUMBER] wrong version number",
        'botocore.exceptions.ReadTimeoutError: Read timeout on endpoint URL: "http://127.0.0.1:5700/b/mlflow/r/a.txt"',
    ),
    "logs.database_certificate": (
        'failed: root certificate file "/etc/ssl/rds-ca.pem" does not exist',
        '(psycopg.OperationalError) connection failed: connection to server at "127.0.0.1", port 55432 '
        "failed: SSL error: certificate verify failed",
        'failed: server certificate for "127.0.0.1" (and 1 other name) does not match host name "localhost"',
    ),
    "logs.database_full": (
        '(psycopg2.errors.DiskFull) could not extend file "pg_tblspc/1/PG_15/2/3_fsm": No space left on device',
    ),
    "logs.database_privileges": (
        "(psycopg2.errors.InsufficientPrivilege) permission denied for schema public",
        '{"error_code": "BAD_REQUEST", "message": "(psycopg2.errors.InsufficientPrivilege) permission denied '
        "for table experiments",
    ),
    "logs.database_refused": (
        '(psycopg.OperationalError) connection failed: connection to server at "127.0.0.1", port 55432 '
        "failed: Connection refused",
        '(psycopg2.OperationalError) connection to server at "localhost" (127.0.0.1), port 55432 failed: '
        "Connection refused",
    ),
    "logs.database_rejects_login": (
        'connection to server at "127.0.0.1", port 55432 failed: FATAL:  password authentication failed for '
        'user "mlflow"',
        'FATAL:  PAM authentication failed for user "mlflow"',
        'connection to server at "127.0.0.1", port 55432 failed: fe_sendauth: no password supplied',
        'connection to server at "127.0.0.1", port 55432 failed: FATAL:  database "nosuchdb" does not exist',
        'failed: FATAL:  no pg_hba.conf entry for host "127.0.0.1", user "mlflow", database "mlflow_nohba", '
        "no encryption",
        'failed: FATAL:  pg_hba.conf rejects connection for host "127.0.0.1", user "mlflow", database '
        '"mlflow_ssl", no encryption',
        "failed: FATAL:  remaining connection slots are reserved for non-replication superuser connections",
        "FATAL:  sorry, too many clients already",
        'failed: FATAL:  too many connections for role "mlflow"',
        "failed: FATAL:  the database system is starting up",
        "failed: FATAL:  the database system is not yet accepting connections",
        'failed: FATAL:  database "mlflow" is not currently accepting connections',
    ),
    "logs.database_schema": (
        "ERROR mlflow.cli: Detected out-of-date database schema (found version 75868b020152, but expected "
        "dc11669786a5). Take a backup of your database, then run",
        "mlflow.exceptions.MlflowException: Detected out-of-date database schema (found version None, but "
        "expected dc11669786a5).",
        "alembic.util.exc.CommandError: Can't locate revision identified by 'dc11669786a5'",
    ),
    "logs.database_timeout": (
        '(psycopg2.OperationalError) connection to server at "127.0.0.1", port 5999 failed: timeout expired',
        '(psycopg2.OperationalError) connection to server at "127.0.0.1", port 5999 failed: Connection timed out',
        "(psycopg.errors.ConnectionTimeout) connection timeout expired",
    ),
    "logs.database_unreachable": (
        '(psycopg2.OperationalError) could not translate host name "w@10.0.0.9" to address: Name or service not known',
        "(psycopg.OperationalError) failed to resolve host 'w@10.0.0.9': [Errno -2] Name or service not known",
        '(psycopg2.OperationalError) could not translate host name "db.example.internal" to address: '
        "Temporary failure in name resolution",
        "(psycopg.OperationalError) failed to resolve host 'db.example.internal': [Errno -3] Temporary "
        "failure in name resolution",
        '(psycopg2.OperationalError) could not translate host name "nosuch.invalid" to address: Name or '
        "service not known",
        "(psycopg.OperationalError) failed to resolve host 'no-such-host.svc.cluster.local': [Errno -2] Name "
        "or service not known",
        "Operation will be retried in 51.1 seconds",
    ),
    "logs.host_rejected": (
        "WARNING mlflow.server.fastapi_security: Rejected request with invalid Host header: "
        "mlflow.mlops.svc.cluster.local:5000",
        "WARNING mlflow.server.security: Rejected request with invalid Host header: mlflow.example.com",
    ),
    "logs.worker_died": (
        "[2026-11-21 23:56:17 +0000] [20740] [ERROR] Worker (pid:5842) exited with code 3.",
        "INFO:     Child process [17592] died",
    ),
    "logs.worker_timeout": ("[2026-11-21 22:56:37 +0000] [20740] [CRITICAL] WORKER TIMEOUT (pid:20744)",),
    "logs.temporary_folder_full": ("OSError: [Errno 28] No space left on device",),
    "web_server.driver_missing": (
        "ERROR mlflow.cli: No module named 'psycopg'",
        "ERROR mlflow.cli: No module named 'psycopg2'",
    ),
    "web_server.options_invalid": (
        "    ctx.load_cert_chain(certfile, keyfile, get_password)",
        "mlflow.exceptions.MlflowException: The filesystem tracking backend (e.g., './mlruns') is in "
        "maintenance mode and will not receive further updates.",
        " Model registry functionality is unavailable; got unsupported URI "
        "'postgres://mlflow:REDACTED@db/mlflow' for model registry data storage.",
        "ValueError: invalid literal for int() with base 10: 'port'",
        "mlflow.exceptions.MlflowException: A static secret key needs to be set for CSRF protection.",
        "MLflow Authentication needs a password to create the admin user 'admin', but none is configured",
        "Refusing to use the insecure default password that older MLflow versions shipped",
        "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 5630): address already in use",
        "ERROR:    [Errno 99] error while attempting to bind on address ('10.99.99.99', 5632): cannot assign "
        "requested address",
        "[ERROR] Connection in use: ('127.0.0.1', 5630)",
    ),
    "web_server.store_file_unusable": ("(sqlite3.OperationalError) unable to open database file",),
    "web_server.temporary_folder_missing": (
        "FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp', '/var/tmp', '/usr/tmp', '/app']",
        "OSError: [Errno 30] Read-only file system: '/dev/shm/tmpxab9aa47'",
    ),
    "web_server.workers_cannot_start": (
        "RuntimeError: gevent worker requires gevent 24.10.1 or higher",
        "ModuleNotFoundError: No module named 'prometheus_flask_exporter'",
    ),
}

SILENT = (
    "(psycopg2.OperationalError) SSL connection has been closed unexpectedly",
    "(psycopg2.OperationalError) SSL SYSCALL error: EOF detected",
    "(psycopg2.errors.QueryCanceled) canceling statement due to statement timeout",
    "(psycopg2.errors.LockNotAvailable) canceling statement due to lock timeout",
    "(psycopg2.errors.DeadlockDetected) deadlock detected",
    '{"error_code": "BAD_REQUEST", "message": "QueuePool limit of size 5 overflow 10 reached, connection '
    'timed out, timeout 30.00 (Background on this error at: …)"}',
    '{"error_code": "BAD_REQUEST", "message": "(psycopg2.errors.ReadOnlySqlTransaction) cannot execute '
    "INSERT in a read-only transaction",
    '{"error_code": "BAD_REQUEST", "message": "(psycopg2.errors.UndefinedTable) relation '
    '\\"experiments\\" does not exist',
    '{"error_code": "BAD_REQUEST", "message": "(psycopg2.errors.UndefinedColumn) column '
    "experiments.workspace does not exist",
    '(psycopg2.OperationalError) connection to server at "240.0.0.1", port 5432 failed: received invalid '
    "response to SSL negotiation: H",
    "INFO mlflow.store.db.utils: Creating initial MLflow database tables...",
    "INFO mlflow.store.db.utils: Updating database tables",
    '(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "pg_type_typname_nsp_index"',
    '(psycopg2.errors.DuplicateTable) relation "experiments" already exists',
    "ERROR mlflow.cli: Error initializing backend store",
    "Error: Invalid value for '--port' / '-p': 'tcp://10.0.0.1:5000' is not a valid integer.",
    "Backend store URI not provided. Using sqlite:///mlflow.db",
    "ModuleNotFoundError: No module named 'corporate_audit'",
    "Error: Cannot specify multiple server options. Choose one of: '--gunicorn-opts', '--waitress-opts', "
    "or '--uvicorn-opts'.",
    "Error: No such option '--timeout'. (Did you mean one of: '--timeout-keep-alive', '--ws-ping-timeout'?)",
    "gunicorn: error: unrecognized arguments: --threds 4",
    "Error: class uri 'gevnt' invalid or not found:",
    "[2026-11-21 22:56:38 +0000] [20740] [ERROR] Worker (pid:20743) was sent SIGKILL! Perhaps out of memory?",
    "KeyError: 'mlflow'",
    "INFO:     Application startup complete.",
    "INFO:     Waiting for connections to close. (CTRL+C to force quit)",
    "Running the mlflow server failed: The server process exited with code 3. Please see the logs above for details.",
    "Invalid Host header - possible DNS rebinding attack detected",
    "WARNING mlflow.server.fastapi_security: Blocked cross-origin request from https://mlflow.example.com",
    "ValueError: Invalid endpoint: minio:9000",
    '{"error_code": "PERMISSION_DENIED", "message": "Failed to list artifacts in s3://b/mlflow: Not '
    'authorized to perform sts:AssumeRoleWithWebIdentity"}',
    "Max retries exceeded with url: /api/2.0/mlflow/experiments/search (Caused by "
    "NewConnectionError(\"HTTPConnection(host='127.0.0.1', port=1): Failed to establish a new "
    'connection: [Errno 111] Connection refused"))',
    "(Caused by NameResolutionError(\"HTTPConnection(host='mlflow.nosuch.invalid', port=5000): Failed "
    "to resolve 'mlflow.nosuch.invalid' ([Errno -2] Name or service not known)\"))",
    "Max retries exceeded with url: /api/2.0/mlflow/experiments/search (Caused by SSLError(SSLError(1, "
    "'[SSL: WRONG_VERSION_NUMBER] wrong version number')))",
    "(Caused by ResponseError('too many 503 error responses'))",
    "API request to endpoint /api/2.0/mlflow/experiments/search failed with error code 403 != 200. "
    "Response body: 'Invalid Host header - possible DNS rebinding attack detected'",
    "(Caused by ReadTimeoutError(\"HTTPConnectionPool(host='127.0.0.1', port=5700): Read timed out. "
    '(read timeout=120)"))',
)
"""Moments, other people's lines and answers that probes read: no finding comes from them."""


def first(line: str) -> Signature | None:
    return next((signature for signature in SIGNATURES if signature.pattern.search(line)), None)


@pytest.mark.parametrize(("finding", "line"), [(finding, line) for finding, lines in LINES.items() for line in lines])
def test_a_line_is_a_sign_of_its_finding_also_when_it_is_redacted(finding: str, line: str) -> None:
    signature, redacted = first(line), first(Redactor().text(line))
    assert signature is not None
    assert signature.finding == finding
    assert redacted is signature


@pytest.mark.parametrize("line", SILENT)
def test_other_lines_are_a_sign_of_nothing(line: str) -> None:
    signature = first(line)
    assert signature is None or signature.finding == ""


@pytest.mark.parametrize("signature", SIGNATURES, ids=[signature.id for signature in SIGNATURES])
def test_every_signature_is_the_first_to_match_something(signature: Signature) -> None:
    seen = {found.id for line in (*sum(LINES.values(), ()), *SILENT) if (found := first(line))}
    assert signature.id in seen
    assert re.fullmatch(r"[A-Z]-\d\d", signature.fault)


def test_ids_are_unique() -> None:
    assert len({signature.id for signature in SIGNATURES}) == len(SIGNATURES)


@pytest.mark.parametrize(
    ("line", "group", "expected"),
    [
        (LINES["logs.database_schema"][0], "found", "75868b020152"),
        (LINES["logs.database_schema"][0], "expected", "dc11669786a5"),
        (LINES["logs.host_rejected"][1], "host", "mlflow.example.com"),
        (LINES["logs.worker_timeout"][0], "pid", "20744"),
        (LINES["web_server.driver_missing"][0], "error", "psycopg"),
        ("Backend store URI not provided. Using sqlite:///mlflow.db", "error", "sqlite:///mlflow.db"),
    ],
)
def test_what_is_read_out_of_a_line(line: str, group: str, expected: str) -> None:
    signature = first(line)
    assert signature is not None
    found = signature.pattern.search(line)
    assert found is not None
    assert found[group] == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('INFO:     10.91.0.1:40000 - "GET /health HTTP/1.1" 200 OK', ("GET", "/health", "200")),
        (
            '10.91.0.1 - - [01/Jan/2026:00:00:00 +0000] "POST /api/2.0/x HTTP/1.1" 503 12 "-" "py"',
            ("POST", "/api/2.0/x", "503"),
        ),
        ('"CONNECT example.com HTTP/1.1" 200', None),
        ("GET /health", None),
    ],
)
def test_access_lines(line: str, expected: tuple[str, str, str] | None) -> None:
    found = ACCESS.search(line)
    assert (found and found.group("method", "path", "status")) == expected
