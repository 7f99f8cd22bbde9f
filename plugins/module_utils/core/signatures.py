# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Error signatures of MLflow, its drivers and its web servers, as regular expressions over log lines.

Source: field guide section 9, measured with MLflow 3.17.2, psycopg2 2.9, psycopg 3.3, boto3 1.44 and gunicorn 26; the
first match of a line wins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Signature:
    """One error text and the finding that it is a sign of.

    Attributes:
        id: name of the signature.
        fault: id in the field guide's catalogue.
        finding: kind of finding; empty for lines that only mark a moment.
        pattern: searched in one log line.
    """

    id: str
    fault: str
    finding: str
    pattern: re.Pattern[str]


def _signature(identifier: str, fault: str, finding: str, pattern: str) -> Signature:
    return Signature(identifier, fault, finding, re.compile(pattern))


# fmt: off
SIGNATURES = (
    _signature("db_uri_unescaped", "G-05", "logs.database_unreachable", r"(?:could not translate host name \"|failed to resolve host ')[^\"']*@"),
    _signature("db_dns_temp", "N-02", "logs.database_unreachable",
               r"(?:could not translate host name|failed to resolve host).*Temporary failure in name resolution"),
    _signature("db_dns_nx", "N-01", "logs.database_unreachable",
               r"(?:could not translate host name \"[^\"@]*\"|failed to resolve host '[^'@]*').*Name or service not known"),
    _signature("db_refused", "D-01", "logs.database_refused", r"connection to server at \"[^\"]+\"(?: \([^)]+\))?, port \d+ failed: Connection refused"),
    _signature("db_timeout", "P-02", "logs.database_timeout",
               r"port \d+ failed: (?:Connection timed out|timeout expired)|\(psycopg\.errors\.ConnectionTimeout\)"),
    _signature(
        "db_login",
        "D-05",
        "logs.database_rejects_login",
        r"FATAL:\s+(?:password authentication failed|PAM authentication failed|database \"[^\"]+\" (?:does not exist"
        r"|is not currently)|no pg_hba|pg_hba\.conf rejects"
        r"|sorry, too many|remaining connection slots|too many connections for|the database system is)|fe_sendauth: no password supplied",
    ),
    _signature("db_dropped", "D-04", "",
               r"SSL connection has been closed unexpectedly|SSL SYSCALL error: EOF detected"
               r"|server closed the connection unexpectedly|terminating connection due to"),
    _signature("db_diskfull", "D-22", "logs.database_full", r"errors\.DiskFull\)|could not extend file \"[^\"]+\": No space left on device"),
    _signature("db_certificate", "D-11", "logs.database_certificate",
               r"root certificate file \"[^\"]+\" does not exist|SSL error: certificate verify failed"
               r"|server certificate for \"[^\"]+\".* does not match host name"),
    _signature("db_privileges", "D-31", "logs.database_privileges", r"permission denied for (?:schema|table|relation|sequence) \w+"),
    _signature("driver_missing", "D-14", "web_server.driver_missing", r"No module named '(?P<error>psycopg2?|pymysql|MySQLdb|asyncpg)'"),
    _signature("schema_old", "D-24", "logs.database_schema",
               r"Detected out-of-date database schema \(found version (?P<found>\w+), but expected (?P<expected>\w+)\)"),
    _signature("schema_unknown", "D-25", "logs.database_schema", r"Can't locate revision identified by '(?P<rev>\w+)'"),
    _signature("start_retry", "D-01", "logs.database_unreachable", r"Operation will be retried in (?P<s>[\d.]+) seconds"),
    _signature("uri_fallback", "G-03", "", r"Backend store URI not provided\. Using (?P<error>\S+)"),
    _signature("uri_filestore", "G-07", "web_server.options_invalid", r"(?P<error>The filesystem tracking backend .* is in maintenance mode)"),
    _signature("uri_scheme", "G-08", "web_server.options_invalid", r"(?P<error>got unsupported URI) '[^']+' for model registry"),
    _signature("uri_port", "G-05", "web_server.options_invalid", r"(?P<error>invalid literal for int\(\) with base 10)"),
    _signature("port_env", "G-09", "", r"(?P<error>Invalid value for '--port' / '-p': 'tcp://)"),
    _signature("auth_key", "G-12", "web_server.options_invalid", r"(?P<error>A static secret key needs to be set for CSRF protection)"),
    _signature("auth_password", "G-12", "web_server.options_invalid",
               r"(?P<error>needs a password to create the admin user|Refusing to use the insecure default password)"),
    _signature("sqlite_open", "F-05", "web_server.store_file_unusable", r"\(sqlite3\.OperationalError\) (?P<error>unable to open database file)"),
    _signature("bind_failed", "W-05", "web_server.options_invalid",
               r"(?P<error>\[Errno (?:13|9[89])\] error while attempting to bind[^\n]*|(?:Connection in use|Invalid address): \([^)]*\))"),
    _signature("tls_files", "T-03", "web_server.options_invalid", r"(?P<error>load_cert_chain\([^)\n]*\))"),
    _signature("gu_timeout", "W-01", "logs.worker_timeout", r"\[CRITICAL\] WORKER TIMEOUT \(pid:(?P<pid>\d+)\)"),
    _signature("gu_sigkill", "W-03", "", r"Worker \(pid:(?P<pid>\d+)\) was sent SIGKILL! Perhaps out of memory\?"),
    _signature("gu_class", "W-04", "web_server.workers_cannot_start", r"RuntimeError: (?P<error>(?:gevent|eventlet|tornado) worker requires[^\n]*)"),
    _signature("gu_boot", "W-04", "logs.worker_died", r"Worker \(pid:\d+\) exited with code 3|Worker failed to boot"),
    _signature("prom_missing", "W-04", "web_server.workers_cannot_start", r"(?P<error>No module named 'prometheus_flask_exporter')"),
    _signature("uv_died", "W-02", "logs.worker_died", r"Child process \[(?P<pid>\d+)\] died"),
    _signature("host_rejected", "W-10", "logs.host_rejected", r"Rejected request with invalid Host header: (?P<host>\S*)"),
    _signature("tmp_missing", "F-01", "web_server.temporary_folder_missing", r"(?P<error>No usable temporary directory found)"),
    _signature("shm_readonly", "F-02", "web_server.temporary_folder_missing", r"(?P<error>\[Errno 30\] Read-only file system: '/dev/shm/)"),
    _signature("tmp_full", "A-16", "logs.temporary_folder_full", r"OSError: \[Errno 28\] No space left on device"),
    _signature("sts_error", "A-03", "logs.artifact_store_denied",
               r"An error occurred \((?P<code>[\w.]+)\) when calling the AssumeRoleWithWebIdentity operation"),
    _signature("s3_error", "A-02", "logs.artifact_store_denied",
               r"An error occurred \((?P<code>[\w.]+)\) when calling the (?P<op>(?!AssumeRole)\w+) operation"),
    _signature("s3_nocred", "A-01", "logs.artifact_store_denied", r"NoCredentialsError: Unable to locate credentials"),
    _signature("s3_endpoint", "A-10", "logs.artifact_store_unreachable",
               r"EndpointConnectionError: Could not connect to the endpoint URL|botocore\.exceptions\.(?:Read"
               r"|Connect)Timeout(?:Error)?: |botocore\.exceptions\.SSLError: "),
    _signature("s3_boto", "A-17", "artifact_store.driver_missing", r"No module named 'boto(?:3|core)'"),
    _signature("module_missing", "W-04", "", r"(?P<error>(?:ModuleNotFoundError|ImportError): [^\n]{1,160})"),
    _signature("cli_error", "G-10", "", r"^(?:Error|[\w./-]+: error): (?P<error>(?!Running the mlflow server)\S[^\n]{3,160})"),
)

# fmt: on
ACCESS = re.compile(r"\"(?P<method>GET|POST|PUT|PATCH|DELETE) (?P<path>/\S*) HTTP/[\d.]+\" (?P<status>\d{3})")
"""Access line of uvicorn and of gunicorn's default format."""
READY = re.compile(r"Application startup complete|Listening at: https?://")
"""What uvicorn says when a worker can answer, and gunicorn when its port is open."""
BOUND = re.compile(r"(?:Uvicorn running on|Listening at:) https?://(?P<host>\[[^\]]+\]|[^:/\s]+)(?::(?P<port>\d+))?")
"""What both web servers say of their address once it is bound (measured with uvicorn 0.40 and gunicorn 23)."""
