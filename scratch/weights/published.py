"""What all networks with published weights share: asking a config.json, renaming arrays, and filling a model.

A config.json describes a whole family of networks, of which a model here is one or a few. So every field that would
change the result is either read or compared with the values for which the model is right; a field of another value is
refused by name. A file that is nearly right would give numbers that are nearly right, which nobody notices.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scratch.initializers import undrawn
from scratch.module import Module
from scratch.weights.folder import CONFIG, read_json

Arrays = dict[str, np.ndarray]
M = TypeVar("M", bound=Module)
MAX_SIZE = 10**8  # no vocabulary, width or depth is larger
SHOWN = 6  # names in a message


class Config:
    """The fields of a config.json, asked for by name; `where` is the file, for messages."""

    def __init__(self, fields: Mapping[str, Any], where: str):
        self.fields, self.where = fields, where

    @classmethod
    def of(cls, folder: Path) -> Config:
        return cls(read_json(folder / CONFIG), str(folder / CONFIG))

    def kind(self) -> str:
        """The architecture: the first of `architectures`, else model_type, else ""."""
        named = self.fields.get("architectures")
        kind = named[0] if isinstance(named, list) and named else self.fields.get("model_type")
        return kind if isinstance(kind, str) else ""

    def only(self, model: str, **known: Sequence[Any]) -> None:
        """Refuse fields of other values than the known ones; one that is absent or null has the first."""
        for name, values in known.items():
            value = self.fields.get(name)
            if value is not None and value not in values:
                have = " or ".join(repr(each) for each in values)
                raise ValueError(f"{self.where}: {name} is {value!r:.100}, {model} has {have}")

    def count(self, name: str, default: int | None = None) -> int:
        """A size, from 1 up. Raises ValueError if it is missing and there is no default."""
        value = self.fields.get(name)
        value = default if value is None else value
        if type(value) is not int or not 1 <= value <= MAX_SIZE:
            raise ValueError(f"{self.where}: expected {name} to be a size, got {value!r:.100}")
        return value

    def number(self, name: str, default: float, low: float = 0.0) -> float:
        """A finite number from `low` up."""
        value = self.fields.get(name)
        value = default if value is None else value
        if type(value) not in (int, float) or not low <= value < math.inf:
            raise ValueError(f"{self.where}: expected {name} to be a number from {low:g} up, got {value!r:.100}")
        return float(value)


def build(config: Config, make: Callable[[], M]) -> M:
    """A model without weights, in evaluation mode. What its constructor refuses is the file's fault."""
    try:
        with undrawn():
            model = make()
    except ValueError as error:
        raise ValueError(f"{config.where}: {error}") from None
    model.eval()
    return model


def renamed(state: dict[str, Any], rules: Iterable[tuple[str, str]], unused: str | None = None) -> dict[str, Any]:
    """The arrays under other names: for each, all rules (pattern, replacement) one after the other. What `unused`
    matches, after that, is left out. Names that no rule knows stay as they are."""
    compiled = [(re.compile(old), new) for old, new in rules]
    found = {}
    for name, array in state.items():
        for old, new in compiled:
            name = old.sub(new, name)
        if unused is None or not re.search(unused, name):
            found[name] = array
    return found


def tie(state: dict[str, Any], name: str, others: Iterable[str], where: str) -> None:
    """Give each of `others` the array `name`, or take it from one of them; a file may list a shared array once or
    under each of its names. Raises ValueError where it has different numbers under two of them."""
    there = [each for each in (name, *others) if each in state]
    for each in there[1:]:
        first, other = (value() if callable(value) else value for value in (state[there[0]], state[each]))
        if not np.array_equal(first, other, equal_nan=True):
            raise ValueError(f"{where}: {there[0]} and {each} differ, and the model has one array for both")
    if there:
        for each in (name, *others):
            state[each] = state[there[0]]


def fill(model: Module, state: dict[str, Any], where: str) -> None:
    """Write the arrays into the model, which must have all of them and no others, of the same shapes; `state` is
    emptied, so that memory is freed on the way, and what waits in a file is read now, one after the other.

    Raises ValueError naming what is missing, left over or shaped otherwise, before anything is written.
    """
    mine = model.state_dict()
    faults = {
        "missing": [name for name in mine if name not in state],
        "left over": [name for name in state if name not in mine],
        "of another shape": [f"{name} {state[name].shape} for {mine[name].shape}" for name in mine
                             if name in state and state[name].shape != mine[name].shape],
        "no floating-point numbers": [f"{name} {state[name].dtype}" for name in mine
                                      if name in state and state[name].dtype.kind != "f"],
    }  # fmt: skip
    told = [f"{what}: {_some(names)}" for what, names in faults.items() if names]
    if told:
        raise ValueError(f"{where}: these are not the weights of {type(model).__name__}: {'; '.join(told)}")
    written: set[int] = set()
    for name, array in mine.items():
        value = state.pop(name)
        if id(array) not in written:  # a shared one is written once
            array[...] = value() if callable(value) else value
            written.add(id(array))


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
