"""Downloads that survive what networks do: gone on with where they broke off, never used before their sum is right.

A file grows as NAME.part beside its place and is renamed once its size and SHA-256 are those published. So a process
killed at any moment leaves either the whole file or a part, which the next attempt continues by a Range request. Every
attempt ends: a server that is silent or slow is left for the next address (`connection.py`).
"""

from __future__ import annotations

import hashlib
import http.client
import math
import os
import re
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from scratch.console import is_open, is_terminal
from scratch.data.cache import by_hand, find, is_whole, place
from scratch.data.connection import Deadline, Slow, answer
from scratch.data.sources import Source
from scratch.messages import shown

TIMEOUT = 20.0  # seconds in which an answer must begin, and then bring SLOWEST bytes for each of them
SLOWEST = 2000  # bytes a second
FAILURES = 4  # attempts that brought nothing, after which a download is given up
PAUSE = 0.5  # seconds before the second attempt, doubled before each further one
_PIECE = 2**16
_MAYBE_LATER = {408, 416, 425, 429}  # the 4xx codes that another attempt may change


# What reading from a server may raise: its own words may be an address that is none, or a number of 5,000 digits.
_FAULTS = (OSError, http.client.HTTPException, ValueError, OverflowError)


class Broken(Exception):
    """An attempt that failed; the next one may succeed, with `restart` from the first byte."""

    def __init__(self, reason: str, restart: bool = False):
        super().__init__(reason)
        self.restart = restart


class Refused(Exception):
    """An address that doesn't have the file."""


def fetch(source: Source, renew: bool = False) -> None:
    """Download the files that are not here; with `renew` also those that are here, but damaged.

    Raises FileNotFoundError, saying which file to put where, if no address has them or the network is away.
    """
    for file in source.files:
        if find(source, file) is not None and not (renew and not is_whole(source, file)):
            continue
        addresses = [address.format(file.name) for address in source.addresses]
        meter = Meter(f"{source.name}: {file.name}")
        try:
            download(addresses, place(source, file), file.size, file.sha256, meter)
        except ConnectionError as error:
            raise FileNotFoundError(f"{source.name}: {file.name} could not be downloaded.\n{error}\n"
                                    f"{by_hand(source)}") from None  # fmt: skip
        finally:
            meter.close()


