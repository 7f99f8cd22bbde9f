# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

from tests.lab import certificates, image


def test_an_archive_names_its_layers_by_their_content(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(b"some layer")
    image.write_archive(tmp_path / "image", "docker.io/lab/x:1", [layer], {"Entrypoint": ["/x"]})
    with tarfile.open(tmp_path / "image") as archive:
        files = {name: archive.extractfile(name) for name in archive.getnames()}
        contents = {name: file.read() for name, file in files.items() if file}
    manifest = json.loads(contents["manifest.json"])[0]
    config = json.loads(contents[manifest["Config"]])
    assert manifest["RepoTags"] == ["docker.io/lab/x:1"]
    assert config["config"] == {"Entrypoint": ["/x"]}
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(b'some layer').hexdigest()}"]
    assert [contents[name] for name in manifest["Layers"]] == [b"some layer"]


def test_every_bundle_of_the_image_trusts_the_authority(tmp_path: Path) -> None:
    rootfs, overlay = tmp_path / "rootfs", tmp_path / "overlay"
    bundles = [image.SYSTEM_BUNDLE, f"{image.LIBRARIES}/certifi/cacert.pem", f"{image.LIBRARIES}/botocore/cacert.pem"]
    for bundle in bundles:
        (rootfs / bundle).parent.mkdir(parents=True)
        (rootfs / bundle).write_text("ORIGINAL\n", encoding="utf-8")
    image.trust_authority(rootfs, overlay)
    authority = certificates.ca_certificate().read_text(encoding="utf-8")
    for bundle in bundles:
        text = (overlay / bundle).read_text(encoding="utf-8")
        assert text.startswith("ORIGINAL\n")
        assert text.endswith(authority)
        assert (rootfs / bundle).read_text(encoding="utf-8") == "ORIGINAL\n"


def test_the_requirements_of_the_image_are_exact() -> None:
    lines = image.REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    assert all("==" in line for line in lines if line and not line.startswith("#"))
