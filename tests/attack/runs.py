"""The files of a run and of the package: checkpoint, settings, log, weights that ship, expected results."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from scratch import Tensor
from scratch.data import Batches
from scratch.layers import Linear
from scratch.models.mlp import train as mlp
from scratch.optim import AdamW
from scratch.training import Run, checkpoint, expectations
from scratch.training.folder import CHECKPOINT, LOG, SETTINGS, read_log, read_settings
from scratch.training.settings import from_json, to_json
from scratch.training.ship import shipped
from scratch.weights import load_metadata, save_file
from tests.attack import bombs
from tests.attack.damage import of_bytes, of_json, of_lines, of_safetensors
from tests.attack.readers import Reader

WEIGHTS, EXPECTED = "weights.safetensors", "expected.json"
FOUR = {"layers.0.bias": np.arange(4, dtype=np.float16)}


def parts() -> dict[str, Any]:
    """What a small run tracks: 9 weights, their optimiser, and a place in 6 rows."""
    model = Linear(2, 3)
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    return {"model": model, "optimizer": AdamW(model.parameters()), "batches": Batches(rows, batch_size=4)}


def make(folder: Path) -> None:
    """The folder of a run after 5 steps, and of a line that its checkpoint does not know."""
    with redirect_stdout(io.StringIO()):
        run, tracked = Run.create("mlp", mlp.Settings(), folder=folder), parts()
        run.track(**tracked)
        for step in run.steps(5, save_every=5):
            (x,) = next(tracked["batches"])
            (tracked["model"](Tensor(x)) ** 2).mean().backward()
            tracked["optimizer"].step()
            run.log(step, 1 / (step + 1))
            run.evaluated(step, tracked["model"], 2 / (step + 1))
        run.log(5, 0.1)
        run.close()


def as_bytes(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in arrays.items()}


def take_up(folder: Path) -> tuple[tuple[Any, dict[str, bytes]], bytes]:
    """(what the checkpoint held, the log that was left) of a run that is taken up."""
    run = Run.resume(folder)
    try:
        run.track(**parts())
    finally:
        run.close()
    facts, arrays = run._saved
    return (facts, as_bytes(arrays)), (folder / LOG).read_bytes()


def taken_up_right(value: Any, content: bytes, sound: Path) -> bool:
    """Bit for bit what was saved, with the log as it was at the checkpoint."""
    facts, arrays = checkpoint.load(sound / CHECKPOINT)
    saved, log = value
    return saved == (facts, as_bytes(arrays)) and log == (sound / LOG).read_bytes()[: facts["log_bytes"]]


def take_settings(folder: Path) -> tuple[Any, dict[str, Any]]:
    document = read_settings(folder)
    try:
        return from_json(mlp.Settings, document["settings"]), document
    except ValueError as error:
        raise ValueError(f"{folder / SETTINGS}: {error}") from None


def settings_right(value: Any, content: bytes, sound: Path) -> bool:
    """Text for people to read and to change, without a sum: what is read is what stands there, and fits the model."""
    settings, document = value
    fields = to_json(mlp.Settings()) | document["settings"]
    return document == document | json.loads(content) and to_json(settings) == fields


def log_right(value: Any, content: bytes, sound: Path) -> bool:
    """The lines up to the first that is none."""
    lines = content.split(b"\n")
    return len(value) <= len(lines) and all(row == json.loads(line) for row, line in zip(value, lines, strict=False))


def make_shipped(folder: Path) -> None:
    card = load_metadata(Path(mlp.__file__).with_name(WEIGHTS))
    save_file(FOUR, folder / WEIGHTS, card | {"sha256": checkpoint.sha256(FOUR)})


def shipped_right(value: Any, content: bytes, sound: Path) -> bool:
    settings, arrays = value
    return isinstance(settings, mlp.Settings) and as_bytes(arrays) == as_bytes(FOUR)


def copy_expected(folder: Path) -> None:
    (folder / EXPECTED).write_bytes(Path(mlp.__file__).with_name(EXPECTED).read_bytes())


def load_expected(folder: Path) -> Any:
    path = folder / EXPECTED
    try:
        return expectations.parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}") from None


READERS = (
    Reader("checkpoint", CHECKPOINT, make, take_up, taken_up_right, (of_bytes, of_bytes, of_safetensors)),
    Reader("settings.json", SETTINGS, make, take_settings, settings_right, (of_bytes, of_json),
           lambda sound: bombs.of_json() | bombs.of_fields(sound)),
    Reader("log.jsonl", LOG, make, take_up, taken_up_right, (of_bytes, of_lines)),
    Reader("log.jsonl, its rows", LOG, make, read_log, log_right, (of_bytes, of_lines)),
    Reader("shipped weights", WEIGHTS, make_shipped, lambda folder: shipped(folder / WEIGHTS, "mlp", mlp.Settings),
           shipped_right, (of_bytes, of_safetensors)),
    Reader("expected.json", EXPECTED, copy_expected, load_expected,
           lambda value, content, sound: value == json.loads(content),
           (of_bytes, of_json), lambda sound: bombs.of_json()),
)  # fmt: skip
