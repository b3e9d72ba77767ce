"""Processes that work through a reader's cases, with limits that hold whatever a reader does.

A child is forked for a reader. Memory is limited by the system, the time of a case by an alarm, and where C code does
not look at alarms, by the parent, which kills the child. A child that is gone was at the case that it had announced;
another one goes on behind it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attack.judge import Cases
from tests.attack.readers import Reader

CAN_FORK = hasattr(os, "fork") and sys.platform != "win32"
GRACE = 5.0  # seconds that a child has after its alarms, which come after 5 times the time of a case


@dataclass
class Result:
    """Of one reader: how many cases were loaded and refused, and what broke the rule."""

    tried: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)

    def add(self, index: int, outcome: str, fault: str) -> None:
        self.tried += 1
        self.counts[outcome] += 1
        if outcome == "violation":
            self.violations.append((index, fault))


def attack(
    reader: Reader, seed: int, indices: Iterable[int] | int, seconds: float, megabytes: int, largest: int
) -> Result:
    """Judge these cases, or the sound file, so many damaged ones and as many hostile ones of this size."""
    result = Result()
    with tempfile.TemporaryDirectory(prefix="attack-") as place:
        cases = Cases(reader, Path(place), seed)
        numbers = cases.numbers(indices, largest) if isinstance(indices, int) else list(indices)
        if not CAN_FORK:
            for index in numbers:
                result.add(index, *cases.judge(index, seconds))
        while CAN_FORK and numbers:
            for index, outcome, fault in _child(cases, numbers, seconds, megabytes):
                result.add(index, outcome, fault)
                numbers = numbers[numbers.index(index) + 1 :]
    return result


def _child(cases: Cases, numbers: list[int], seconds: float, megabytes: int) -> Iterator[tuple[int, str, str]]:
    """(case, outcome, fault) as a child reports them, up to the one that it doesn't survive."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receive)
        _work(cases, numbers, seconds, megabytes, send)
    os.close(send)
    begun = None
    with os.fdopen(receive, "rb") as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], 5 * seconds + GRACE)
            line = pipe.readline() if ready else b""
            if not line:
                break
            message: list[Any] = json.loads(line)
            if len(message) == 1:
                begun = message[0]
            else:
                begun = None
                yield tuple(message)  # type: ignore[misc]
    if not ready:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if begun is not None:
        died = f"its process died of signal {status & 127}" if status & 127 else f"its process ended with {status >> 8}"
        yield begun, "violation", f"nothing after {5 * seconds + GRACE:g} s" if not ready else died
    elif status:
        raise RuntimeError(f"a worker ended with status {status} between two cases")


def _work(cases: Cases, numbers: list[int], seconds: float, megabytes: int, send: int) -> None:
    code = 70
    try:
        _limit_memory(megabytes)
        warnings.simplefilter("ignore")
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        for index in numbers:
            os.write(send, json.dumps([index]).encode() + b"\n")
            outcome, fault = cases.judge(index, seconds)
            os.write(send, json.dumps([index, outcome, fault[:1000]]).encode() + b"\n")
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _limit_memory(megabytes: int) -> None:
    """So much more address space than now, where the system says how much that is."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ImportError, OSError, ValueError):
        pass  # not Linux: the time is limited still
