"""What all networks with published weights share: asking a config.json, renaming arrays, and filling a model.

A config.json describes a whole family of networks, of which a model here is one or a few. So every field that would
change the result is either read or compared with the values for which the model is right; a field of another value is
refused by name. A file that is nearly right would give numbers that are nearly right, which nobody notices.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scratch.initializers import undrawn
from scratch.messages import shown
from scratch.module import Module
from scratch.weights.folder import CONFIG, read_json

Arrays = dict[str, np.ndarray]
M = TypeVar("M", bound=Module)
MAX_SIZE = 10**8  # no vocabulary, width or depth is larger
SHOWN = 6  # names in a message
DRAWS, SPARE = 8, 2**20  # how often a constructor may draw each number, and numbers that a file need not have

# What related architectures have and none of the models here, with the values that mean: not present. A config of one
# of our architectures that has such a field was made by other code, and its network computes something else.
ABSENT: dict[str, Sequence[Any]] = {
    **dict.fromkeys(("attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling",
                     "logit_scale", "partial_rotary_factor", "rotary_pct"), (1,)),
    **dict.fromkeys(("qk_norm", "use_qk_norm", "qk_layernorm", "use_sliding_window", "rope_interleaved", "alibi",
                     "parallel_attn", "use_bidirectional_attention"), (False,)),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping", "sliding_window", "attention_window",
                     "attention_chunk_size", "query_pre_attn_scalar", "clip_qkv", "no_rope_layers"), (False, 0)),
    "pruned_heads": ({},), "quantization_config": ({},), "is_causal": (True,),
}  # fmt: skip


class Config:
    """The fields of a config.json, asked for by name; `where` is the file, for messages, and `names` what fields are
    called there, if otherwise."""

    def __init__(self, fields: dict[str, Any], where: str, names: Mapping[str, str] | None = None):
        self.fields, self.where, self.names = fields, where, names or {}

    @classmethod
    def of(cls, folder: Path) -> Config:
        return cls(read_json(folder / CONFIG), str(folder / CONFIG))

    def kind(self) -> str:
        """The architecture: the first of `architectures`, else model_type, else ""."""
        named = self.fields.get("architectures")
        if named is not None and not (isinstance(named, list) and all(isinstance(each, str) for each in named)):
            raise self.fault("architectures", named, "a list of names")
        return named[0] if named else self.text("model_type", "")

    def fault(self, name: str, value: Any, expected: str) -> ValueError:
        return ValueError(f"{self.where}: expected {self.names.get(name, name)} to be {expected}, got {told(value)}")

    def only(self, model: str, **known: Sequence[Any]) -> None:
        """Refuse fields of other values than the known ones, and what none of the models has (ABSENT); a field that is
        absent or null has the first."""
        for name, values in (ABSENT | known).items():
            value = self.fields.get(name)
            if value is not None and not any(same(value, each) for each in values):
                have = " or ".join(repr(each) for each in values) or "none"
                raise ValueError(f"{self.where}: {self.names.get(name, name)} is {told(value)}, {model} has {have}")

    def text(self, name: str, default: str) -> str:
        value = self.fields.get(name)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self.fault(name, value, "a name")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.fields.get(name)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.fault(name, value, "true or false")
        return value

    def count(self, name: str, default: int | None = None) -> int:
        """A size, from 1 up. Raises ValueError if it is missing and there is no default."""
        value = self.fields.get(name)
        value = default if value is None else value
        if type(value) is not int or not 1 <= value <= MAX_SIZE:
            raise self.fault(name, value, "a size")
        return value

    def token(self, name: str, default: int, vocab_size: int) -> int:
        """The number of a token that the vocabulary has."""
        value = self.fields.get(name)
        value = default if value is None else value
        if type(value) is not int or not 0 <= value < vocab_size:
            raise self.fault(name, value, f"a token from 0 to {vocab_size - 1}")
        return value

    def number(self, name: str, default: float, low: float = 0.0) -> float:
        """A finite number from `low` up."""
        value = self.fields.get(name)
        value = default if value is None else value
        if type(value) not in (int, float) or not low <= value <= sys.float_info.max:
            raise self.fault(name, value, f"a number from {low:g} up")
        return float(value)


def told(value: Any) -> str:
    """A value as a message shows it: short, with quotes around a string."""
    return f"'{shown(value)}'" if isinstance(value, str) else shown(value)


def same(value: Any, known: Any) -> bool:
    """Whether they are equal, where 1 is 1.0 but neither is true."""
    return value == known and isinstance(value, bool) == isinstance(known, bool)


def build(config: Config, state: Mapping[str, Any], make: Callable[[], M], **parts: int) -> M:
    """A model without weights, in evaluation mode. What its constructor refuses is the file's fault.

    A few bytes of config.json can describe a network of any size, and building it would take memory and time without
    end. So nothing is built that the arrays cannot fill: there is an array for each of the `parts` (n_layer=12), and
    the network's numbers are at most those of the arrays, drawn a few times.
    """
    for name, count in parts.items():
        if count > len(state):
            raise ValueError(f"{config.where}: {config.names.get(name, name)} is {count}, and the weights are "
                             f"{len(state)} arrays")  # fmt: skip
    numbers = sum(math.prod(array.shape) for array in state.values())
    try:
        with undrawn(DRAWS * numbers + SPARE):
            model = make()
    except ValueError as error:
        raise ValueError(f"{config.where}: {error}") from None
    model.eval()
    return model


def renamed(
    state: dict[str, Any], rules: Iterable[tuple[str, str]], unused: str | None = None, where: Any = "the weights"
) -> dict[str, Any]:
    """The arrays under other names: for each, all rules (pattern, replacement) one after the other. What `unused`
    matches, after that, is left out. Names that no rule knows stay as they are.

    Raises ValueError where two arrays get the same name: which of them counts, the file does not say.
    """
    compiled = [(re.compile(old), new) for old, new in rules]
    found = {}
    for name, array in state.items():
        for old, new in compiled:
            name = old.sub(new, name)
        if unused is not None and re.search(unused, name):
            continue
        if name in found:
            raise ValueError(f"{where}: two of its arrays are both {shown(name)} here")
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
    found = [f"{what}: {_some(names)}" for what, names in faults.items() if names]
    if found:
        raise ValueError(f"{where}: these are not the weights of {type(model).__name__}: {'; '.join(found)}")
    written: set[int] = set()
    for name, array in mine.items():
        value = state.pop(name)
        if id(array) not in written:  # a shared one is written once
            array[...] = value() if callable(value) else value
            written.add(id(array))


def _some(names: list[str]) -> str:
    some = ", ".join(map(shown, names[:SHOWN]))
    return some + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
