"""Opening and replacing files so that neither a broken file nor a broken moment does harm.

A file is replaced in four steps, and at every instant its name stands for a whole file, the old one or the new one:

    1. write the new contents beside it, under a name of their own       (a full disk hurts only this one)
    2. fsync the new file                                                (the contents are on the disk)
    3. rename it over the old one                                        (atomic within a file system)
    4. fsync the folder                                                  (the rename is on the disk)

Without step 2 a power cut may leave the new name with empty contents: a rename may reach the disk first.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from scratch.messages import escaped

# Windows refuses to replace a file that somebody (a virus scanner, a viewer) holds open, mostly for an instant.
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a new, empty file beside `path` to write to; if the block ends well, it takes `path`'s place for good.

    For writers that want a name, `with replacing("loss.png") as new: figure.savefig(new)`; the suffix is kept. On any
    failure `path` is as it was and the new file is gone. A link is followed: what it points at is replaced.

    Raises FileNotFoundError for a missing folder, ValueError where `path` is a folder, and the system's errors.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{os.fspath(path)!r}: expected an existing folder to write into, got {target.parent}")
    if target.is_dir():
        raise ValueError(f"{os.fspath(path)!r}: expected the name of a file to write, got a folder")
    new = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(6)}.tmp{target.suffix[:16]}")
    # Exclusive, and with the mode that a plain open() gives: tempfile's 0600 would make shared runs unreadable.
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield new
        with open(new, "r+b") as file:
            os.fsync(file.fileno())
        _replace(new, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
    _sync_folder(target.parent)


def atomic_write(path: str | os.PathLike, *parts: Any) -> None:
    """Write bytes, or several bytes-like parts one after the other, as the whole of `path`: all of it or none of it."""
    with replacing(path) as new, open(new, "wb") as file:
        for part in parts:
            file.write(part)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8 with \\n line ends on every platform, as the whole of `path`: all of it or none of it."""
    atomic_write(path, text.encode("utf-8"))


@contextmanager
def reading(path: str | os.PathLike, expected: str) -> Iterator[BinaryIO]:
    """Open a regular file; whatever ValueError or OSError arises in the block comes out as one ValueError that says
    which file it was and what was `expected` in it. A missing file is a FileNotFoundError."""
    name = escaped(os.fsdecode(path))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before open(), which waits for ever on a named pipe
            raise ValueError("it is a folder" if os.path.isdir(path) else "it is not a regular file")
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: expected {expected}, but there is no such file") from None
    except OSError as error:
        raise ValueError(f"{name}: expected {expected}, but it cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{name}: expected {expected}, but {error}") from error


def _replace(new: Path, target: Path) -> None:
    for seconds in RETRY_SECONDS:
        try:
            return os.replace(new, target)
        except PermissionError:
            time.sleep(seconds)
    os.replace(new, target)


def _sync_folder(folder: Path) -> None:
    # Windows opens no folders and some network drives sync none: there the rename is as durable as they make it.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
