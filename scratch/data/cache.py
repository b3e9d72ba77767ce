"""Files that are too large to ship: found where they lie, used only if they are whole."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import zlib
from pathlib import Path

from scratch.data.sources import File, Source
from scratch.messages import shown
from scratch.weights.files import reading

_PIECE = 2**20
_FREE, _GROWTH = 2**26, 100  # how much a packed file may unpack to: 64 MiB and 100 times its own size


def data_folder() -> Path:
    """Where full data sets are kept: SCRATCH_DATA, or else this system's folder for caches.

    Raises ValueError where there is no home directory, or none of the user that SCRATCH_DATA names as `~user`.
    """
    if os.environ.get("SCRATCH_DATA"):
        told = Path(os.environ["SCRATCH_DATA"])
        try:
            return told.expanduser()
        except RuntimeError:
            raise ValueError(f"SCRATCH_DATA is {shown(told)}: expected a folder, found no home directory for "
                             f"{shown(told.parts[0])}") from None  # fmt: skip
    if sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        caches = _home() / "Library" / "Caches"
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    return Path(caches) / "ai-architectures-from-scratch"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # as in a container whose user is not in the password file
        raise ValueError("this user has no home directory to keep data sets in: set SCRATCH_DATA to a folder") from None


def place(source: Source, file: File) -> Path:
    """Where a download of the file goes."""
    return data_folder() / source.folders[0] / file.name


def find(source: Source, file: File) -> Path | None:
    """The file as it lies here, packed or unpacked: in the data folder, or where the system's package puts it."""
    folders = [data_folder() / folder for folder in source.folders] + list(source.installed)
    for folder in folders:
        for name in (file.name, file.name.removesuffix(".gz")):
            if (folder / name).is_file():
                return folder / name
    return None


def read(source: Source, file: File) -> bytearray:
    """The unpacked content. FileNotFoundError where it isn't here, ValueError where it isn't what it should be."""
    path = find(source, file)
    if path is None:
        raise FileNotFoundError(f"{source.name}: {file.name} is not here.\n{by_hand(source)}")
    try:
        content = unpacked(path, file.content_size)
    except ValueError as error:
        raise ValueError(f"{error}; {_repair(source)}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != file.content_sha256:
        raise ValueError(f"{path} is not the file that is meant: unpacked, it has {len(content):,} bytes, SHA-256 "
                         f"{found}, expected {file.content_size:,} bytes, {file.content_sha256}; "
                         f"{_repair(source)}")  # fmt: skip
    return content


def _repair(source: Source) -> str:
    return f"`scratch data fetch {source.name}` downloads what is damaged or missing"


def is_whole(source: Source, file: File) -> bool:
    """Whether the file is here and what it should be."""
    if find(source, file) is None:
        return False  # without `read`, whose error asks this again
    try:
        read(source, file)
    except (OSError, ValueError):
        return False
    return True


def by_hand(source: Source) -> str:
    """What to do where a download is impossible: what is missing or damaged, from which address, and its place."""
    lines = ["Put by hand, packed or unpacked:"]
    for file in source.files:
        if not is_whole(source, file):
            lines += [f"  {place(source, file)}",
                      f"    from {source.addresses[0].format(file.name)}",
                      f"    ({file.size:,} bytes, SHA-256 {file.sha256})"]  # fmt: skip
    if source.package:
        lines.append(f"or install the package {source.package} of Debian or Ubuntu.")
    if not os.environ.get("SCRATCH_DATA"):
        lines.append(f"The variable SCRATCH_DATA names another folder than {data_folder()}.")
    return "\n".join(lines)


def unpacked(path: Path, limit: int) -> bytearray:
    """The content of a file, unpacked if gzip packed it. ValueError if it is damaged or larger than `limit` bytes,
    or if a small file unpacks to what fills the memory."""
    content = bytearray()
    with reading(path, "a file of a data set") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        limit = min(limit, _FREE + _GROWTH * os.fstat(plain.fileno()).st_size) if packed else limit
        try:
            with gzip.GzipFile(fileobj=plain) if packed else plain as stream:
                while piece := stream.read(_PIECE):
                    content += piece
                    if len(content) > limit:
                        raise ValueError(f"it is too long: expected {limit:,} bytes{' unpacked' if packed else ''}")
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"it is damaged: {error}") from None
    return content
