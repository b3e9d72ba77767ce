"""The files of a run folder: settings, log, a lock against a second run in the same place."""

from __future__ import annotations

import json
import os
import platform
import stat
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from scratch.messages import shown
from scratch.parallel import available_blas_threads, cores
from scratch.training.progress import typed
from scratch.weights import atomic_write

PARTS = {"model": str, "preset": str, "settings": dict, "blas_threads": int, "threads": int, "versions": dict,
         "machine": str, "started": str}  # fmt: skip
SETTINGS, LOG, CHECKPOINT, REPORT = "settings.json", "log.jsonl", "checkpoint.safetensors", "report.md"
RESULTS, LOCK = "results.json", ".lock"
FILES = {SETTINGS, LOG, CHECKPOINT, REPORT, RESULTS, LOCK}
REPARSE_MOUNT_POINT = 0xA0000003  # stat.IO_REPARSE_TAG_MOUNT_POINT, which Python has on Windows only


def new_folder(name: str, parent: Path) -> Path:
    """A new folder NAME-1, NAME-2 … below `parent`; two runs started at once get two folders.

    Raises ValueError where `parent` is a file or a link to nowhere.
    """
    require_folder(parent)
    number = 1 + max((int(path.name.rpartition("-")[2]) for path in parent.glob(f"{name}-[0-9]*")
                      if path.name.rpartition("-")[2].isdecimal()), default=0)  # fmt: skip
    while True:
        folder = parent / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not os.path.lexists(folder):  # then it is something on the way there
                raise
            number += 1


def require_folder(folder: Path) -> None:
    """Raises ValueError where `folder` or what it lies in is there and is no folder."""
    for place in (folder, *folder.parents):
        if os.path.lexists(place) and not place.is_dir():
            found = f"a link to {shown(Path(os.readlink(place)))}, which is none" if place.is_symlink() else "a file"
            raise ValueError(f"{shown(place)}: expected a folder for runs, found {found}")


def missing(folder: Path) -> list[Path]:
    """`folder` and those that it lies in, from the inside out, as far as they are not there yet."""
    return [place for place in (folder, *folder.parents) if not os.path.lexists(place)]


def remove_unused(folder: Path, made: list[Path]) -> None:
    """Remove the files of a run that did not begin, and the folders `made` for it, from the inside out."""
    for path in (folder / LOG, folder / SETTINGS, folder / LOCK):
        with suppress(OSError):
            path.unlink()
    for place in made:
        with suppress(OSError):  # somebody has put something into it
            place.rmdir()


def refuse_used(folder: Path) -> None:
    """Raises ValueError where something lies already; what a start that was killed leaves behind does not count."""
    require_folder(folder.parent)
    if folder.is_symlink() and not folder.exists():
        require_folder(folder)
    if folder.exists() and (not folder.is_dir() or not all(is_ours_and_hidden(path) for path in folder.iterdir())):
        raise ValueError(f"{shown(folder)} exists and is not empty; `scratch resume {typed(folder)}` continues a run")


def is_ours_and_hidden(path: Path) -> bool:
    """The lock, or a file that was being written when its process was killed (`scratch.weights.replacing`)."""
    return path.name == LOCK or (path.name.startswith(".") and ".tmp" in path.name)


def require_own_files(folder: Path) -> None:
    """Raises ValueError for a link or a device in a run folder: writing to it would change something elsewhere.

    A file with a second name (a hard link) is none of these: files are replaced, not changed, and `Log` copies its own.
    """
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.is_symlink() or _is_junction(path):
                raise ValueError(f"{shown(path)} is a link to {shown(Path(os.readlink(path)))}: expected files of a "
                                 "run's own; remove it, or put the file itself there")  # fmt: skip
            if not entry.is_file() and (entry.name in FILES or not entry.is_dir()):
                found = "a folder" if entry.is_dir() else "a pipe or a device"
                raise ValueError(f"{shown(path)}: expected a regular file, found {found}")


