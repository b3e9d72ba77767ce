"""Runs that are killed, and runs that meet in one folder: processes forked from one that has imported everything.

    python -m tests.kills kill FOLDER SEED      FOLDER/whole undisturbed, FOLDER/run killed 20 times and resumed
    python -m tests.kills race FOLDER           two processes that start in one folder at once, again and again

SIGKILL comes from outside at a random time, or the child sends it to itself at a random line of the code that keeps
a run, in the middle of a checkpoint's bytes, or in the middle of a line of the log. What is printed is JSON: the phases
that were hit, and how each process ended. A module of its own because pytest's process has threads: it must not fork.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scratch import cli
from scratch.models.mlp import train as mlp
from scratch.training import Run, checkpoint, folder
from scratch.training.settings import from_json
from scratch.weights import files, safetensors_file

SETTINGS = {"hidden": (8,), "steps": 400, "batch_size": 16, "evaluate_every": 25, "save_every": 5, "warmup": 5}
PLAN = ["outside"] * 7 + ["line"] * 7 + ["checkpoint"] * 3 + ["log"] * 3
KEEPERS = {module.__file__: Path(module.__file__).stem for module in (folder, checkpoint, files, safetensors_file,
           sys.modules["scratch.training.run"], sys.modules["scratch.training.report"])}  # fmt: skip
READING = ("load", "load_file", "load_metadata", "restore", "reading", "_read_header", "_parse", "_entry",
           "_read_array", "_are_counts", "_is_text", "_without_repeats", "resume", "track", "read_settings",
           "tidy")  # fmt: skip


def phase_of(file: str, function: str) -> str:
    """What a run does while this function of its keepers is the last that was entered."""
    if function in READING:
        return "taking up"
    if file == "folder" and function in ("write", "flush"):
        return "log"
    if (file, function) in (("run", "log"), ("run", "evaluated")):
        return "log"
    if file == "files":
        return "replacing a file"
    if file in ("checkpoint", "safetensors_file") or function == "save":
        return "making a checkpoint"
    return "step" if (file, function) == ("run", "steps") else "beginning or end"


class Watch:
    """Steps, lines and the phase of a child, in memory that outlives it; a child may die at its n-th line."""

    def __init__(self) -> None:
        self.shared = mmap.mmap(-1, 4096)
        self.lines, self.fatal = 0, 0

    def phase(self) -> str:
        return self.shared[8:64].rstrip(b"\0").decode() or "beginning or end"

    def steps(self) -> int:
        return int.from_bytes(self.shared[:8], "little")

    def begin(self, fatal: int) -> None:
        """In the child: follow every line of the keepers."""
        self.fatal = fatal
        sys.settrace(self._call)

    def _call(self, frame: Any, event: str, argument: Any) -> Callable | None:
        return self._line if frame.f_code.co_filename in KEEPERS else None

    def _line(self, frame: Any, event: str, argument: Any) -> Callable:
        code = frame.f_code
        self.shared[8:64] = phase_of(KEEPERS[code.co_filename], code.co_name).encode().ljust(56, b"\0")
        self.lines += 1
        if self.lines == self.fatal:
            die()
        return self._line


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def train(place: Path) -> None:
    """Start the run in `place`, or take it up."""
    if (place / folder.SETTINGS).exists():
        run = Run.resume(place)
        mlp.train(from_json(mlp.Settings, run.document["settings"]), run)
    else:
        settings = mlp.Settings(**SETTINGS)  # type: ignore[arg-type]
        run = Run.create("mlp", settings, folder=place)
        mlp.train(settings, run)
    run.close()


def fork(child: Callable[[], Any]) -> int:
    """The process id of a child that does this and ends."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = child() or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# -- killing ------------------------------------------------------------------------------------------------------


def kill(place: Path, kind: str, rng: random.Random) -> str:
    """One attempt that ends in SIGKILL; returns the phase that it hit."""
    watch, wait, delay = Watch(), rng.randrange(0, 11), rng.uniform(0, 0.01)
    fatal = rng.randrange(1, 3000) if kind == "line" else 0
    count, share = rng.randrange(1, 3 if kind == "checkpoint" else 12), rng.random()

    def child() -> None:
        if kind == "checkpoint":
            tear_a_checkpoint(count, share)
        if kind == "log":
            tear_the_log(count, share)
        count_steps(watch)
        watch.begin(fatal)
        train(place)

    pid = fork(child)
    if kind == "outside":
        until = time.monotonic() + 30
        while watch.steps() < wait and time.monotonic() < until:
            time.sleep(0.0002)
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        raise RuntimeError(f"a child that was to be killed ({kind}) ended with status {status}")
    return {"checkpoint": "inside a checkpoint's bytes", "log": "inside a line of the log"}.get(kind, watch.phase())


