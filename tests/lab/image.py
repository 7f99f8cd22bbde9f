# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Container images: the MLflow server (and client) image and the small ones of the node, ready in a containerd store.

The store is built once, with every image unpacked, and used in place: importing the images takes half a minute.
``restore_store`` brings it back to what it was when it was built, whatever happened to the containers in between.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

from tests.lab import build, certificates, processes, settings
from tests.lab.progress import step
from tests.lab.settings import LabError

BASE_PACKAGES = (
    "busybox-static",
    "ca-certificates",
    "libgomp1",
    "libstdc++6",
    "netbase",
    "python3",
    "python3-distutils",
    "tzdata",
)
REQUIREMENTS = settings.REPOSITORY / "tests" / "lab" / "image" / "requirements.txt"
OLDER_REQUIREMENTS = REQUIREMENTS.with_name("older.txt")
OLDER_LIBRARIES = "opt/mlflow-2"
LIBRARIES = "usr/local/lib/python3.11/dist-packages"
SYSTEM_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
USER = ("mlflow:x:1000:1000:MLflow:/home/mlflow:/usr/sbin/nologin", "mlflow:x:1000:")
# Test suites of the large libraries: a third of all files, and nothing imports them.
UNUSED = ("numpy", "pandas", "pyarrow", "scipy", "sklearn")
RECIPE = "1"
METADATA = ("io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db")
PLUGIN_FOLDERS = {
    "io.containerd.content.v1.content",
    "io.containerd.metadata.v1.bolt",
    "io.containerd.snapshotter.v1.overlayfs",
}
SNAPSHOTS = "io.containerd.snapshotter.v1.overlayfs/snapshots"


def _base_key() -> str:
    return build.digest([RECIPE, settings.DEBIAN_SUITE, *BASE_PACKAGES])


def _store_key() -> str:
    binaries = [binary.key() for binary in build.GO_BINARIES if binary.name in SYSTEM_IMAGES]
    authority = certificates.ca_certificate().read_bytes()
    images = (settings.SERVER_IMAGE, settings.OLDER_SERVER_IMAGE)
    return build.digest([RECIPE, _rootfs_key(), _older_key(), authority, *images, *binaries])


def _rootfs_key() -> str:
    return build.digest([_base_key(), REQUIREMENTS.read_bytes()])


def _older_key() -> str:
    return build.digest([_rootfs_key(), OLDER_REQUIREMENTS.read_bytes(), OLDER_LIBRARIES])


SYSTEM_IMAGES = {
    "pause": settings.PAUSE_IMAGE,
    "coredns": settings.COREDNS_IMAGE,
    "metrics-server": settings.METRICS_SERVER_IMAGE,
}


def store() -> Path:
    """The containerd root folder with all images; it must have been built."""
    return build.cached_path("containerd", _store_key()) / "root"


def ready() -> bool:
    """Whether the store is in the cache."""
    return store().exists()


def prepare_layers() -> tuple[Path, Path]:
    """The MLflow root file system without the lab's certificate, and the older MLflow that is laid over it.

    Network bound, needs no Go. Returns the folder of each.
    """
    rootfs = build.cached("mlflow-rootfs", _rootfs_key(), _make_rootfs) / "rootfs"
    older = build.cached("mlflow-older", _older_key(), lambda folder: _make_older(folder, rootfs))
    return rootfs, older


def build_store() -> None:
    """Build the images and import them into a new store. Needs ``prepare_layers`` and the Go programs."""
    rootfs, older = prepare_layers()
    build.cached("containerd", _store_key(), lambda folder: _make_store(folder, rootfs, older))


def _make_rootfs(folder: Path) -> None:
    rootfs = folder / "rootfs"
    with step("make the base file system with mmdebstrap", "20-60 s"):
        argv = ["mmdebstrap", "--mode=root", "--variant=essential", f"--include={','.join(BASE_PACKAGES)}"]
        processes.run([*argv, settings.DEBIAN_SUITE, str(rootfs)], timeout=900)
    with step(f"install MLflow {settings.MLFLOW_VERSION} into it", "40 s"):
        _install_mlflow(rootfs)
    with step("byte-compile it", "1-2 min"):
        _compile(rootfs, rootfs / LIBRARIES, LIBRARIES)


