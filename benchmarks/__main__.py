"""Time training steps here and in PyTorch, side by side.

Every contender runs in a process of its own, so that two libraries' threads never meet; the processes take turns, and
the order turns too. A round's ratio compares neighbours in time; the table shows medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module, util
from pathlib import Path

import numpy as np

from scratch.console import complain, say, typed
from scratch.parallel import cores
from scratch.training.command import guarded
from scratch.training.settings import nearest

ROOT = Path(__file__).resolve().parent.parent
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# Settings that force a kernel for another processor, or another cache, on NumPy's matrix library.
DISTURBING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def main(words: Sequence[str] | None = None) -> int:
    a = arguments(words)
    known = sorted(path.stem for path in (ROOT / "benchmarks" / "steps").glob("*.py") if path.stem != "__init__")
    for name in a.names:
        if name not in known:
            raise ValueError(f"there is no benchmark {name!r}.{nearest(name, known)}")
    say(f"{cores()} cores, {a.threads} threads, {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}, NumPy {np.__version__}; {a.rounds} rounds of {a.seconds:g} s")  # fmt: skip
    results = {name: measure(name, a) for name in a.names or known}
    if a.json:
        a.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="scratch bench", description=(__doc__ or "").split("\n\n")[0])
    p.add_argument("names", nargs="*", metavar="NAME", help="steps to time, such as mlp (default: all)")
    p.add_argument("--rounds", type=int, default=5, help="turns that each contender gets (default: 5)")
    p.add_argument("--seconds", type=float, default=3.0, help="length of a turn (default: 3)")
    p.add_argument("--threads", type=int, default=min(2, cores()), help="threads for each contender (default: 2)")
    p.add_argument("--json", type=Path, help="also write every round's figures into this file")
    a = p.parse_args(words)
    if a.rounds < 1 or a.threads < 1 or not 0 < a.seconds < math.inf:
        p.error("--rounds and --threads are at least 1, --seconds above 0")
    if a.json and not a.json.parent.is_dir():
        p.error(f"--json needs a folder that exists, got {a.json}")
    return a


def measure(name: str, a: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Run all rounds of one step and print its table."""
    subject = import_module(f"benchmarks.steps.{name}")
    contenders = [c for c in subject.CONTENDERS if "PyTorch" not in c or util.find_spec("torch")]
    if len(contenders) < len(subject.CONTENDERS):
        say("PyTorch is not installed, so there is nothing to compare with: pip install torch==2.13.0")
    rounds: dict[str, list[dict[str, float]]] = {contender: [] for contender in contenders}
    for turn in range(a.rounds):
        shift = turn % len(contenders)
        for contender in contenders[shift:] + contenders[:shift]:
            rounds[contender].append(run(name, contender, a))
    one = isinstance(subject.REFERENCE, str)  # else each contender has its own
    reference = dict.fromkeys(contenders, subject.REFERENCE) if one else subject.REFERENCE
    say(f"\n{name}: {(subject.__doc__ or '').strip()}\n")
    say(f"| contender | ms a step, median (lowest to highest round) | ÷ {subject.REFERENCE if one else 'PyTorch'} "
        "| peak MB |")  # fmt: skip
    say("|---|---|---|---|")
    medians = []
    for contender, results in rounds.items():
        times = [r["median_ms"] for r in results]
        ratio = ""
        if reference[contender] in rounds:
            ratios = [t / r["median_ms"] for t, r in zip(times, rounds[reference[contender]], strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            medians += [statistics.median(ratios)] if contender.startswith("scratch") else []
        memory = max(r["peak_mb"] or 0 for r in results)
        shown = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        say(f"| {contender} | {shown} | {ratio} | {memory:.0f} |")
    if not one and medians:
        say(f"\ngeometric mean of scratch ÷ PyTorch: {statistics.geometric_mean(medians):.2f}")
    return rounds


def run(name: str, contender: str, a: argparse.Namespace) -> dict[str, float]:
    environment = {key: value for key, value in os.environ.items() if key not in DISTURBING}
    environment |= dict.fromkeys(THREAD_VARIABLES, str(a.threads))
    command = [sys.executable, "-m", "benchmarks.worker", name, contender, str(a.seconds)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        again = " ".join(["python -m benchmarks.worker", name, typed(contender), str(a.seconds)])
        complain(f"error: {contender} failed: {(done.stderr.splitlines() or ['without a word'])[-1]}\n"
                 f"to see where, run in the clone: {again}")  # fmt: skip
        raise SystemExit(1)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(guarded(main))
