"""Runs the tests against planted faults, each fault in a forked process that has everything imported already.

The parent collects the tests and never runs one. A child exchanges the code objects of the functions around the fault,
which also reaches every `from module import function`, runs the tests that reach them, and ends at the first failure.
"""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from _pytest import tmpdir

from tests.mutation import reach
from tests.mutation.mutants import Mutant, first_line

MEMORY = 6 * 2**30  # bytes of address space for a child


@dataclass
class Options:
    root: Path
    jobs: int = 1
    limit: float = 10.0  # seconds of tests for a fault that no test has caught yet
    leave_out: tuple[str, ...] = ()  # names of test files


@dataclass
class Child:
    pid: int
    pipe: int
    folder: Path
    waited: float = 0.0  # seconds in all
    idle: float = 0.0  # seconds since it last computed something
    used: float = 0.0  # seconds of a processor
    text: bytes = b""
    task: Any = None


@dataclass(eq=False)
class Runner:
    """A pytest plugin: takes the place of pytest's loop over the tests."""

    options: Options
    trees: dict[str, Any]
    mutants: list[Mutant]
    report: Callable[[Mutant, dict[str, Any]], None]
    failed: str | None = None
    functions: dict[str, list[FunctionType]] = field(default_factory=dict)
    caches: list[Any] = field(default_factory=list)
    items: dict[str, Any] = field(default_factory=dict)
    tests_of: dict[reach.Scope, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    catchers: dict[reach.Scope, dict[str, int]] = field(default_factory=dict)
    failing: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)

    # -- what pytest calls ---------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Before test files are imported: random examples end at the first failure, nothing is made smaller."""
        try:
            from hypothesis import Phase, settings
        except ImportError:
            return
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", settings(), phases=phases)
        settings.load_profile("mutation")

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        return True if collection_path.name in self.options.leave_out else None

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        markers = ("torch", "xfail")
        items[:] = [item for item in items if not any(item.get_closest_marker(name) for name in markers)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> bool:
        """One test, without the report that pytest would make of a failure."""
        if (reported := getattr(tmpdir, "tmppath_result_key", None)) is not None:
            item.stash[reported] = {}  # what `tmp_path` asks for at its end
        try:
            item.ihook.pytest_runtest_setup(item=item)
            item.ihook.pytest_runtest_call(item=item)
        except pytest.skip.Exception:
            pass
        except BaseException:
            self.failed = item.nodeid
        try:
            item.ihook.pytest_runtest_teardown(item=item, nextitem=nextitem)
        except BaseException:
            self.failed = item.nodeid
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: Any) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.import_sources()
        self.functions, self.caches = live_functions({str(self.options.root / file) for file in self.trees})
        gc.collect()
        gc.freeze()  # children then share the parent's memory
        self.find_reach()
        self.run_children(((mutant, functools.partial(self.try_out, mutant)) for mutant in self.mutants), self.judge)
        return True

    # -- which tests ---------------------------------------------------------------------------------------------

    def import_sources(self) -> None:
        for file in self.trees:
            importlib.import_module(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))

    def find_reach(self) -> None:
        """Fill `tests_of`, from what is kept or by a run."""
        by_file: dict[str, list[Any]] = {}
        for test, item in self.items.items():
            by_file.setdefault(test.split("::")[0], []).append(item)
        files = sorted(self.trees)
        paths = {}
        for name, items in by_file.items():
            paths[name] = reach.kept(reach.digest(self.options.root, files, [item.nodeid for item in items]))

        def trace(name: str) -> list[Any]:
            return reach.trace_tests(by_file[name], self.passes, reach.Trace(self.options.root, files), self.caches)

        def keep(name: str, answer: dict[str, Any]) -> None:
            if "answer" not in answer:
                if answer.get("verdict") == "error":
                    raise SystemExit(f"{name} could not be traced: {answer['text']}")
                self.slow.append(name)  # as a whole: it was ended
                return
            paths[name].write_text(json.dumps(answer["answer"]), encoding="utf-8")

        todo = [name for name, path in paths.items() if not path.exists()]
        self.run_children(((name, functools.partial(trace, name)) for name in todo), keep, seconds=1200)
        for path in paths.values():
            found, failing, slow = reach.read(reach.load(path) or [])
            self.failing += failing
            self.slow += slow
            for test, (seconds, scopes) in found.items():
                self.seconds[test] = seconds
                for scope in scopes:
                    self.tests_of.setdefault(scope, []).append(test)
        reached: dict[str, int] = {}
        for tests in self.tests_of.values():
            for test in tests:
                reached[test] = reached.get(test, 0) + 1
        for tests in self.tests_of.values():  # the fastest and most specific first
            tests.sort(key=lambda test: ((self.seconds[test] + 0.003) * reached[test], test))

    def order(self, mutant: Mutant) -> list[Any]:
        """The tests to run, those first that have caught faults in the same function; at most `limit` seconds."""
        scope = (mutant.file, *mutant.scopes[-1])
        catchers = self.catchers.get(scope, {})
        tests = sorted(self.tests_of.get(scope, []), key=lambda test: -catchers.get(test, 0))
        chosen: list[Any] = []
        total = 0.0
        for test in tests:
            total += self.seconds[test]
            if total > self.options.limit and chosen:
                break
            chosen.append(self.items[test])
        return chosen

    # -- one fault -----------------------------------------------------------------------------------------------

    def try_out(self, mutant: Mutant) -> dict[str, Any]:
        """In a child: plant, run, and tell the first test that fails."""
        items = self.order(mutant)
        if not items:
            return {"verdict": "survived", "tests": 0}
        enough = int(3 * sum(self.seconds[item.nodeid] for item in items)) + 2  # the seconds were those under a trace
        enough = min(enough, resource.getrlimit(resource.RLIMIT_CPU)[0])
        resource.setrlimit(resource.RLIMIT_CPU, (enough, enough + 5))
        self.plant(mutant)
        for i, item in enumerate(items):
            following = items[i + 1] if i + 1 < len(items) else None
            if not self.passes(item, following):
                return {"verdict": "killed", "tests": i + 1, "test": item.nodeid}
        every = len(self.tests_of[(mutant.file, *mutant.scopes[-1])])
        return {"verdict": "survived", "tests": len(items), "left": every - len(items)}  # left: for want of time

    def plant(self, mutant: Mutant) -> None:
        path = str(self.options.root / mutant.file)
        mutant.plant()
        self.keep_free_names(mutant, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 1[:, None] may be compiled; it fails when it is run
            whole = compile(self.trees[mutant.file], path, "exec")
        changed = {key: code for key, code in codes(whole) if key in mutant.scopes}
        for function in self.functions[path]:
            code = function.__code__
            new = changed.get((code.co_firstlineno, code.co_name))
            if new is not None:
                function.__code__ = new  # raises ValueError where the free names differ, which is reported
        for cached in self.caches:
            cached.cache_clear()

    def keep_free_names(self, mutant: Mutant, path: str) -> None:
        """A function takes only code with as many free names, such as that behind `super()`: name them, unreached."""
        for node in ast.walk(self.trees[mutant.file]):
            if isinstance(node, ast.FunctionDef) and (key := (first_line(node), node.name)) in mutant.scopes:
                codes = [f.__code__ for f in self.functions[path]]
                names = {n for c in codes if (c.co_firstlineno, c.co_name) == key for n in c.co_freevars}
                unreached = [ast.Expr(ast.Name(name, ast.Load())) for name in sorted(names)]
                node.body += [ast.If(ast.Constant(False), unreached, [])] if unreached else []  # type: ignore[arg-type]
                ast.fix_missing_locations(node)

    def passes(self, item: Any, following: Any) -> bool:
        self.failed = None
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        return self.failed is None

    def judge(self, mutant: Mutant, answer: dict[str, Any]) -> None:
        verdict = answer.get("answer", answer)
        if verdict.get("test"):
            caught = self.catchers.setdefault((mutant.file, *mutant.scopes[-1]), {})
            caught[verdict["test"]] = caught.get(verdict["test"], 0) + 1
        self.report(mutant, {**verdict, "seconds": answer["seconds"]})

    # -- processes -----------------------------------------------------------------------------------------------

    def run_children(
        self, tasks: Iterator[tuple[Any, Callable[[], Any]]], done: Callable[[Any, Any], None], seconds: float = 0
    ) -> None:
        """`done(name, answer)` for each task, `jobs` of them at a time. A child that needs too long is ended.

        Too long is too much of a processor's time, which a busy machine does not lengthen, or a wait for nothing.
        """
        running: dict[int, Child] = {}
        allowed = seconds or 3 * self.options.limit + 1
        while True:
            while len(running) < self.options.jobs and (task := next(tasks, None)) is not None:
                child = self.fork(task[1], int(allowed))
                child.task = task[0]
                running[child.pipe] = child
            if not running:
                return
            start = time.monotonic()
            ready, _, _ = select.select(list(running), [], [], 0.5)
            for child in list(running.values()):
                # Counted in short steps: a machine that sleeps, or a program that is stopped for a while, is no fault.
                step, used = min(time.monotonic() - start, 0.6), processor_seconds(child.pid)
                child.waited += step
                child.idle, child.used = (0.0, used) if used > child.used else (child.idle + step, used)
                text = os.read(child.pipe, 1 << 20) if child.pipe in ready else None
                if text:
                    child.text += text
                elif text == b"" or child.idle > max(10.0, allowed / 2) or child.waited > 20 * allowed:
                    del running[child.pipe]
                    done(child.task, end(child))

    def fork(self, function: Callable[[], Any], cpu: int) -> Child:
        read, write = os.pipe()
        folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        pid = os.fork()
        if pid:
            os.close(write)
            return Child(pid, read, folder)
        try:
            silent = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(silent, stream)
            resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            factory = next(iter(self.items.values())).config._tmp_path_factory
            factory._basetemp = folder
            sys.setrecursionlimit(2000)
            answer = {"answer": function()}
        except BaseException:
            answer = {"verdict": "error", "text": traceback.format_exc()}
        with os.fdopen(write, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)


def processor_seconds(pid: int) -> float:
    """How long a process has computed; always 0 where /proc does not tell, as if it had waited."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def end(child: Child) -> dict[str, Any]:
    """What a child said, or how it died: without a word it crashed or took too long, which is a fault that shows."""
    if child.text == b"":
        os.kill(child.pid, signal.SIGKILL)
    _, status, usage = os.wait4(child.pid, 0)
    os.close(child.pipe)
    shutil.rmtree(child.folder, ignore_errors=True)
    seconds = round(usage.ru_utime + usage.ru_stime, 3)
    if child.text:
        return {**json.loads(child.text), "seconds": seconds}
    code = os.waitstatus_to_exitcode(status)
    return {"verdict": "killed", "by": f"time or signal {-code}", "seconds": seconds}


def codes(code: CodeType) -> Iterator[tuple[tuple[int, str], CodeType]]:
    """All code objects inside one, by first line and name."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield (constant.co_firstlineno, constant.co_name), constant
            yield from codes(constant)


def live_functions(files: set[str]) -> tuple[dict[str, list[FunctionType]], list[Any]]:
    """Every function object of the files, wherever it is kept, and the caches around some of them."""
    functions: dict[str, list[FunctionType]] = {file: [] for file in files}
    caches = []
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType):
            if thing.__code__.co_filename in files:
                functions[thing.__code__.co_filename].append(thing)
        elif isinstance(thing, functools._lru_cache_wrapper):
            if getattr(thing, "__module__", "").startswith("scratch"):
                caches.append(thing)
    return functions, caches
