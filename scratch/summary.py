"""A model as a table: what its parts are called, what comes out of each, and where the parameters are."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.module import Module, _leaves, observe
from scratch.tensor import Parameter, Tensor, no_grad

HEADER = ("name", "type", "output", "parameters")


def summary(module: Module, *inputs: Any) -> str:
    """A table of all parts in the order in which they are defined, with output shapes from a trial run on `inputs`.

    Args: inputs: what the module is called with; a tuple of whole numbers stands for zeros of that shape.
    "parameters" counts those of a part itself, without the parts inside it; one that several parts share is counted
    where it comes first, and `*` marks the others. `x3` after a shape: the part ran three times; `-`: it did not run.
    The run is in evaluation mode and off the tape, and leaves the module as it was.
    """
    runs = _run(module, tuple(_input(module, value) for value in inputs))
    rows: list[tuple[str, ...]] = [HEADER]
    counted: set[int] = set()
    for name, part in module.named_modules():
        own = {id(value): value for _, value in _leaves(vars(part), "", set()) if isinstance(value, Parameter)}
        new = sum(parameter.size for key, parameter in own.items() if key not in counted)
        shared = not counted.isdisjoint(own)
        counted |= own.keys()
        outputs = runs.get(id(part), ["-"])
        output = outputs[-1] if len(outputs) == 1 else f"{outputs[-1]} x{len(outputs)}"
        rows.append((name or "(whole)", type(part).__name__, output, f"{new:,}" + ("*" if shared else "")))
    return "\n".join([*_table(rows), "", *_totals(module), *_footnote(rows)])


def _run(module: Module, inputs: tuple) -> dict[int, list[str]]:
    """The shapes of everything that each module returned, by the module's id."""
    runs: dict[int, list[str]] = {}

    def note(part: Module, _: tuple, output: Any) -> None:
        runs.setdefault(id(part), []).append(_shape(output))

    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with no_grad(), observe(note):
            module(*inputs)
    finally:
        for part, mode in modes:
            part.training = mode
    return runs


def _input(module: Module, value: Any) -> Any:
    if isinstance(value, tuple) and all(isinstance(size, (int, np.integer)) for size in value):
        dtype = next((parameter.dtype for parameter in module.parameters()), np.dtype(np.float32))
        return Tensor(np.zeros(value, dtype))
    return value


def _shape(output: Any) -> str:
    """(2, 3) of a tensor, [(2, 3), (2, 4)] of several."""
    if hasattr(output, "shape"):
        return str(tuple(output.shape))
    if isinstance(output, (tuple, list)):
        return "[" + ", ".join(_shape(each) for each in output) + "]"
    if isinstance(output, dict):
        return "{" + ", ".join(f"{key}: {_shape(each)}" for key, each in output.items()) + "}"
    return type(output).__name__


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their longest entry, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = []
    for *words, number in rows:
        cells = [word.ljust(width) for word, width in zip(words, widths[:-1], strict=True)]
        lines.append("  ".join([*cells, number.rjust(widths[-1])]))
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _totals(module: Module) -> list[str]:
    parameters = list(module.parameters())
    total = sum(parameter.size for parameter in parameters)
    trainable = sum(parameter.size for parameter in parameters if parameter.requires_grad)
    megabytes = sum(parameter.data.nbytes for parameter in parameters) / 1e6
    return [f"parameters: {total:,} ({trainable:,} trainable), {megabytes:.3f} MB"]


def _footnote(rows: list[tuple[str, ...]]) -> list[str]:
    return ["* shares parameters counted above"] if any(row[3].endswith("*") for row in rows) else []
