"""One file with everything a run needs to go on: arrays as tensors, the rest as JSON in the metadata.

    model.0.weight … optimizer.state.0.sum … best.0.weight …      arrays
    {"step": 400, "random": …, "batches": …, "settings": …}           JSON

A SHA-256 over all of it, in the metadata too, vouches for every bit: a run goes on exactly as it was, or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scratch import random
from scratch.messages import shown
from scratch.module import Module
from scratch.weights import load_file, load_metadata, save_file

FORMAT = "scratch checkpoint 1"
NUMBER = (int, float)
FACTS: dict[str, tuple[type, ...]] = {
    "step": (int,), "seconds": NUMBER, "best": (*NUMBER, type(None)), "log_bytes": (int,), "log_crc32": (int,),
    "settings": (dict,), "states": (dict,), "random": (dict,),
}  # fmt: skip


def save(path: Path, tracked: Mapping[str, Any], facts: Mapping[str, Any], best: Mapping[str, np.ndarray]) -> None:
    """Write the checkpoint; the one before stays until the new one is complete and on disk."""
    tensors = {f"best.{name}": array for name, array in best.items()}
    states = {}
    for name, part in tracked.items():
        arrays, states[name] = _parts_of(part)
        tensors |= {f"{name}.{key}": array for key, array in arrays.items()}
    write(path, tensors, {**facts, "states": states, "random": random.get_state()})


def write(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write what `load` gives."""
    text = json.dumps(facts)
    save_file(arrays, path, {"format": FORMAT, "facts": text, "sha256": sha256(arrays, text)})


def load(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(facts, arrays). Raises ValueError for a file that is no checkpoint or damaged, FileNotFoundError without one."""
    metadata = load_metadata(path)
    if metadata.get("format") != FORMAT:
        came = metadata.get("format", "no format")
        raise ValueError(f"{path}: expected a checkpoint ({FORMAT!r}), found a file with {shown(came)}")
    arrays, text = load_file(path), metadata.get("facts", "")
    if "sha256" not in metadata:
        raise ValueError(f"{path}: expected a checkpoint with the SHA-256 of its contents, found none")
    if metadata["sha256"] != sha256(arrays, text):
        raise ValueError(f"{path}: the checkpoint is damaged: the SHA-256 of its contents is not the one saved")
    try:
        facts = json.loads(text)
        wrong = [name for name, kinds in FACTS.items() if type(facts[name]) not in kinds]
        wrong += [name for name in ("step", "log_bytes") if not wrong and facts[name] < 0]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the checkpoint's facts are damaged ({shown(error)})") from error
    if wrong:
        raise ValueError(f"{path}: the checkpoint's facts are damaged ({wrong[0]} is {shown(facts[wrong[0]])})")
    return facts, arrays


def sha256(arrays: Mapping[str, np.ndarray], text: str = "") -> str:
    """Of names, types, shapes and numbers of all arrays, whatever their order, and of a text."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


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
