"""Trained weights: the best of a run, and those that ship with a model, float16, with a card in the file's metadata.

`python -m scratch.training.ship runs/mlp-1`
"""

from __future__ import annotations

import argparse
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from scratch.messages import shown
from scratch.training import checkpoint
from scratch.training.folder import CHECKPOINT, read_settings
from scratch.training.progress import say
from scratch.training.report import RESULTS, in_words
from scratch.training.run import resuming
from scratch.training.settings import from_json
from scratch.weights import load_file, load_metadata, save_file

LIMIT = 1_000_000


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("run", type=Path)
    p.add_argument("--name", default="weights.safetensors", help="for a second file: weights_PRESET.safetensors")
    a = p.parse_args()
    model = read_settings(a.run)["model"]
    ship(a.run, Path(str(resources.files(f"scratch.models.{model}") / a.name)))


def ship(folder: Path, target: Path) -> None:
    """Write the best weights of the run in `folder` to `target`. Raises ValueError if they are too large or missing."""
    document = read_settings(folder)
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    weights = {name: half(array) for name, array in best_weights(folder).items()}
    size = sum(array.nbytes for array in weights.values())
    if not weights or size > LIMIT:
        raise ValueError(f"{folder}: expected weights of at most {LIMIT:,} bytes, found {size:,}")
    model, preset = document["model"], document["preset"]
    card = {
        "model": model,
        "settings": json.dumps(document["settings"]),
        "made by": f"scratch train {model} --preset {preset} --seed {document['settings']['seed']}",
        "figures": in_words(results["figures"]),
        "machine": document["machine"],
        "licence": "MIT; the data have their own, see scratch/data/files/README.md",
        "sha256": checkpoint.sha256(weights),
    }
    save_file(weights, target, card)
    say(f"{target.name}: {size:,} bytes, {card['figures']}")


def best_of(folder: Path, model: str, kind: type) -> tuple[Any, dict[str, np.ndarray]]:
    """(settings as a `kind`, the weights with the lowest validation loss) of a run.

    Raises ValueError for a run of another model, and for one that was stopped before its first evaluation.
    """
    document = read_settings(folder)
    if document["model"] != model:
        raise ValueError(f"{folder} is a run of {shown(document['model'])}, expected one of {model}")
    weights = best_weights(folder)
    if not weights:
        raise ValueError(f"{folder} was stopped before its first evaluation; go on with: {resuming(folder)}")
    return from_json(kind, document["settings"]), weights


def best_weights(folder: Path) -> dict[str, np.ndarray]:
    """Those with the lowest validation loss so far; none before the first evaluation."""
    file = folder / CHECKPOINT
    arrays = checkpoint.load(file)[1] if file.exists() else {}
    return {name.removeprefix("best."): array for name, array in arrays.items() if name.startswith("best.")}


def shipped(path: Path, model: str, kind: type) -> tuple[Any, dict[str, np.ndarray]]:
    """(settings as a `kind`, arrays) of a file that `ship` made.

    Raises FileNotFoundError, and ValueError for weights of another model, of no known settings, or with damage.
    """
    card = load_metadata(path)
    if card.get("model") != model or "settings" not in card:
        raise ValueError(f"{path}: expected weights of {model}, found {shown(card.get('model', 'no model name'))!r}")
    try:
        settings = from_json(kind, json.loads(card["settings"]))
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected settings of {model} on the card, found other text ({error})") from error
    arrays = load_file(path)
    if card.get("sha256") != checkpoint.sha256(arrays):
        raise ValueError(f"{path}: the weights are damaged: their SHA-256 is not the one on the card")
    return settings, arrays


def half(array: np.ndarray) -> np.ndarray:
    """Floating-point numbers in 16 bits; counters as they are."""
    return array.astype(np.float16) if array.dtype.kind == "f" else array


if __name__ == "__main__":
    main()
