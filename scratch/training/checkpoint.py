"""One file with everything a run needs to go on: arrays as tensors, the rest as JSON in the metadata.

    model.0.weight … optimizer.state.0.sum … best.0.weight …      arrays
    {"step": 400, "random": …, "batches": …, "settings": …}           JSON
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scratch import random
from scratch.module import Module
from scratch.weights import load_file, load_metadata, save_file

FORMAT = "scratch checkpoint 1"


def save(path: Path, tracked: Mapping[str, Any], facts: Mapping[str, Any], best: Mapping[str, np.ndarray]) -> None:
    """Write the checkpoint; the one before stays until the new one is complete and on disk."""
    tensors = {f"best.{name}": array for name, array in best.items()}
    states = {}
    for name, part in tracked.items():
        arrays, states[name] = _parts_of(part)
        tensors |= {f"{name}.{key}": array for key, array in arrays.items()}
    facts = {**facts, "states": states, "random": random.get_state()}
    save_file(tensors, path, {"format": FORMAT, "facts": json.dumps(facts)})


def load(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(facts, arrays). Raises ValueError for a file that is no checkpoint, FileNotFoundError for a missing one."""
    metadata = load_metadata(path)
    if metadata.get("format") != FORMAT:
        came = metadata.get("format", "no format")
        raise ValueError(f"{path}: expected a checkpoint ({FORMAT!r}), found a file with {came!r}")
    try:
        facts = json.loads(metadata["facts"])
        facts["step"], facts["states"], facts["random"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the checkpoint's facts are damaged ({error})") from error
    return facts, load_file(path)


def restore(tracked: Mapping[str, Any], facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Put the saved state into the objects and the default random generator."""
    for name, part in tracked.items():
        prefix = f"{name}."
        mine = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        state = facts["states"].get(name)
        if isinstance(part, Module):
            part.load_state_dict(mine)
        elif hasattr(part, "load_state_arrays"):
            part.load_settings(state)
            part.load_state_arrays(mine)
        else:
            part.load_state_dict(state)
    random.set_state(facts["random"])


def _parts_of(part: Any) -> tuple[dict[str, np.ndarray], Any]:
    """(arrays, JSON) of something with a state: a module, an optimiser, a place in the data."""
    if isinstance(part, Module):
        return part.state_dict(), None
    if hasattr(part, "state_arrays"):
        return part.state_arrays(), part.settings()
    return {}, part.state_dict()
