# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program: ``python -m tests.lab.emulation`` inside the lab's network namespace, started by ``tests.lab.cloud``."""

from __future__ import annotations

import json
import signal
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from tests.lab import aws, certificates, consequences, settings
from tests.lab.emulation import behaviour, principals, server
from tests.lab.emulation.gateway import Gateway, log_path

ADMINISTRATOR = "lab-administrator"


def create_administrator() -> dict[str, str]:
    """Create the lab's own all-powerful user and return its access key."""
    iam = principals.iam()
    iam.create_user(settings.AWS_REGION, ADMINISTRATOR, "/", [])
    allow_all = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_user_policy(ADMINISTRATOR, "everything", json.dumps(allow_all))
    key = iam.create_access_key(ADMINISTRATOR)
    return {"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key}


def main() -> None:
    """Serve until SIGTERM."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    behaviour.install()
    reconciler = consequences.Reconciler()
    gateway = Gateway(
        DomainDispatcherApplication(create_backend_app),
        log_path(),
        certificates.service_account_keys()[0].read_text(encoding="utf-8"),
        reconciler.wake,
    )
    names = ["*.us-west-2.amazonaws.com", "*.s3.us-west-2.amazonaws.com", "*.s3.amazonaws.com", "*.amazonaws.com"]
    certificate = certificates.issue("aws", names)
    credentials = create_administrator()
    addresses = [*settings.AWS_ADDRESSES.values(), settings.AWS_OTHER_ADDRESS]
    reconciler.start()
    server.serve(gateway, addresses, certificate, aws.unix_socket())
    settings.write_text(aws.administrator_file(), json.dumps(credentials), mode=0o600)
    stopped.wait()


if __name__ == "__main__":
    main()
