"""What the ablations of all architectures share: a run with one part changed, its figures, a row of the table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch.module import Module
from scratch.training.progress import say
from scratch.training.report import RESULTS, number
from scratch.training.run import Run, RunStopped


def command_line(doc: str | None) -> argparse.ArgumentParser:
    """--parent and --seed, under the first line of a module's docstring."""
    p = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    p.add_argument("--parent", type=Path, default=Path("runs/ablations"), help="where the run folders go")
    p.add_argument("--seed", type=int, default=0)
    return p


def exchanging(build: Callable[..., Module], old: type[Module], new: type[Module]) -> Callable[..., Any]:
    """`build`, with every part of exactly the class `old` turned into one of `new`, a class of the same attributes."""

    def make(*arguments: Any) -> Module:
        model = build(*arguments)
        for part in model.modules():
            if type(part) is old:
                part.__class__ = new
        return model

    return make


def figures_of(
    architecture: str, name: str, settings: Any, parent: Path, train: Callable[..., object], *more: Any, **options: Any
) -> dict[str, float]:
    """The figures of train(settings, run, *more, **options), which gets a folder in `parent`; none of a run that broke
    off, which is said."""
    run = Run.create(architecture, settings, name, parent=parent)
    try:
        with run.threads():
            train(settings, run, *more, **options)
        return json.loads((run.folder / RESULTS).read_text(encoding="utf-8"))["figures"]
    except RunStopped as stop:
        say(str(stop))
        if stop.interrupted:
            raise SystemExit(stop.code) from stop
        return {}
    finally:
        run.close()


def head(columns: Sequence[str], what: str = "what") -> str:
    """The first two lines of the Markdown table."""
    return f"| {what} | {' | '.join(columns)} |\n" + "|---" * (len(columns) + 1) + "|"


def row(name: str, columns: Sequence[str], figures: Mapping[str, float]) -> str:
    """A run's line of the table; nan for a figure that it has not."""
    return f"| {name} | " + " | ".join(number(c, figures.get(c, np.nan)) for c in columns) + " |"
