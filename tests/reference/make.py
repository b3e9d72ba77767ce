"""Run every parity case in PyTorch and freeze the results: `python -m tests.reference.make [SUBJECT ...]`."""

from __future__ import annotations

import sys

import numpy as np

from tests.parity import REFERENCE_FOLDER, cases, run_theirs, subjects


def main(names: list[str]) -> None:
    for subject in names or subjects():
        frozen = {
            f"{case.name}|{what}": value for case in cases(subject) for what, value in run_theirs(case).items()
        }
        path = REFERENCE_FOLDER / f"{subject}.npz"
        np.savez_compressed(path, **frozen)
        print(f"{subject}: {len(cases(subject))} cases, {path.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