def count_steps(watch: Watch) -> None:
    log = Run.log

    def counting(self: Run, step: int, loss: float, **more: float) -> None:
        watch.shared[:8] = (watch.steps() + 1).to_bytes(8, "little")
        log(self, step, loss, **more)

    Run.log = counting  # type: ignore[method-assign]


def tear_a_checkpoint(count: int, share: float) -> None:
    """Die with this share of the count-th checkpoint written."""
    written = iter(range(1, count + 1))

    def torn(path: Path, *parts: Any) -> None:
        if next(written) < count:
            return files.atomic_write(path, *parts)
        content = b"".join(bytes(part) for part in parts)
        with files.replacing(path) as new:
            new.write_bytes(content[: int(share * len(content))])
            die()

    safetensors_file.atomic_write = torn  # type: ignore[assignment]


def tear_the_log(count: int, share: float) -> None:
    """Die with this share of the count-th line on the disk."""
    written, write = iter(range(1, count + 1)), folder.Log.write

    def torn(self: folder.Log, row: dict) -> None:
        if next(written) < count:
            return write(self, row)
        line = json.dumps(row).encode() + b"\n"
        self._file.write(line[: int(share * len(line))])
        self._file.flush()
        die()

    folder.Log.write = torn  # type: ignore[method-assign]


def kill_again_and_again(place: Path, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    plan = rng.sample(PLAN, len(PLAN))
    phases = Counter(kill(place / "run", kind, rng) for kind in plan)
    ends = [os.waitpid(fork(lambda name=name: train(place / name)), 0)[1] for name in ("run", "whole")]
    return {"kills": sum(phases.values()), "phases": dict(sorted(phases.items())), "ends": ends}


# -- two at once ----------------------------------------------------------------------------------------------------


def race(place: Path, rounds: int = 5) -> list[dict[str, Any]]:
    """Two commands a round that start at the same moment, with seeds 0 and 1 where they start a run."""
    found = []
    for number in range(rounds):
        run = place / f"run{number}"
        fields = ["--steps", "40", "--hidden", "8", "--warmup", "5", "--save-every", "5", "--evaluate-every", "20"]
        words = [["train", "mlp", "--folder", str(run), "--seed", str(seed), *fields] for seed in (0, 1)]
        if number == rounds - 1:  # at last both take up a run that was stopped
            os.rename(place / "stopped", run)
            words = [["resume", str(run)]] * 2
        found.append({"folder": str(run), **at_once(words, [place / f"told{number}.{i}" for i in (0, 1)])})
        if number == 0:
            stop(place / "stopped", words[0])
    return found


def at_once(words: list[list[str]], told: list[Path]) -> dict[str, Any]:
    """Start the commands at the same moment; their exit codes, and what they said on standard error."""
    gate = mmap.mmap(-1, 1)

    def child(i: int) -> int:
        with open(told[i], "w") as file:
            os.dup2(file.fileno(), 2)
            while not gate[0]:
                pass
            return cli.main(words[i])

    pids = [fork(lambda i=i: child(i)) for i in range(len(words))]
    time.sleep(0.02)
    gate[0] = 1
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return {"codes": codes, "told": [path.read_text() for path in told]}


def stop(run: Path, words: list[str]) -> None:
    """A run that broke off in its 23rd step."""

    def child() -> int:
        log = Run.log

        def breaking(self: Run, step: int, loss: float, **more: float) -> None:
            if step == 22:
                die()
            log(self, step, loss, **more)

        Run.log = breaking  # type: ignore[method-assign]
        return cli.main([str(run) if word.endswith("run0") else word for word in words])

    os.waitpid(fork(child), 0)


def main(words: list[str]) -> None:
    told = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the runs print goes nowhere
    mlp.pictures.draw_all = lambda *arguments: []  # they take most of the time of so short a run
    data = mlp.load_data("digits")
    mlp.load_data = lambda name: data
    import tyro  # noqa: F401  before the forks

    place = Path(words[1])
    json.dump(kill_again_and_again(place, int(words[2])) if words[0] == "kill" else race(place), told)
    told.close()


if __name__ == "__main__":
    main(sys.argv[1:])
