# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repair does inside the server's own container: end one session, or remove old files."""

from __future__ import annotations

import os
import time
from typing import Any

from . import container, database, disk
from .common import Failed

END_SESSION = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = %s AND usename = current_user AND usename = %s AND state LIKE 'idle in transaction%%'
  AND backend_start::text = %s AND now() - state_change >= %s * interval '1 second'
"""
"""The session has to be the very one that was seen, still idle, still of our own role, and idle for long enough."""


def end_session(wanted: dict[str, Any]) -> dict[str, Any]:
    """End one abandoned session with the server's own login.

    Args:
        wanted: ``pid``, ``user``, ``backend_start`` (PostgreSQL's text) and ``least_seconds``.
    """
    found = container.processes()
    environment = container.server_environment(found)
    backend = container.split_uri(container.backend_uri(container.server_words(found), environment), environment)
    try:
        connection = database.login(backend)
    except Failed as failure:
        return {"changed": False, "error": f"no login to the database: {failure.value['result']}"}
    try:
        cursor = connection.cursor()
        cursor.execute(END_SESSION, (wanted["pid"], wanted["user"], wanted["backend_start"], wanted["least_seconds"]))
        ended = [row[0] for row in cursor.fetchall()]
    finally:
        connection.close()
    if ended == [True]:
        return {"changed": True, "msg": f"session {wanted['pid']} was ended"}
    return {"changed": False, "msg": f"session {wanted['pid']} is not there any more, or is at work again"}


def clear_cache(wanted: dict[str, Any]) -> dict[str, Any]:
    """Remove old files that nobody has open below a directory, never through a link and never across a mount.

    Args:
        wanted: ``directory`` and ``older_than_seconds``.
    """
    directory, before = wanted["directory"], time.time() - wanted["older_than_seconds"]
    real = os.path.realpath(directory)
    if not os.path.isdir(directory):
        return {"changed": False, "removed": 0, "bytes": 0, "msg": f"{directory} is not there"}
    if real != os.path.normpath(directory):
        return {"changed": False, "error": f"{directory} is a link to {real}; nothing was removed"}
    removed = size = 0
    for descriptor, name, status in disk.clearable(directory, before):
        os.unlink(name, dir_fd=descriptor)
        removed, size = removed + 1, size + status.st_blocks * 512
    text = f"{removed} files of {size} bytes were removed from {directory}"
    return {"changed": removed > 0, "removed": removed, "bytes": size, "msg": text}


OPERATIONS = {"end_session": end_session, "clear_cache": clear_cache}