def download(
    addresses: Sequence[str], path: Path, size: int, sha256: str, report: Callable[[int, int], None] | None = None
) -> None:
    """Bring the file of this size and SHA-256 from the first address that has it to `path`.

    `report(done, size)` is called as bytes arrive. Of two processes that want the same file one waits for the other.
    Raises ConnectionError with what went wrong at each address; what has arrived stays beside `path` for next time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with _locked(path.parent / ".lock"):
        if _is(path, size, sha256):
            return  # by the process that was waited for
        reasons: dict[str, str] = {}
        left, failures, turn = list(addresses), 0, 0
        while left and failures < FAILURES:
            address, before = left[turn % len(left)], _length(part)
            try:
                _transfer(address, part, size, report)
                if _is(part, size, sha256):
                    os.replace(part, path)
                    return
                part.unlink()
                reasons[address] = f"what it sent has not the SHA-256 {sha256}"
                failures += 1
            except Refused as error:
                reasons[address] = str(error)
                left.remove(address)
                continue
            except Broken as error:
                reasons[address] = str(error)
                if error.restart:
                    part.unlink(missing_ok=True)
                # An attempt that brought a hundredth of the file is a success of its kind.
                failures += _length(part) - before < max(1, size // 100)
            turn += 1
            if failures:
                time.sleep(PAUSE * 2 ** (failures - 1) if failures < FAILURES else 0)
    raise ConnectionError("\n".join(f"{address}: {reason}" for address, reason in reasons.items()))


def _transfer(address: str, part: Path, size: int, report: Callable[[int, int], None] | None) -> None:
    """Append to `part` what is missing of `size` bytes. Broken or Refused if it is still incomplete afterwards."""
    have = _length(part)
    if have == size:
        return  # killed before it was compared
    if have > size:
        part.unlink()
        have = 0
    deadline = Deadline(TIMEOUT, SLOWEST * TIMEOUT)
    with _answer(address, have, deadline) as response, open(part, "ab") as file:
        have = _checked_start(response, have, size)
        file.truncate(have)
        while have < size:
            try:
                piece = response.read1(_PIECE)  # what has come; read() would lose it if the line then went dead
            except _FAULTS as error:
                raise Broken(f"broke off after {have:,} of {size:,} bytes ({_reason(error)})") from None
            if not piece:
                raise Broken(f"broke off after {have:,} of {size:,} bytes")
            file.write(piece[: size - have])
            have = min(have + len(piece), size)
            deadline.progress(len(piece))
            if report is not None:
                report(have, size)
        file.flush()
        os.fsync(file.fileno())


def _answer(address: str, have: int, deadline: Deadline) -> http.client.HTTPResponse:
    """The server's answer to a request for all bytes from number `have`."""
    headers = {"User-Agent": "ai-architectures-from-scratch", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return answer(address, headers, deadline)
    except urllib.error.HTTPError as error:
        error.close()
        text = f"answers {error.code} {shown(str(error.reason), 200)}"
        if 400 <= error.code < 500 and error.code not in _MAYBE_LATER:
            raise Refused(text) from None
        raise Broken(text, restart=error.code == 416) from None  # 416: no such range
    except _FAULTS as error:
        raise Broken(_reason(error)) from None


def _checked_start(response: http.client.HTTPResponse, have: int, size: int) -> int:
    """The number of the answer's first byte in the file; Broken or Refused where the answer isn't this file.

    No If-Range is needed: parts of two different files of one length would not have the published SHA-256.
    """
    if response.headers.get_content_type() == "text/html":
        raise Broken("answers with a web page instead of the file")
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != have or found[2] not in ("*", str(size)):
            raise Broken(f"answers with '{shown(str(response.headers.get('Content-Range')))}', "
                         f"asked for the bytes from {have:,} of {size:,}", restart=True)  # fmt: skip
        return have
    if response.status != 200:
        raise Broken(f"answers {response.status} {shown(response.reason, 200)}")
    if response.length is not None and response.length != size:
        raise Refused(f"has {response.length:,} bytes, expected {size:,}")
    return 0  # the server doesn't know Range: from the start


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError) and not isinstance(cause, Slow):
        return f"no answer within {TIMEOUT:g} s"
    return shown(str(cause), 200) or type(cause).__name__


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is(path: Path, size: int, sha256: str) -> bool:
    """Whether the file is there and is the published one."""
    if _length(path) != size:
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest() == sha256


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with the folder of this lock file; the system lets go of it however the process ends."""
    with open(path, "a+b") as file:
        _wait_for(file)
        yield


def _wait_for(file: BinaryIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            except OSError:  # after ten seconds
                continue
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
        pass  # a system or a file system without locks: two at once would still not get past the SHA-256


class Meter:
    """How far a download is, on standard error: in place on a terminal, else a line at first and every ten seconds."""

    def __init__(self, name: str):
        self.name = name
        self.terminal = is_terminal(sys.stderr)
        self.shown = -math.inf

    def __call__(self, done: int, size: int) -> None:
        now, pause = time.monotonic(), 0.2 if self.terminal else 10.0
        if not is_open(sys.stderr) or (now < self.shown + pause and done < size):
            return
        self.shown = now
        line = f"{self.name}: {done / 1e6:.1f} of {size / 1e6:.1f} MB"
        self._print(f"\r{line}" if self.terminal else f"{line}\n")

    def close(self) -> None:
        """End the line that was rewritten in place."""
        if self.terminal and self.shown > 0:
            self._print("\n")

    def _print(self, text: str) -> None:
        with suppress(OSError):  # a download outlives its terminal
            print(text, end="", file=sys.stderr, flush=True)