def _make_older(folder: Path, rootfs: Path) -> None:
    """Only what MLflow 2 needs in another version, in a folder that goes first on Python's path."""
    libraries = folder / OLDER_LIBRARIES
    with step(f"install MLflow {settings.OLDER_MLFLOW_VERSION}", "30 s"):
        shared = set(REQUIREMENTS.read_text(encoding="utf-8").splitlines())
        own = [line for line in OLDER_REQUIREMENTS.read_text(encoding="utf-8").splitlines() if line not in shared]
        listed = folder / "requirements.txt"
        listed.write_text("\n".join(own) + "\n", encoding="utf-8")
        _install(listed, libraries)
        listed.unlink()
        _place_programs(libraries / "bin", libraries / "bin")
    with step("byte-compile it", "30-60 s"):
        _compile(rootfs, libraries, OLDER_LIBRARIES)


def _compile(rootfs: Path, libraries: Path, final: str) -> None:
    """Byte-compile ``libraries`` with the Python of ``rootfs``, for the place where they will be."""
    # The process pool of compileall needs /dev/shm; the mounts go with their mount namespace.
    script = (
        'mount -t tmpfs tmpfs "$0/dev/shm" && mount --bind "$1" "$0/mnt"'
        ' && exec chroot "$0" /usr/bin/python3 -m compileall -q -j 2 -s /mnt -p "/$2" /mnt'
    )
    argv = ["unshare", "--mount", "sh", "-c", script, rootfs.as_posix(), libraries.as_posix(), final]
    processes.run(argv, timeout=900, check=False, env={"PYTHONDONTWRITEBYTECODE": ""})