def _is_junction(path: Path) -> bool:
    """Windows has a second kind of link to a folder; is_symlink() does not know it."""
    return stat.S_ISDIR(path.lstat().st_mode) and getattr(path.lstat(), "st_reparse_tag", 0) == REPARSE_MOUNT_POINT


def tidy(folder: Path) -> None:
    """Remove what killed processes left half-written; only the holder of the lock may."""
    for path in folder.iterdir():
        if is_ours_and_hidden(path) and path.name != LOCK:
            with suppress(OSError):
                path.unlink()


def write_settings(folder: Path, model: str, preset: str, values: dict[str, Any]) -> dict[str, Any]:
    """Write settings.json: what was asked for, and where it runs."""
    document = {
        "model": model,
        "preset": preset,
        "settings": values,
        "blas_threads": 1,
        "threads": available_blas_threads(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "machine": f"{cores()} CPU cores, {platform.system()} {platform.machine()}",
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    atomic_write(folder / SETTINGS, (json.dumps(document, indent=1) + "\n").encode())
    return document


def read_settings(folder: Path) -> dict[str, Any]:
    """settings.json of a run. Raises FileNotFoundError for another folder, ValueError for a damaged file."""
    path = folder / SETTINGS
    if not path.is_file():
        raise FileNotFoundError(f"{shown(folder)} is no run folder: it has no {SETTINGS}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected the settings of a run as JSON, found other text ({error})") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path}: expected the settings of a run as a JSON object, found {shown(document)}")
    document.setdefault("threads", document.get("blas_threads"))  # older runs have one number for both
    wrong = [part for part, kind in PARTS.items() if not isinstance(document.get(part), kind)]
    wrong = wrong or [part for part in ("blas_threads", "threads") if document[part] < 1]
    if wrong:
        what = ", ".join(f"{part} as {shown(document.get(part))}" for part in wrong)
        raise ValueError(f"{path}: expected the settings of a run, found {what}")
    return document


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl up to one that a crash cut off. Raises FileNotFoundError without a log."""
    path = folder / LOG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {LOG}")
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not (isinstance(row, dict) and type(row.get("step")) is int and _is_number(row.get("loss", 0.0))):
            break
        rows.append(row)
    return rows


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


class Log:
    """log.jsonl: one JSON object a line, appended; a resumed run cuts it back to the `size` bytes of its checkpoint.

    `crc32` is that of everything written. Raises ValueError for a file that is shorter or not the one with that sum.
    """

    def __init__(self, path: Path, size: int = 0, crc32: int = 0):
        present = path.stat().st_size if path.exists() else 0
        if present and path.stat().st_nlink > 1:  # a copy made of hard links: only this name's file is to change
            atomic_write(path, path.read_bytes())
        if present < size:
            raise ValueError(f"{path}: expected at least the {size} bytes that the checkpoint knows, found {present}")
        self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115
        self.crc32 = zlib.crc32(self._file.read(size))
        if self.crc32 != crc32:
            self._file.close()
            raise ValueError(f"{path} is damaged: its first {size} bytes are not those that the checkpoint knows")
        self._file.seek(size)
        self._file.truncate()

    def write(self, row: dict[str, Any]) -> None:
        line = json.dumps(row).encode() + b"\n"
        self._file.write(line)
        self.crc32 = zlib.crc32(line, self.crc32)

    def flush(self) -> int:
        """Put everything on disk and return the size in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


class Lock:
    """Held while a run writes into its folder; the system lets go of it however the process ends."""

    def __init__(self, folder: Path):
        require_own_files(folder)
        self._file = open(folder / LOCK, "a+b")  # noqa: SIM115
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(self._file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            told = f"another process is training in {shown(folder)}; wait for it, or start a new run"
            raise ValueError(told) from None

    def release(self) -> None:
        self._file.close()


def peak_memory() -> float | None:
    """The most memory this process has held, in MB (10⁶ bytes); None where the system doesn't tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
