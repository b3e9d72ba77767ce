"""Plant faults one at a time and count those that the tests catch: see docs/mutation.md.

python -m tests.mutation --list --only losses/                which faults there are
python -m tests.mutation --out mutation.jsonl                 try them; the same command again goes on
python -m tests.mutation --out mutation.jsonl --retry         the survivors again, after tests were added
python -m tests.mutation --table one.jsonl two.jsonl          the counts by folder, of several such files
python -m tests.mutation --reasons                            what equivalent.json lists, by folder and reason
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402

from tests.mutation.mutants import Mutant, mutants, sources  # noqa: E402
from tests.mutation.reasons import listing  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.json")
LEFT_OUT = tuple(  # files of tests that train, start processes, or never reach the mathematics
    f"test_{name}.py"
    for name in (
        "augment", "classify", "cli", "cnn_inside", "cnn_run", "completeness", "damage", "data", "diffusion_inside",
        "downloads", "evaluation", "fashion", "gpt_run", "imports", "mutation", "notebooks", "packaging", "pairs",
        "readmes", "resilience", "shapes", "speech", "training", "viz", "viz_cnn", "weeks", "weights",
    )
)  # fmt: skip


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", metavar="PATTERN", help="a regular expression that the fault's key contains")
    parser.add_argument("--list", action="store_true", help="print the faults, try none")
    parser.add_argument("--sample", type=int, metavar="N", help="N faults at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds of tests for a fault (10)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON lines; what is in it is not tried again")
    parser.add_argument("--retry", action="store_true", help="try those in --out again that survived")
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE", help="count what such files hold, try nothing")
    parser.add_argument("--reasons", action="store_true", help="print why the faults in equivalent.json are no faults")
    parser.add_argument("--equivalent", action="store_true", help="try also what equivalent.json lists")
    parser.add_argument("--tests", nargs="+", default=["tests"], metavar="PATH", help="where tests are (tests)")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)  # for tests of this script
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    asked = options(arguments)
    root = asked.root.resolve()
    if asked.reasons:
        print(*listing(read_groups(root)), sep="\n")
        return 0
    trees, every = mutants(root, sources(root))
    chosen = [mutant for mutant in every if not asked.only or re.search(asked.only, mutant.key)]
    if asked.sample is not None and asked.sample < len(chosen):
        chosen = random.Random(asked.seed).sample(chosen, asked.sample)
    if asked.list:
        print(*(mutant.key for mutant in chosen), sep="\n")
        print(f"{len(chosen)} faults in {len({mutant.file for mutant in chosen})} files")
        return 0
    if not hasattr(os, "fork"):
        print("planting faults needs os.fork, which this system does not have")
        return 2
    reasons = {} if asked.equivalent else equivalents(root)
    if asked.table:
        return 1 if summary(chosen, reasons, read_results(*asked.table)) else 0
    results = read_results(*([asked.out] if asked.out else []))
    todo = [
        mutant
        for mutant in chosen
        if mutant.key not in reasons
        and (mutant.key not in results or (asked.retry and results[mutant.key]["verdict"] != "killed"))
    ]
    print(f"{len(chosen)} faults, {len(todo)} to try", flush=True)
    if todo:
        try_out(asked, root, trees, todo, results)
    survivors = summary(chosen, reasons, results)
    return 1 if survivors else 0


def try_out(
    asked: argparse.Namespace, root: Path, trees: dict[str, Any], todo: list[Mutant], results: dict[str, Any]
) -> None:
    """Run pytest's collection and, in its place of the loop, the faults; results grow and are written down."""
    from tests.mutation.runner import Options, Runner

    started, tried = time.monotonic(), 0

    def report(mutant: Mutant, verdict: dict[str, Any]) -> None:
        nonlocal tried
        tried += 1
        results[mutant.key] = verdict
        if asked.out:
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"mutant": mutant.key, **verdict}, ensure_ascii=False) + "\n")
        if verdict["verdict"] != "killed":
            print(f"{verdict['verdict']}  {mutant.file}:{mutant.line}  {mutant.key.partition('::')[2]}", flush=True)
            print(verdict.get("text", ""), end="", flush=True)
            if verdict.get("left"):
                print(f"          {verdict['left']} more tests reach it, which --limit kept back", flush=True)
        if tried % 100 == 0 or tried == len(todo):
            print(f"{tried}/{len(todo)}  {time.monotonic() - started:.0f} s", flush=True)

    runner = Runner(Options(root, asked.jobs, asked.limit, LEFT_OUT), trees, todo, report)
    sys.path.insert(0, str(root))
    quiet = "-q -s --tb=no --assert=plain -p no:cacheprovider -p no:faulthandler --no-header --no-summary".split()
    quiet += ["-p", "no:randomly"]  # the runner chooses the order: fast tests of each fault first
    tests = [str(root / path) for path in asked.tests]
    code = pytest.main([*quiet, f"--rootdir={root}", *tests], plugins=[runner])
    if runner.failing:
        print(f"fail without any fault, and were not used: {runner.failing}")
    if runner.slow:
        print(f"slow, and were not used: {runner.slow}")
    if tried != len(todo):
        raise SystemExit(f"pytest ended early, with {code!r}")


def equivalents(root: Path) -> dict[str, str]:
    """{key: reason} of the faults that change nothing that a test could see."""
    return {key: group["reason"] for group in read_groups(root) for key in group["mutants"]}


def read_groups(root: Path) -> list[dict[str, Any]]:
    path = root / EQUIVALENT.relative_to(ROOT)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def read_results(*paths: Path) -> dict[str, Any]:
    """{key: verdict}; the last line of a key counts, and over several files that a test has caught it."""
    results: dict[str, Any] = {}
    for path in paths:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
        for key, row in {row.pop("mutant"): row for row in rows}.items():
            if key not in results or results[key]["verdict"] != "killed":
                results[key] = row
    return results


def folder(mutant: Mutant) -> str:
    parts = mutant.file.split("/")
    return "/".join(parts[: min(3, len(parts) - 1)]) if len(parts) > 2 else mutant.file


def summary(chosen: list[Mutant], reasons: dict[str, str], results: dict[str, Any]) -> int:
    """Print the counts by folder as a Markdown table; the number of faults that were tried and that no test caught."""
    counts: dict[str, Counter[str]] = {}
    for mutant in chosen:
        result = results.get(mutant.key, {"verdict": "untried"})
        verdict = "equivalent" if mutant.key in reasons else result["verdict"]
        for row in (folder(mutant), "all"):
            count = counts.setdefault(row, Counter())
            count["total"] += 1
            count[verdict if verdict in ("equivalent", "killed", "untried") else "survived"] += 1
            count["milliseconds"] += round(1000 * result.get("seconds", 0))
    everything = counts.setdefault("all", Counter())
    print(f"\n| {'':32} | faults | killed | equivalent | survived | kill rate | minutes |")
    print(f"|{'-' * 34}|-------:|-------:|-----------:|---------:|----------:|--------:|")
    for row, count in sorted(counts.items(), key=lambda item: (item[0] == "all", item[0])):
        tried = count["killed"] + count["survived"]
        rate = f"{100 * count['killed'] / tried:.1f} %" if tried else "–"
        numbers = f"{count['total']:6,} | {count['killed']:6,} | {count['equivalent']:10,} | {count['survived']:8,}"
        print(f"| {row:32} | {numbers} | {rate:>9} | {count['milliseconds'] / 60_000:7.1f} |")
    if everything["untried"]:
        print(f"{everything['untried']:,} of them have not been tried")
    return everything["survived"]


if __name__ == "__main__":
    raise SystemExit(main())
