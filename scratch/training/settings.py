"""A run's settings: a dataclass in `train.py`, a preset on top of its defaults, JSON in the run folder."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from scratch.messages import quoted, shown
from scratch.parallel import MOST_SHARDS

HIGHEST = {"seed": 2**63 - 1, "shards": MOST_SHARDS}
HIGHEST_SIZE = 2**31 - 1
MOST = 5  # problems that an error tells


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean X?' for a mistyped name, else ' Known: …'."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]}?" if close else f" Known: {', '.join(known)}."


def with_preset(kind: type, presets: Mapping[str, Mapping[str, Any]], name: str) -> Any:
    """The dataclass `kind` with the values of preset `name`. Raises ValueError for an unknown preset."""
    if name not in presets:
        raise ValueError(f"there is no preset {name!r}.{nearest(name, presets)}")
    return kind(**presets[name])


def require_possible(settings: Any) -> None:
    """Raises ValueError for a number that no run can have, whatever the model: an impossible seed, too many shards, a
    size beyond what an index of an array can be, or a number that is not finite (but `clip`: inf clips nothing)."""
    for name, value in dataclasses.asdict(settings).items():
        high = HIGHEST.get(name, HIGHEST_SIZE)
        numbers = value if isinstance(value, (tuple, list)) else (value,)
        if any(isinstance(number, int) and number > high for number in numbers):
            raise ValueError(f"{name} must be at most {high}, got {shown(value)}")
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers) and name != "clip":
            raise ValueError(f"{name} must be a finite number, got {shown(value)}")


def to_json(settings: Any) -> dict[str, Any]:
    """The settings as plain JSON values (tuples become lists)."""
    plain = dataclasses.asdict(settings)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def from_json(kind: type, values: Mapping[str, Any]) -> Any:
    """The dataclass `kind` from saved values. Raises ValueError naming every field that is unknown or of wrong type."""
    hints = typing.get_type_hints(kind)
    problems, checked = [], {}
    for name, value in values.items():
        if name not in hints:
            problems.append(f"{shown(name)} is no setting of this model.{nearest(name, hints)}")
            continue
        try:
            checked[name] = _checked(value, hints[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        more = f"; and {len(problems) - MOST} more" if len(problems) > MOST else ""
        raise ValueError("; ".join(problems[:MOST]) + more)
    settings = kind(**checked)
    require_possible(settings)
    return settings


def _checked(value: Any, hint: Any) -> Any:
    """`value` as the annotated type; JSON has neither tuples nor a difference between 1 and 1.0."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in options:
            try:
                return _checked(value, option)
            except ValueError:
                continue
    elif origin is typing.Literal:
        if value in options:
            return value
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(_checked(item, options[0]) for item in value)
    elif hint is type(None):
        if value is None:
            return value
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            with suppress(OverflowError):  # JSON may hold a whole number of 400 digits
                return float(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    name = getattr(hint, "__name__", str(hint)) if not options else str(hint).replace("typing.", "")
    raise ValueError(f"expected {name}, got {quoted(value)}")
