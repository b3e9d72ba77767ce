"""The content of a model's expected.json, checked before a training relies on it.

    {"default": {"settings": {"lr": 0.002, …}, "seeds": [0, 1, 2], "bands": {"final loss": [0.1, 0.2], …},
                 "result": "test accuracy 97.6 % …", "minutes": 0.5, "memory_mb": 300, "machine": "2 CPU cores", …}, …}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scratch.messages import shown


def parse(text: str, source: str) -> dict[str, Any]:
    """The presets' parts by name. Raises ValueError naming `source`, the preset and the field that is not as it
    should be."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: expected JSON, found other text ({error})") from error
    check(content, source)
    return content


def check(content: Any, source: str) -> None:
    """Raises ValueError as `parse` does."""
    if not isinstance(content, dict):
        raise ValueError(f"{source}: expected an object with a part for each preset, found {shown(content)}")
    for preset, part in content.items():
        if not isinstance(part, dict):
            raise ValueError(f"{source}: expected {shown(preset)} to be an object, found {shown(part)}")
        check_part(part, f"{source}: {shown(preset)}")


def check_part(part: Mapping[str, Any], source: str, fields: Iterable[str] | None = None) -> None:
    """Raises ValueError naming `source` and the field of a preset's part that is missing or of another kind."""
    for field in FIELDS if fields is None else fields:
        kind, fits = FIELDS[field]
        if field not in part:
            raise ValueError(f"{source}: expected {kind} as {field}, found no such field")
        if not fits(part[field]):
            raise ValueError(f"{source}: expected {kind} as {field}, found {shown(part[field])}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _is_band(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(x) in (int, float) for x in value)


FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "settings": ("an object", lambda value: isinstance(value, dict)),
    "seeds": ("a list of whole numbers", lambda value: isinstance(value, list) and all(type(x) is int for x in value)),
    "bands": ("an object of pairs [low, high]",
              lambda value: isinstance(value, dict) and all(map(_is_band, value.values()))),
    "result": ("a text", lambda value: isinstance(value, str)),
    "minutes": ("a number of at least 0", _is_number),
    "memory_mb": ("a number of at least 0", _is_number),
    "machine": ("a text", lambda value: isinstance(value, str)),
}  # fmt: skip
