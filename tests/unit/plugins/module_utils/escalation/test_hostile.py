# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that are damaged, foreign or hostile are refused by the real reader, in one line each."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation import archive, replay
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.archive import BundleError, pack, unpack
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.escalation.bundle import read_bundle

from .conftest import VERSION, Recorded

FOLDER = "mlflow-x"
MOMENT = datetime(2026, 11, 27, tzinfo=UTC)


def member(name: str, content: bytes = b"x", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as whole:
        for info, content in members:
            whole.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    return gzip.compress(tar(*members, form=form), mtime=0)


def special(kind: bytes, **fields: Any) -> bytes:
    return packed(member(f"{FOLDER}/evidence.json", b"", type=kind, **fields))


def zeros(size: int) -> Iterator[bytes]:
    for dummy in range(size // 2**20):
        yield bytes(2**20)


def deflated(chunks: Iterator[bytes], level: int = 9) -> bytes:
    press = zlib.compressobj(level, wbits=31)
    return b"".join([press.compress(chunk) for chunk in chunks] + [press.flush()])


def header_with(field: slice, content: bytes) -> bytes:
    """Return an archive whose first header has other bytes in a field, with a correct checksum."""
    plain = bytearray(tar(member(f"{FOLDER}/evidence.json")))
    plain[field] = content
    plain[148:156] = b" " * 8
    plain[148:156] = b"%06o\0 " % sum(plain[:512])
    return gzip.compress(bytes(plain), mtime=0)


NO_ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is not a gzip archive"),
    "text": (lambda: b"hello\n" * 50, "is not a gzip archive"),
    "zip": (lambda: b"PK\x03\x04" + bytes(200), "is not a gzip archive"),
    "bzip2": (lambda: bz2.compress(b"x" * 100), "is not a gzip archive"),
    "plain tar": (lambda: tar(member(f"{FOLDER}/a")), "is not a gzip archive"),
    "gzip of text": (lambda: gzip.compress(b"hello\n" * 500), "no tar, or a damaged one"),
    "gzip of nothing": (lambda: gzip.compress(b""), "truncated"),
    "gzip header alone": (lambda: b"\x1f\x8b", "truncated"),
    "gzip of gzip": (lambda: gzip.compress(packed(member(f"{FOLDER}/a"))), "no tar, or a damaged one"),
    "damaged deflate data": (lambda: b"\x1f\x8b\x08\x00\0\0\0\0\0\x03" + b"\xff" * 64, "is damaged"),
    "wrong checksum of gzip": (lambda: packed(member(f"{FOLDER}/a"))[:-8] + bytes(8), "is damaged"),
    "data behind gzip": (lambda: packed(member(f"{FOLDER}/a")) + b"more", "goes on after its end"),
    "second gzip stream": (lambda: packed(member(f"{FOLDER}/a")) * 2, "goes on after its end"),
    "truncated gzip": (lambda: packed(member(f"{FOLDER}/a", bytes(range(256)) * 64))[:-40], "truncated"),
    "truncated tar": (lambda: gzip.compress(tar(member(f"{FOLDER}/a", b"x" * 5000))[:2000]), "truncated"),
    "tar without its end": (lambda: gzip.compress(tar(member(f"{FOLDER}/a"))[:1024]), "truncated"),
    "data behind tar": (lambda: gzip.compress(tar(member(f"{FOLDER}/a")) + b"y" * 512), "after its last file"),
    "tar of no files": (packed, "holds no files"),
    "wrong checksum of a header": (
        lambda: gzip.compress(tar(member(f"{FOLDER}/a")).replace(b"ustar", b"usTar", 1)),
        "no tar, or a damaged one",
    ),
    "absolute path": (lambda: packed(member("/etc/passwd")), "which leads elsewhere"),
    "path of parents": (lambda: packed(member(f"{FOLDER}/../../etc/passwd")), "which leads elsewhere"),
    "path with a dot": (lambda: packed(member(f"{FOLDER}/./evidence.json")), "which leads elsewhere"),
    "path of Windows": (lambda: packed(member("C:\\evidence.json")), "which leads elsewhere"),
    "path that a terminal obeys": (lambda: packed(member(f"{FOLDER}/\x1b[2Jx")), "which leads elsewhere"),
    "hidden file": (lambda: packed(member(f"{FOLDER}/.bashrc")), "which leads elsewhere"),
    "path that is not UTF-8": (lambda: header_with(slice(0, 3), b"\xff\xfe\xfd"), "path is not UTF-8"),
    "two folders": (lambda: packed(member("a/evidence.json"), member("b/report.json")), "outside its one folder"),
    "no folder": (lambda: packed(member("evidence.json")), "outside its one folder"),
    "name twice": (lambda: packed(member(f"{FOLDER}/a"), member(f"{FOLDER}/a", b"y")), "holds a twice"),
    "symbolic link": (lambda: special(tarfile.SYMTYPE, linkname="/etc/shadow"), "holds a symbolic link"),
    "hard link": (lambda: special(tarfile.LNKTYPE, linkname="../../x"), "holds a hard link"),
    "character device": (lambda: special(tarfile.CHRTYPE, devmajor=1, devminor=5), "holds a device"),
    "block device": (lambda: special(tarfile.BLKTYPE), "holds a device"),
    "named pipe": (lambda: special(tarfile.FIFOTYPE), "holds a named pipe"),
    "folder": (lambda: special(tarfile.DIRTYPE), "holds a folder"),
    "contiguous file": (lambda: special(tarfile.CONTTYPE), "holds a contiguous file"),
    "sparse file": (lambda: header_with(slice(156, 157), tarfile.GNUTYPE_SPARSE), "holds a sparse file"),
    "unknown type": (lambda: header_with(slice(156, 157), b"Z"), "not a regular file"),
    "old tar": (lambda: header_with(slice(257, 265), bytes(8)), "another form of tar"),
    "GNU tar": (lambda: packed(member(f"{FOLDER}/a"), form=tarfile.GNU_FORMAT), "another form of tar"),
    "GNU long name": (
        lambda: packed(member(f"{FOLDER}/{'a' * 200}"), form=tarfile.GNU_FORMAT),
        "holds a GNU long name",
    ),
    "pax header": (
        lambda: packed(member(f"{FOLDER}/a", pax_headers={"path": "/etc/passwd"}), form=tarfile.PAX_FORMAT),
        "holds a pax header",
    ),
    "pax header for all": (lambda: header_with(slice(156, 157), tarfile.XGLTYPE), "holds a pax header"),
    "negative size": (lambda: header_with(slice(124, 136), b"\xff" * 12), "another form of tar"),
    "size beyond the end": (lambda: header_with(slice(124, 136), b"00000077777\0"), "truncated"),
    "size of exabytes": (lambda: header_with(slice(124, 136), b"\x80" + b"\x7f" * 11), "truncated"),
    "size that is no number": (lambda: header_with(slice(124, 136), b"zzzzzzzzzzz\0"), "no tar, or a damaged one"),
    "bomb by ratio": (lambda: deflated(zeros(16 * 2**20)), "times its size"),
    "bomb by size": (lambda: deflated(zeros(archive.UNPACKED_BYTES + 2**21)), "unpacks to more than 48 MiB"),
    "bomb by count": (
        lambda: packed(*(member(f"{FOLDER}/{number}", b"") for number in range(archive.MOST_PARTS + 1))),
        "holds more than 400 files",
    ),
    "too large a file": (lambda: b"\x1f\x8b" + bytes(archive.PACKED_BYTES), "is larger than 32 MiB"),
}


@pytest.mark.parametrize("kind", NO_ARCHIVES)
def test_what_is_no_archive_of_ours_is_refused(kind: str) -> None:
    make, reason = NO_ARCHIVES[kind]
    content = make()
    with pytest.raises(BundleError) as caught:
        read_bundle(content)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def changed(recorded: Recorded, **parts: bytes | None) -> bytes:
    """Return a bundle with other parts and a manifest that fits them."""
    whole = {**recorded.parts, **{name.replace("_json", ".json"): content for name, content in parts.items()}}
    present = {name: content for name, content in whole.items() if content is not None}
    rows = [
        {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in present.items()
    ]
    manifest = {"kind": "mlops.mlflow_runbook/bundle", "schema": 1, "version": VERSION, "parts": rows}
    return pack(FOLDER, {"manifest.json": json.dumps(manifest).encode(), **present}, MOMENT)


def with_manifest(recorded: Recorded, **fields: Any) -> bytes:
    manifest = {"kind": "mlops.mlflow_runbook/bundle", "schema": 1, "version": VERSION, "parts": [], **fields}
    return pack(FOLDER, {"manifest.json": json.dumps(manifest).encode(), **recorded.parts}, MOMENT)


def context_with(recorded: Recorded, **fields: Any) -> bytes:
    return json.dumps({**json.loads(recorded.parts["context.json"]), **fields}).encode()


def evidence_with(**fields: Any) -> bytes:
    row = {"what": "a.b", "place": "api", "subject": "", "at": "2026-11-27T00:00:00Z", "state": "ok", "value": {}}
    return json.dumps([{**row, "detail": "", **fields}]).encode()


Make = Callable[[Recorded], bytes]
NO_BUNDLES: dict[str, tuple[Make, str]] = {
    "no manifest": (lambda r: pack(FOLDER, r.parts, MOMENT), "no bundle of this collection"),
    "manifest of something else": (lambda r: with_manifest(r, kind="other/thing"), "is of another kind"),
    "later schema": (lambda r: with_manifest(r, schema=2, version="9.0.0"), "has schema 2 of version 9.0.0"),
    "schema that is no number": (lambda r: with_manifest(r, schema="1"), "without a schema number"),
    "manifest without parts": (lambda r: with_manifest(r, parts=None), "without a version or a list of parts"),
    "manifest with a strange part": (lambda r: with_manifest(r, parts=[7]), "a part that is not described"),
    "file that the manifest does not name": (with_manifest, "which its manifest does not name"),
    "no evidence": (lambda r: changed(r, evidence_json=None), "holds no evidence.json"),
    "no context": (lambda r: changed(r, context_json=None), "holds no context.json"),
    "evidence that is not JSON": (lambda r: changed(r, evidence_json=b"[{]"), "is not JSON"),
    "evidence that is not UTF-8": (lambda r: changed(r, evidence_json=b'["\xff\xfe"]'), "is not UTF-8"),
    "evidence that is an object": (lambda r: changed(r, evidence_json=b"{}"), "is no list of evidence"),
    "no evidence at all": (lambda r: changed(r, evidence_json=b"[]"), "is no list of evidence"),
    "evidence without end": (lambda r: changed(r, evidence_json=b"[" + b"{}," * 5000 + b"{}]"), "more than 5000"),
    "deep nesting": (lambda r: changed(r, evidence_json=b"[" * 200_000), "nested deeper than 64"),
    "deep nesting that is closed": (
        lambda r: changed(r, evidence_json=b"[" * 100 + b"]" * 100),
        "nested deeper than 64",
    ),
    "NaN": (lambda r: changed(r, evidence_json=b"[NaN]"), "holds NaN"),
    "infinity": (lambda r: changed(r, evidence_json=b"[1e999]"), "a number that is too large"),
    "a number of a million digits": (lambda r: changed(r, evidence_json=b"[" + b"9" * 10**6 + b"]"), "too large"),
    "a key twice": (lambda r: changed(r, evidence_json=b'[{"a": 1, "a": 2}]'), "names a key twice"),
    "half a surrogate pair": (lambda r: changed(r, evidence_json=b'["\\ud800"]'), "half of a surrogate pair"),
    "evidence with a field more": (lambda r: changed(r, evidence_json=evidence_with(more=1)), "entry 0 is no evidence"),
    "evidence without a place": (lambda r: changed(r, evidence_json=evidence_with(place=None)), "is no evidence"),
    "evidence of an unknown state": (lambda r: changed(r, evidence_json=evidence_with(state="fine")), "is no evidence"),
    "evidence without a time": (lambda r: changed(r, evidence_json=evidence_with(at="yesterday")), "is no evidence"),
    "evidence without a zone": (
        lambda r: changed(r, evidence_json=evidence_with(at="2026-11-27T00:00:00")),
        "is no evidence",
    ),
    "evidence that was seen and is nothing": (
        lambda r: changed(r, evidence_json=evidence_with(value=None)),
        "is no evidence",
    ),
    "evidence of another shape": (
        lambda r: changed(r, evidence_json=evidence_with(what="kubernetes.deployments", value={"items": [7]})),
        "of a shape that no collection of ours makes",
    ),
    "context without a moment": (lambda r: changed(r, context_json=context_with(r, now=7)), "without the moment"),
    "context without a zone": (
        lambda r: changed(r, context_json=context_with(r, now="2026-11-27T00:00:00")),
        "has no time zone",
    ),
    "context with foreign settings": (
        lambda r: changed(r, context_json=context_with(r, settings={"report_dir": "/etc"})),
        "without the settings",
    ),
    "context with impossible settings": (
        lambda r: changed(r, context_json=context_with(r, settings={"namespace": "../x"})),
        "settings that cannot be",
    ),
    "context with strange outputs": (
        lambda r: changed(r, context_json=context_with(r, outputs={"region": [1, 2]})),
        "none of Terraform's",
    ),
    "context without a baseline": (lambda r: changed(r, context_json=context_with(r, baseline=1)), "without baseline"),
    "report that is a list": (lambda r: changed(r, report_json=b"[]"), "that is no JSON object"),
    "report without its start": (lambda r: changed(r, report_json=b"{}"), "without the moment"),
}


@pytest.mark.parametrize("kind", NO_BUNDLES)
def test_what_is_no_bundle_is_refused(kind: str, closed: Recorded) -> None:
    make, reason = NO_BUNDLES[kind]
    content = make(closed)
    with pytest.raises(BundleError) as caught:
        replay.replay(read_bundle(content), VERSION)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["evidence.json", "report.txt", "ticket.txt"])
def test_a_part_that_was_changed_is_noticed(name: str, closed: Recorded) -> None:
    parts = unpack(closed.packed)
    parts[name] = parts[name].replace(b"5432", b"5433")
    with pytest.raises(BundleError, match=f"was changed: {name} is not the one"):
        read_bundle(pack(FOLDER, parts, MOMENT))


def test_a_part_that_was_removed_is_noticed(closed: Recorded) -> None:
    parts = unpack(closed.packed)
    del parts["events.txt"]
    with pytest.raises(BundleError, match=r"holds no events\.txt, which its manifest names"):
        read_bundle(pack(FOLDER, parts, MOMENT))


@pytest.mark.parametrize("at", range(40))
def test_a_flipped_bit_anywhere_is_an_error_or_changes_nothing(at: int, closed: Recorded) -> None:
    whole = bytearray(closed.packed)
    position = len(whole) * at // 40
    whole[position] ^= 0x10
    try:
        kept = unpack(bytes(whole))
    except BundleError:
        return
    assert kept == unpack(closed.packed)
    assert position < 10, "only the head of gzip holds anything that does not matter"


def test_nothing_is_written_that_would_not_be_read() -> None:
    with pytest.raises(BundleError, match="which leads elsewhere"):
        pack(FOLDER, {"../x": b""}, MOMENT)


def test_the_same_parts_make_the_same_bytes(closed: Recorded) -> None:
    assert closed.packed == closed.packed
