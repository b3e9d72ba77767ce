"""Zip archives, read only where every reader of the file would find the same contents.

    ┌──────────────┬─────────┬────────────┬─────┬───────────────────────┬──────────────────────────┐
    │ local header │ content │ descriptor │ ... │ directory: for each   │ end: where the directory │
    │ of part 1    │         │ (optional) │     │ part name, size, place│ begins, and its length   │
    └──────────────┴─────────┴────────────┴─────┴───────────────────────┴──────────────────────────┘

A zip file says most things twice, in a part's local header and in the directory, and readers differ in what they
believe: of two parts with one name, Python takes the last and PyTorch the first. So one file can hold two networks.
`open_zip` refuses whatever is ambiguous, encrypted, or larger than it claims, before anything is unpacked.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from typing import BinaryIO

from scratch.messages import quoted, shown

FAULTS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, KeyError, OverflowError, MemoryError,
          struct.error, zlib.error, ValueError)  # fmt: skip
END, LOCAL = b"PK\x05\x06", "<4s5H3I2H"  # the end's mark; a local header, without name and extra field
LOCAL_MARK = b"PK\x03\x04"
DESCRIPTOR, ALLOWED = 0x8, 0x80E  # flags: sizes follow the content; also UTF-8 names, and how hard was compressed
ZIP64, IN_EXTRA = 1, 0xFFFFFFFF  # a size of 2³² − 1 stands in the extra field of this number


def open_zip(file: BinaryIO, limit: int, methods: tuple[int, ...] = (zipfile.ZIP_STORED,)) -> zipfile.ZipFile:
    """The archive, checked; its parts, unpacked, take at most `limit` bytes and are packed by one of `methods`.

    Raises ValueError for what is no zip archive or has names twice, parts that overlap, are encrypted, packed in
    another way or described in two ways, or bytes before the first part or behind the end.
    """
    start = file.read(4)
    try:
        archive = zipfile.ZipFile(file)
    except FAULTS as error:
        raise ValueError(f"it is no zip archive (it begins with {start!r}): {shown(str(error))}") from None
    size = os.fstat(file.fileno()).st_size
    _check_end(file, size)
    parts = archive.infolist()
    names: set[str] = set()
    end = 0
    for part in sorted(parts, key=lambda part: part.header_offset):
        if part.filename in names:
            raise ValueError(f"it has two parts of the name {quoted(part.filename)}")
        names.add(part.filename)
        if part.compress_type not in methods:
            how = "compressed" if methods == (zipfile.ZIP_STORED,) else f"compressed by method {part.compress_type}"
            raise ValueError(f"its part {quoted(part.filename)} is {how}, which is not read")
        if part.flag_bits & ~ALLOWED:
            raise ValueError(f"its part {quoted(part.filename)} is encrypted or has other flags ({part.flag_bits:#x})")
        if part.header_offset < end or (end == 0 and part.header_offset):
            raise ValueError(f"its part {quoted(part.filename)} overlaps another, or bytes lie before the first part")
        end = _check_local(file, part)
    if end > archive.start_dir:
        raise ValueError("its last part overlaps the directory")
    if sum(part.file_size for part in parts) > limit:
        raise ValueError(f"its parts claim {sum(part.file_size for part in parts)} bytes; {limit} are allowed")
    return archive


def read_part(archive: zipfile.ZipFile, name: str) -> bytes:
    """A part's content, unpacked, its checksum compared. Raises ValueError if it is missing or damaged."""
    try:
        return archive.read(name)
    except FAULTS as error:
        raise ValueError(f"its part {quoted(name)} is missing or damaged: {shown(str(error))}") from None


def _check_end(file: BinaryIO, size: int) -> None:
    """The end stands at the file's end, without a comment: behind it nothing is hidden."""
    file.seek(max(size - 22, 0))
    end = file.read(22)
    if not (end.startswith(END) and end.endswith(b"\0\0")):
        raise ValueError("it does not end where its archive ends: a comment or other bytes follow")


def _check_local(file: BinaryIO, part: zipfile.ZipInfo) -> int:
    """Where the part's content ends; ValueError unless its local header says what the directory says."""
    file.seek(part.header_offset)
    head = file.read(struct.calcsize(LOCAL))
    if len(head) < struct.calcsize(LOCAL):
        raise ValueError(f"its part {quoted(part.filename)} lies behind the end")
    mark, _, flags, method, _, _, crc, packed, unpacked, name_length, extra_length = struct.unpack(LOCAL, head)
    name, extra = file.read(name_length), file.read(extra_length)
    if unpacked == packed == IN_EXTRA:
        unpacked, packed = _zip64_sizes(extra)
    encoded = part.orig_filename.encode("utf-8" if flags & 0x800 else "cp437", "replace")
    same = (mark, flags, method, name) == (LOCAL_MARK, part.flag_bits, part.compress_type, encoded)
    sizes = (crc, packed, unpacked)
    if not same or (sizes != (part.CRC, part.compress_size, part.file_size) and not (
        flags & DESCRIPTOR and set(sizes) == {0}
    )):  # fmt: skip
        raise ValueError(f"its part {quoted(part.filename)} is described in two different ways")
    if part.compress_type == zipfile.ZIP_STORED and part.compress_size != part.file_size:
        raise ValueError(f"its part {quoted(part.filename)} is not compressed, yet has two sizes")
    return file.tell() + part.compress_size


def _zip64_sizes(extra: bytes) -> tuple[int, int]:
    """The sizes, unpacked and packed, that the extra field of a large part has; (-1, -1) if it has none."""
    while len(extra) >= 4:
        number, length = struct.unpack("<HH", extra[:4])
        if number == ZIP64 and length >= 16 and len(extra) >= 20:
            return struct.unpack("<QQ", extra[4:20])
        extra = extra[4 + length :]
    return -1, -1