def _install(requirements: Path, libraries: Path) -> None:
    uv = Path(shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv")
    processes.run(
        [
            str(uv), "pip", "install", "--quiet", "--no-cache", "--link-mode=copy", "--no-deps", "--only-binary=:all:",
            "--python-version=3.11", "--python-platform=x86_64-manylinux_2_36", f"--target={libraries}",
            "--requirement", str(requirements),
        ],
        timeout=900,
    )  # fmt: skip
    for package in UNUSED:
        for tests in list((libraries / package).glob("**/tests")):
            shutil.rmtree(tests, ignore_errors=True)


def _place_programs(made: Path, final: Path) -> None:
    """Put the Python programs of an installation into ``final``, for the Python of the image."""
    for script in made.iterdir():
        lines = script.read_bytes().split(b"\n", 1)
        if lines[0].startswith(b"#!") and b"python" in lines[0]:
            (final / script.name).write_bytes(b"#!/usr/bin/python3\n" + lines[1])
            (final / script.name).chmod(0o755)


def _install_mlflow(rootfs: Path) -> None:
    libraries = rootfs / LIBRARIES
    _install(REQUIREMENTS, libraries)
    _place_programs(libraries / "bin", rootfs / "usr/local/bin")
    shutil.rmtree(libraries / "bin")
    for name, line in zip(("passwd", "group"), USER, strict=True):
        with (rootfs / "etc" / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    home = rootfs / "home/mlflow"
    home.mkdir(parents=True, exist_ok=True)
    shutil.chown(home, 1000, 1000)


def trust_authority(rootfs: Path, overlay: Path) -> None:
    """Write into ``overlay`` the certificate bundles of ``rootfs`` with the lab's authority added.

    The system's bundle and every ``cacert.pem`` of a library: requests and botocore each read their own.
    """
    authority = certificates.ca_certificate().read_text(encoding="utf-8")
    bundles = [rootfs / SYSTEM_BUNDLE, *(rootfs / LIBRARIES).glob("**/cacert.pem")]
    for bundle in bundles:
        target = overlay / bundle.relative_to(rootfs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(bundle.read_text(encoding="utf-8") + "\n" + authority, encoding="utf-8")


def write_archive(path: Path, image: str, layers: list[Path], config: dict[str, object]) -> None:
    """Write a docker-archive of ``layers`` (uncompressed tar files, lowest first) under the name ``image``."""
    digests = []
    for layer in layers:
        with layer.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    encoded = json.dumps(document, sort_keys=True).encode()
    config_name = hashlib.sha256(encoded).hexdigest() + ".json"
    names = [f"{digest}/layer.tar" for digest in digests]
    manifest = json.dumps([{"Config": config_name, "RepoTags": [image], "Layers": names}]).encode()
    with tarfile.open(path, "w") as archive:
        for name, data in ((config_name, encoded), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, BytesIO(data))
        for name, layer in zip(names, layers, strict=True):
            archive.add(layer, arcname=name)


def _tar(folder: Path, path: Path) -> Path:
    processes.run(["tar", "--numeric-owner", "--sort=name", "-C", str(folder), "-cf", str(path), "."], timeout=300)
    return path


def _config(libraries: str = "") -> dict[str, object]:
    """Configuration of an image whose Python libraries and programs in ``libraries`` go first."""
    path = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
    environment = ["LANG=C.UTF-8", "PYTHONUNBUFFERED=1"]
    own = [f"PATH=/{libraries}/bin:{path}", f"PYTHONPATH=/{libraries}"] if libraries else [f"PATH={path}"]
    return {"Env": [*own, *environment], "Cmd": ["python3"]}


def _make_store(folder: Path, rootfs: Path, older: Path) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    archives = []
    with step("write the images", "20 s"):
        trust_authority(rootfs, scratch / "trust")
        layers = [_tar(rootfs, scratch / "rootfs.tar"), _tar(scratch / "trust", scratch / "trust.tar")]
        write_archive(scratch / "server.image", settings.SERVER_IMAGE, layers, _config())
        layers.append(_tar(older, scratch / "older.tar"))
        write_archive(scratch / "older.image", settings.OLDER_SERVER_IMAGE, layers, _config(OLDER_LIBRARIES))
        archives += [scratch / "server.image", scratch / "older.image"]
        for layer in layers:
            layer.unlink()
        for name, image in SYSTEM_IMAGES.items():
            files = scratch / name
            files.mkdir()
            shutil.copy2(build.go_binary(name), files / name)
            layer = _tar(files, scratch / "layer.tar")
            write_archive(scratch / f"{name}.image", image, [layer], {"Entrypoint": [f"/{name}"]})
            archives.append(scratch / f"{name}.image")
    with step("import the images into containerd", "30 s"):
        _import(folder, archives)
    shutil.rmtree(scratch)


def _import(folder: Path, archives: list[Path]) -> None:
    """Import with a containerd of its own, unpacked; afterwards remember how the store looks without containers."""
    root = folder / "root"
    address = settings.socket_dir() / "import.sock"
    config = folder / "scratch" / "config.toml"
    config.write_text(
        'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n',
        encoding="utf-8",
    )
    name = "containerd-import"
    argv = ["containerd", "--config", str(config), "--root", str(root), "--address", str(address)]
    processes.start(name, [*argv, "--state", str(folder / "scratch" / "state")], in_netns=False)
    try:
        deadline = time.monotonic() + 20
        while not address.exists():
            if time.monotonic() > deadline:
                raise LabError(f"containerd does not start; see {settings.logs_dir() / name}.log")
            time.sleep(0.1)
        for archive in archives:
            processes.run(["ctr", "-a", str(address), "-n", "k8s.io", "images", "import", str(archive)], timeout=600)
    finally:
        processes.stop(name)
    pristine = folder / "pristine"
    for relative in METADATA:
        (pristine / relative).parent.mkdir(parents=True)
        shutil.copy2(root / relative, pristine / relative)
    names = sorted(path.name for path in (root / SNAPSHOTS).iterdir())
    (pristine / "snapshots.json").write_text(json.dumps(names), encoding="utf-8")


def restore_store() -> None:
    """Take every container and its file system out of the store. Nothing may run or be mounted in it."""
    root = store()
    pristine = root.parent / "pristine"
    kept = set(json.loads((pristine / "snapshots.json").read_text(encoding="utf-8")))
    for path in (root / SNAPSHOTS).iterdir():
        if path.name not in kept:
            shutil.rmtree(path)
    for folder in root.iterdir():
        if folder.name not in PLUGIN_FOLDERS:
            shutil.rmtree(folder)
    for relative in METADATA:
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(pristine / relative, root / relative)
