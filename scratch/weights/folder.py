"""Folders of published weights: a config.json beside one weight file, or beside an index of several.

    config.json                          what kind of network, and its sizes
    model.safetensors                    all arrays; or, since files of many gigabytes are hard to move,
    model.safetensors.index.json         {"weight_map": {"name of an array": "model-00001-of-00002.safetensors", ...}}
    model-00001-of-00002.safetensors     ... the shards
    pytorch_model.bin                    an older folder's arrays, a pickle that is read without obeying it
    pytorch_model.bin.index.json         the same index for shards of that kind

An index is data from a stranger: it may name only plain files that lie beside it, and every array must be in the
shard that it is said to be in.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from scratch.messages import shown
from scratch.weights.files import reading, write_text
from scratch.weights.pth_file import load_pth
from scratch.weights.safetensors_file import load_file, save_file

CONFIG = "config.json"
READERS = {".safetensors": load_file, ".bin": load_pth}
WHOLE = ("model.safetensors", "pytorch_model.bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
MAX_JSON = 100_000_000  # bytes; a tokenizer of 250,000 tokens has about 10 million
MAX_SHARDS = 10_000


def load_folder(folder: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a folder by name, whichever of the layouts above it has; safetensors are preferred.

    Raises FileNotFoundError for a folder without weights, ValueError naming the file and the fault for an index or a
    file that is damaged, and for a shard that is missing or holds other arrays than the index says.
    """
    folder = Path(folder)
    for whole, index in zip(WHOLE, INDEXES, strict=True):
        if (folder / whole).is_file():
            return READERS[Path(whole).suffix](folder / whole)
        if (folder / index).is_file():
            return _load_shards(folder / index)
    raise FileNotFoundError(f"{folder}: expected one of {', '.join((*WHOLE, *INDEXES))} in it, found none")


def save_folder(folder: str | os.PathLike, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write config.json and model.safetensors into `folder`, which is made if it is not there; `load_folder` and other
    libraries read them. Raises ValueError for what the formats cannot hold."""
    folder = Path(folder)
    text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    write_text(folder / CONFIG, text)


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """The object in a JSON file. Raises FileNotFoundError, and ValueError naming the file for anything else than one
    object in UTF-8."""
    with reading(path, "a JSON object") as file:
        if os.fstat(file.fileno()).st_size > MAX_JSON:
            raise ValueError(f"it has {os.fstat(file.fileno()).st_size} bytes, more than {MAX_JSON}")
        try:
            value = json.loads(file.read().decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"it is no UTF-8: {error.reason} at byte {error.start}") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is no JSON: {str(error)[:200]}") from None
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__}")
        return value


def _load_shards(index: Path) -> dict[str, np.ndarray]:
    wanted = _weight_map(index)
    names: dict[str, list[str]] = {}
    for name, shard in wanted.items():
        names.setdefault(shard, []).append(name)
    for shard in names:
        if not (index.parent / shard).is_file():
            raise ValueError(f"{index}: it names the shard {shown(shard)}, which is not there")
    found: dict[str, np.ndarray] = {}
    for shard in sorted(names):
        arrays = READERS[Path(shard).suffix](index.parent / shard)
        lacking = [name for name in names[shard] if name not in arrays]
        if lacking:
            raise ValueError(f"{index}: {shown(shard)} should hold {_some(lacking)}, and does not")
        foreign = [name for name in arrays if wanted.get(name) != shard]
        if foreign:
            raise ValueError(f"{index}: {shown(shard)} holds {_some(foreign)}, of which the index does not know there")
        found |= arrays
    return {name: found[name] for name in wanted}


def _weight_map(index: Path) -> dict[str, str]:
    """{array: shard} of an index, every shard a plain name of a weight file beside it."""
    wanted = read_json(index).get("weight_map")
    if not isinstance(wanted, dict) or not wanted:
        raise ValueError(f"{index}: expected weight_map, an object of names, got {shown(wanted)}")
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    for shard in wanted.values():
        plain = isinstance(shard, str) and len(shard) < 256 and shard.isprintable() and not set(shard) & set("/\\:")
        if not plain or not shard.endswith(suffix) or shard.startswith("."):
            raise ValueError(f"{index}: expected names of {suffix} files beside it, got {shown(shard)}")
    if len(set(wanted.values())) > MAX_SHARDS:
        raise ValueError(f"{index}: it names {len(set(wanted.values()))} shards, more than {MAX_SHARDS}")
    return wanted


def _some(names: list[str]) -> str:
    some = ", ".join(map(shown, names[:3]))
    return some + (f" and {len(names) - 3} more" if len(names) > 3 else "")
