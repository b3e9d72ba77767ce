"""Quick presets and sample commands, alone and next to programs that keep every core busy: `python -m benchmarks.busy`.

With one busy program a core, a fair share of a core is one half, so that twice the time alone is the least that a
command of two threads can take; at most 2.5 times is what is required, of the command and of its training steps. Of a
preset some seconds are trained, with evaluation, report and pictures at the end; steps/s are of steps alone.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.__main__ import ROOT
from scratch.parallel import cores
from scratch.training.command import guarded, load_expected, models
from scratch.training.progress import say
from scratch.training.report import RESULTS
from scratch.training.settings import nearest

MOST = 2.5  # times the time alone
KINDS = ["train", "sample"]
SAMPLES = 5  # a command of half a second has luck with its place among busy programs, or not
BUSY = "while True: pass"


def main(words: Sequence[str] | None = None) -> int:
    a = arguments(words)
    for name in a.names:
        if name not in models():
            raise ValueError(f"there is no model {name!r}.{nearest(name, models())}")
    say(f"{cores()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}, NumPy "
        f"{np.__version__}; busy: {cores()} programs that compute all the time\n")  # fmt: skip
    say("| command | alone, s | busy, s | busy ÷ alone | steps/s alone | steps/s busy | alone ÷ busy |")
    say("|---|---|---|---|---|---|---|")
    results = {}
    for kind in a.kinds:
        for name in a.names or models():
            results[f"{kind} {name}"] = measure(kind, name, a)
    worst = max(results, key=lambda each: results[each]["ratio"])
    say(f"\nworst: {worst}, {results[worst]['ratio']:.2f} times; required: at most {MOST} times")
    if a.json:
        a.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if results[worst]["ratio"] <= MOST else 1


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m benchmarks.busy", description=(__doc__ or "").split("\n\n")[0])
    p.add_argument("names", nargs="*", metavar="NAME", help="architectures (default: all)")
    p.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="which commands (default: both)")
    p.add_argument("--seconds", type=float, default=4.0, help="about how long a preset trains, alone (default: 4)")
    p.add_argument("--rounds", type=int, default=1, help="repetitions, of which the table shows medians (default: 1)")
    p.add_argument("--alone", action="store_true", help="leave out the busy programs, to compare two commits")
    p.add_argument("--json", type=Path, help="also write the figures into this file")
    a = p.parse_args(words)
    if a.rounds < 1 or not 0 < a.seconds < math.inf:
        p.error("--rounds is at least 1, --seconds above 0")
    return a


def measure(kind: str, name: str, a: argparse.Namespace) -> dict[str, float]:
    """Time one command alone and next to busy programs, in turns, and print its line of the table."""
    once = sample if kind == "sample" else train
    alone, beside = [], []
    for _ in range(a.rounds * (SAMPLES if kind == "sample" else 1)):
        alone.append(once(name, a.seconds))
        with busy(0 if a.alone else cores()):
            beside.append(alone[-1] if a.alone else once(name, a.seconds))
    found = {
        "alone": median(seconds for seconds, _ in alone),
        "busy": median(seconds for seconds, _ in beside),
        "rate_alone": median(rate for _, rate in alone),
        "rate_busy": median(rate for _, rate in beside),
    }
    found["ratio"] = found["busy"] / found["alone"]
    rates = "– | – | –"
    if kind == "train":
        slower = found["rate_alone"] / found["rate_busy"]
        rates = f"{found['rate_alone']:,.1f} | {found['rate_busy']:,.1f} | {slower:.2f}"
        found["ratio"] = max(found["ratio"], slower)
    quick = " --preset quick" if kind == "train" else ""
    say(f"| {kind} {name}{quick} | {found['alone']:.1f} | {found['busy']:.1f} | "
        f"{found['busy'] / found['alone']:.2f} | {rates} |")  # fmt: skip
    return found


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many other processes that compute all the time, as long as the block runs."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        time.sleep(0.3 * bool(others))  # until they have started
        yield
    finally:
        for each in others:
            each.kill()
            each.wait()


def sample(name: str, seconds: float) -> tuple[float, float]:
    """(seconds of `scratch sample NAME`, 0)"""
    with TemporaryDirectory() as folder:
        return timed(["sample", name], folder), 0.0


def train(name: str, seconds: float) -> tuple[float, float]:
    """(seconds of training the quick preset for a part of its steps, steps per second in steps alone)"""
    preset: dict[str, Any] = load_expected(name)["quick"]
    steps = preset["settings"]["steps"]
    part = min(steps, math.ceil(steps * seconds / (60 * preset["minutes"])))
    with TemporaryDirectory() as folder:
        whole = timed(["train", name, "--preset", "quick", "--steps", str(part), "--folder", "run"], folder)
        results = json.loads((Path(folder) / "run" / RESULTS).read_text(encoding="utf-8"))
        return whole, results["steps_per_second"]


def timed(words: list[str], folder: str) -> float:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from scratch.cli import main; sys.exit(main())"
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        print(f"error: scratch {' '.join(words)} failed: {done.stderr.strip() or done.stdout.strip()}", file=sys.stderr)
        raise SystemExit(1)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(guarded(main))
