"""Damaged and hostile files for every reader.

    python -m tests.attack --count 40000 --seed 1        spread over the readers, and all bombs and hostile pickles
    python -m tests.attack --only pth --case 1234        one case again, with what happened
    python -m tests.attack --list

The rule: a reader loads the file right, or raises ValueError naming it, and does nothing else. The exit code is 1 where
it is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.attack import planted
from tests.attack.judge import Cases
from tests.attack.readers import Reader, readers
from tests.attack.workers import CAN_FORK, Result, attack

MOST = 20  # violations of a reader that are told and kept


def arguments(words: list[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m tests.attack", description=(__doc__ or "").splitlines()[0])
    p.add_argument("--count", type=int, default=2000, help="damaged files, spread over the readers; and at most as "
                   "many of those that are hostile by design")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--only", metavar="READER", help="readers whose name begins so")
    p.add_argument("--case", type=int, help="this case of the readers alone")
    p.add_argument("--keep", type=Path, metavar="DIR", help="keep the files that broke the rule there")
    p.add_argument("--seconds", type=float, default=10, help="time of a case, of computing")
    p.add_argument("--megabytes", type=int, default=1024, help="memory of a case, on Linux")
    p.add_argument("--largest", type=int, default=10**9, help="leave out hostile files of more bytes")
    p.add_argument("--torch", action="store_true", help="compare PyTorch's files with what torch.load gives")
    p.add_argument("--planted", action="store_true", help="attack the faulty readers of planted.py instead")
    p.add_argument("--json", action="store_true", help="print the results as JSON")
    p.add_argument("--list", action="store_true", help="the readers' names")
    return p.parse_args(words)


def chosen(a: argparse.Namespace) -> list[Reader]:
    found = planted.readers(CAN_FORK) if a.planted else readers()
    names = [name for name in found if name.startswith(a.only or "")]
    if not names:
        raise SystemExit(f"--only: expected the beginning of one of {', '.join(found)}, got {a.only}")
    return [found[name] for name in names]


def keep(reader: Reader, seed: int, numbers: list[int], folder: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        cases = Cases(reader, Path(place), seed)
        folder.mkdir(parents=True, exist_ok=True)
        for index in numbers:
            (folder / f"{reader.name.replace(' ', '_')}-{seed}-{index}-{reader.file}").write_bytes(cases[index].content)


def tell(name: str, result: Result, seed: int, seconds: float) -> None:
    counts = result.counts
    print(f"{name:24} {result.tried:6,} {counts['loaded']:7,} {counts['refused']:8,} {counts['violation']:11,}"
          f"{seconds:9.1f}", flush=True)  # fmt: skip
    for index, fault in result.violations[:MOST]:
        print(f"    {fault}\n    python -m tests.attack --only '{name}' --seed {seed} --case {index}")


def main(words: list[str]) -> int:
    a = arguments(words)
    if a.torch:
        import torch  # noqa: F401  readers.as_pytorch_reads looks whether it is there
    selected = chosen(a)
    if a.list:
        print("\n".join(reader.name for reader in selected))
        return 0
    if not a.json:
        print(f"{'reader':24} {'tried':>6} {'loaded':>7} {'refused':>8} {'violations':>11}{'seconds':>9}")
    results: dict[str, Result] = {}
    begun = time.monotonic()
    for reader in selected:
        start = time.monotonic()
        numbers = a.count // len(selected) if a.case is None else [a.case]
        result = results[reader.name] = attack(reader, a.seed, numbers, a.seconds, a.megabytes, a.largest)
        if not a.json:
            tell(reader.name, result, a.seed, time.monotonic() - start)
        if a.keep and result.violations:
            keep(reader, a.seed, [index for index, _ in result.violations[:MOST]], a.keep)
    if a.json:
        json.dump({name: {"tried": each.tried, **each.counts, "faults": each.violations}
                   for name, each in results.items()}, sys.stdout)  # fmt: skip
    else:
        every = Result(sum(each.tried for each in results.values()))
        for each in results.values():
            every.counts += each.counts
        tell("all", every, a.seed, time.monotonic() - begun)
    return int(any(each.violations for each in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
