# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves behind while it runs: command lines and temporary files, looked at many times a second."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

PAUSE = 0.02
LARGEST = 32 * 1024 * 1024


class Watch:
    """Samples the command lines of all new processes and every file below a folder, in a thread of its own.

    Args:
        folder: where the run has its temporary files.

    Attributes:
        seen: what was read, by where it was read.
        samples: how many times it looked.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[str, bytes] = {}
        self.samples = 0
        self._old = set(self._processes())
        self._known: dict[Path, tuple[int, int]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(PAUSE):
            self.samples += 1
            self._look_at_processes()
            self._look_at_files()

    @staticmethod
    def _processes() -> list[str]:
        return [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]

    def _look_at_processes(self) -> None:
        for process in self._processes():
            if process in self._old:
                continue
            try:
                line = Path("/proc", process, "cmdline").read_bytes()
            except OSError:
                continue
            self.seen[f"command line of process {process}: {line[:60]!r}"] = line

    def _look_at_files(self) -> None:
        for path in self.folder.rglob("*"):
            try:
                found = path.lstat()
                if not path.is_file() or path.is_symlink() or found.st_size > LARGEST:
                    continue
                state = (found.st_mtime_ns, found.st_size)
                if self._known.get(path) == state:
                    continue
                self._known[path] = state
                self.seen[f"temporary file {path.name} ({len(self._known)})"] = path.read_bytes()
            except OSError:
                continue
