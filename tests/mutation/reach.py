"""Which tests reach which functions: every test runs once under a trace of calls, a file of tests to a process.

The answer is kept outside the repository, by the contents of what it depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

Scope = tuple[str, int, str]  # file, first line, name of a function
Reach = dict[str, tuple[float, set[Scope]]]  # test → seconds, functions

SLOW = 4.0  # seconds; a slower test is left out


class Trace:
    """Notes the code of every Python function of the given files that is called, in all threads."""

    def __init__(self, root: Path, files: list[str]):
        self.files = {str(root / file): file for file in files}
        self.seen: set[CodeType] = set()

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if frame.f_code.co_filename in self.files:
            self.seen.add(frame.f_code)

    def __enter__(self) -> Trace:
        self.seen = set()
        threading.settrace(self)
        sys.settrace(self)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)
        threading.settrace(None)

    @property
    def scopes(self) -> set[Scope]:
        return {(self.files[code.co_filename], code.co_firstlineno, code.co_name) for code in self.seen}


def trace_tests(items: list[Any], run: Callable[[Any, Any], bool], trace: Trace, caches: list[Any]) -> list[Any]:
    """[test, seconds or None for one that fails without a fault, functions] of each item; for a child process."""
    rows = []
    for item, following in zip(items, [*items[1:], None], strict=True):
        for cached in caches:  # else only the first test that needs a cached function would be seen to reach it
            cached.cache_clear()
        start = time.process_time()
        with trace:
            passed = run(item, following)
        seconds = time.process_time() - start
        rows.append([item.nodeid, seconds if passed else None, sorted(trace.scopes)])
    return rows


def digest(root: Path, files: list[str], tests: list[str]) -> str:
    """Changes when the library's files, the tests of one file or what tests share change."""
    test_file = tests[0].split("::")[0]
    shared = [*(root / "tests").glob("*/*.py"), *(root / "tests").glob("*/*.npz"), root / "tests/conftest.py"]
    told = hashlib.sha256("\n".join(tests).encode() + Path(__file__).read_bytes())
    for path in [root / test_file, *(root / file for file in files), *sorted(shared)]:
        if path.exists() and path.parent.name != "mutation":
            told.update(path.read_bytes())
    return told.hexdigest()[:24]


def kept(key: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"scratch-reach-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return folder / f"{key}.json"


def read(rows: list[Any]) -> tuple[Reach, list[str], list[str]]:
    """What each usable test reaches, the tests that fail without a fault, and the slow ones."""
    reach, failing, slow = {}, [], []
    for test, seconds, scopes in rows:
        if seconds is None:
            failing.append(test)
        elif seconds > SLOW:
            slow.append(test)
        else:
            reach[test] = (seconds, {(file, line, name) for file, line, name in scopes})
    return reach, failing, slow


def load(path: Path) -> list[Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
