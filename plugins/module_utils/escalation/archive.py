# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle as bytes: one gzip stream around a tar of regular files in one folder.

Only this narrow form is written, and only this form is read: a bundle comes by mail, and whoever opens one need not
trust who sent it. Nothing is ever unpacked to a disk.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime

PACKED_BYTES = 32 * 1024 * 1024
"""What a mail server or a ticket may still take."""

UNPACKED_BYTES = 48 * 1024 * 1024
MOST_PARTS = 400
RATIO = 200
"""Text of logs is packed 5 to 30 times; deflate itself ends at about 1030 (RFC 1951)."""

RATIO_COUNTS_FROM = 4 * 1024 * 1024
BLOCK = tarfile.BLOCKSIZE
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,2}")
KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.CONTTYPE: "a contiguous file",
    tarfile.GNUTYPE_LONGNAME: "a GNU long name",
    tarfile.GNUTYPE_LONGLINK: "a GNU long link",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
    tarfile.XHDTYPE: "a pax header",
    tarfile.XGLTYPE: "a pax header",
    tarfile.SOLARIS_XHDTYPE: "a pax header",
}


class BundleError(ValueError):
    """A bundle cannot be written, or what was given is none; the text is one line for a person."""


def pack(folder: str, parts: Mapping[str, bytes], moment: datetime) -> bytes:
    """Write parts as an archive; the same parts make the same bytes.

    Args:
        folder: the one folder in which everything stands.
        parts: path in the folder and content, in the order in which they are written.
        moment: time of every file.

    Raises:
        BundleError: the result would not be read again.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in parts.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mtime, member.mode = len(content), int(moment.timestamp()), 0o600
            archive.addfile(member, io.BytesIO(content))
    packed = gzip.compress(stream.getvalue(), mtime=int(moment.timestamp()))
    unpack(packed)
    return packed


def unpack(packed: bytes) -> dict[str, bytes]:
    """Return the parts of an archive by their path in its folder.

    Raises:
        BundleError: it is not an archive as ``pack`` writes it.
    """
    parts: dict[str, bytes] = {}
    folder = ""
    for name, content in members(inflate(packed)):
        if not NAME.fullmatch(name):
            raise BundleError(f"holds a file with the path {printable(name)!r}, which leads elsewhere or is not ours")
        top, slash, path = name.partition("/")
        if not slash or top != (folder or top):
            raise BundleError(f"holds {printable(name)!r} outside its one folder")
        folder = top
        if path in parts:
            raise BundleError(f"holds {path} twice")
        parts[path] = content
    if not parts:
        raise BundleError("holds no files")
    return parts


def printable(text: str) -> str:
    """Return the beginning of somebody else's text without anything that a terminal would obey."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:80])
    return shown.encode("ascii", "replace").decode()


def inflate(packed: bytes) -> bytes:
    """Undo the compression, never further than the limits."""
    if len(packed) > PACKED_BYTES:
        raise BundleError(f"is larger than {PACKED_BYTES // 1024**2} MiB")
    if packed[:2] != b"\x1f\x8b":
        raise BundleError("is not a gzip archive")
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(packed, UNPACKED_BYTES + 1)
    except zlib.error:
        raise BundleError("is damaged (its compressed data cannot be read)") from None
    if len(plain) > UNPACKED_BYTES:
        raise BundleError(f"unpacks to more than {UNPACKED_BYTES // 1024**2} MiB")
    if len(plain) > RATIO_COUNTS_FROM and len(plain) > RATIO * len(packed):
        raise BundleError(f"unpacks to more than {RATIO} times its size")
    if not stream.eof:
        raise BundleError("ends in the middle (truncated)")
    if stream.unused_data:
        raise BundleError("goes on after its end")
    return plain


def members(plain: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file of a tar.

    The headers are read one by one: a reader that follows pax and GNU extensions does what the archive says.
    """
    position, count = 0, 0
    while header := plain[position : position + BLOCK].rstrip(b"\0"):
        count += 1
        if count > MOST_PARTS:
            raise BundleError(f"holds more than {MOST_PARTS} files")
        member = read_header(header.ljust(BLOCK, b"\0"))
        begin = position + BLOCK
        if len(plain) < begin + member.size:
            raise BundleError(f"ends in the middle of {printable(member.name)!r} (truncated)")
        yield member.name, plain[begin : begin + member.size]
        position = begin + -(-member.size // BLOCK) * BLOCK
    rest = plain[position:]
    if len(rest) < 2 * BLOCK or rest.strip(b"\0"):
        raise BundleError(
            "ends in the middle (truncated)" if len(rest) < 2 * BLOCK else "holds data after its last file"
        )


def read_header(block: bytes) -> tarfile.TarInfo:
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except UnicodeDecodeError:
        raise BundleError("holds a file whose path is not UTF-8") from None
    except (tarfile.HeaderError, ValueError):
        raise BundleError("holds no tar, or a damaged one") from None
    if member.type != tarfile.REGTYPE:
        kind = KINDS.get(member.type, "something that is not a regular file")
        raise BundleError(f"holds {kind}: {printable(member.name)!r}")
    if member.size < 0 or block[257:265] != b"ustar\x0000":
        raise BundleError(f"holds {printable(member.name)!r} in another form of tar than ours")
    return member
