"""One case and the rule: a reader loads the file right, or raises ValueError naming it, and does nothing else.

"Nothing else": no other exception, no program started, nothing unpickled, no connection, nothing written or removed
outside the folder of the case and on a refusal nothing inside, no file read from elsewhere but installed packages'.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.attack.readers import Reader

LONGEST_MESSAGE = 2000
LOADED, REFUSED = "loaded", "refused"
FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen",
             "pty.spawn", "pickle.find_class", "socket.connect", "socket.getaddrinfo", "urllib.Request",
             "ctypes.dlopen", "webbrowser.open", "code.__new__", "os.kill")  # fmt: skip
CHANGING = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
            "os.chown", "shutil.rmtree", "shutil.move", "shutil.copyfile")  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class TooLong(BaseException):
    """The time of a case is over; not an Exception, which a reader may catch."""


@dataclass(frozen=True)
class Case:
    """Number `index` of a reader's cases: first all that is hostile, then damage drawn by seed, reader and number."""

    reader: str
    index: int
    what: str
    content: bytes


class Cases:
    """A reader's sound folder in `place`/sound, and its cases by number."""

    def __init__(self, reader: Reader, place: Path, seed: int):
        self.reader, self.seed, self.place = reader, seed, place
        self.sound = place / "sound"
        self.sound.mkdir(parents=True)
        reader.make(self.sound)
        self.good = (self.sound / reader.file).read_bytes()
        self.hostile = list(reader.hostile(self.good).items())

    def numbers(self, count: int, largest: int) -> list[int]:
        """The sound file, so many damaged ones, and at most so many hostile ones of this size, drawn by the seed."""
        hostile = [i for i, (_, content) in enumerate(self.hostile, 1) if len(content) <= largest]
        if len(hostile) > count:
            hostile = sorted(random.Random(f"{self.seed}/{self.reader.name}").sample(hostile, count))
        return [0, *hostile, *range(len(self.hostile) + 1, len(self.hostile) + 1 + count)]

    def __getitem__(self, index: int) -> Case:
        if index == 0:
            return Case(self.reader.name, 0, "sound", self.good)
        if index <= len(self.hostile):
            return Case(self.reader.name, index, *self.hostile[index - 1])
        rng = random.Random(f"{self.seed}/{self.reader.name}/{index}")
        damage = rng.choice(self.reader.damages)
        return Case(self.reader.name, index, "damage", damage(self.good, rng))

    def judge(self, index: int, seconds: float) -> tuple[str, str]:
        """("loaded" or "refused", "") if the rule is kept, else ("violation", what happened instead)."""
        case, folder = self[index], self.place / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.sound, folder)
        (folder / self.reader.file).write_bytes(case.content)
        try:
            with watched(folder) as seen, limited(seconds):
                outcome, value = self._read(folder)
        except TooLong:
            outcome, value = "violation", f"nothing after {seconds:g} s"
        if seen:
            outcome, value = "violation", "; ".join(seen[:3])
        if outcome == LOADED:
            outcome, value = self._checked(case, value)
        elif outcome == REFUSED:
            outcome, value = self._untouched(case, folder)
        return (outcome, f"{case.what}: {value}" if outcome == "violation" else "")

    def _read(self, folder: Path) -> tuple[str, Any]:
        """What came of reading, with the value that was loaded, or with the fault."""
        try:
            return LOADED, self.reader.load(folder)
        except ValueError as error:
            fault = fault_of(str(error), folder.name if self.reader.by_folder else self.reader.file)
            return ("violation" if fault else REFUSED), fault
        except (Exception, SystemExit) as error:
            return "violation", f"{type(error).__name__}: {str(error)[:200]!r}"

    def _untouched(self, case: Case, folder: Path) -> tuple[str, str]:
        """A refusal changes nothing; the sound file is not refused."""
        for path in self.sound.iterdir():
            content = case.content if path.name == self.reader.file else path.read_bytes()
            if (folder / path.name).read_bytes() != content:
                return "violation", f"refused, but {path.name} was changed"
        return ("violation", "the sound file is refused") if case.index == 0 else (REFUSED, "")

    def _checked(self, case: Case, value: Any) -> tuple[str, str]:
        try:
            if not self.reader.right(value, case.content, self.sound):
                return "violation", "read wrong"
        except Exception as error:
            return "violation", f"read wrong: {type(error).__name__}: {str(error)[:200]!r}"
        if self.reader.refused and 0 < case.index <= len(self.hostile):
            return "violation", "read, although it is hostile"
        return LOADED, ""


def fault_of(message: str, name: str) -> str:
    """What is wrong with an error's message, if anything."""
    if name not in message:
        return f"an error without the name {name}: {message[:200]!r}"
    if len(message) > LONGEST_MESSAGE:
        return f"a message of {len(message)} characters"
    if not message.replace("\n", "").isprintable():
        return f"a message with control characters: {message[:200]!r}"
    return ""


# -- what else happens -------------------------------------------------------------------------------------------------

_watching: list[tuple[str, list[str]]] = []
_hooked = False


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """Yield a list that receives whatever happens and should not. The hook stays in the process: run it in a child."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    seen: list[str] = []
    _watching.append((os.path.realpath(folder) + os.sep, seen))
    try:
        yield seen
    finally:
        _watching.pop()


def _audit(event: str, arguments: tuple) -> None:
    if not _watching:
        return
    folder, seen = _watching[-1]
    if event in FORBIDDEN:
        seen.append(f"{event}{arguments!r:.100}")
    elif event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path, _, flags = arguments
        if not _is_inside(path, folder) and (flags & WRITING or not _is_installed(path)):
            seen.append(f"opened {os.fsdecode(path)!r:.100}")
    elif event in CHANGING and not all(_is_inside(path, folder) for path in paths_of(arguments)):
        seen.append(f"{event}{arguments!r:.100}")


def paths_of(arguments: tuple) -> list[Any]:
    return [each for each in arguments if isinstance(each, (str, bytes, os.PathLike))]


def _is_inside(path: Any, folder: str) -> bool:
    return (os.path.realpath(os.fsdecode(path)) + os.sep).startswith(folder)


PACKAGES = [os.path.realpath(each) + os.sep for each in (
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}, sys.prefix, sys.base_prefix,
    Path(__file__).resolve().parent.parent.parent,
)]  # fmt: skip


def _is_installed(path: Any) -> bool:
    """Code and data of packages, which are imported when they are needed, and the system's own facts."""
    full = os.path.realpath(os.fsdecode(path)) + os.sep
    return any(full.startswith(each) for each in PACKAGES) or full.startswith((os.devnull, "/proc/", "/sys/"))


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooLong in the block after so many seconds of computing, or five times as many on the clock (other programs
    may be busy), where the system has signals and this is the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_: Any) -> None:
        raise TooLong

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, seconds), signal.ITIMER_REAL: (signal.SIGALRM, 5 * seconds)}
    previous = {number: signal.signal(number, over) for number, _ in timers.values()}
    for timer, (_, most) in timers.items():
        signal.setitimer(timer, most)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)
