"""2,000 randomly mutated files of a run and of the package: each gives a clear error or is read right.

    1,000   checkpoints, taken up by Run.resume
      300   settings.json, by Run.resume
      300   log.jsonl, by Run.resume
      200   bundled data: the digits' archive, 100; Shakespeare's packed texts, 100
      200   shipped weights, with their cards

Elsewhere 2,500 more: idx files, packed or not, and sets of them, 500 (tests/test_fashion.py); weight files, safetensors
600, PyTorch's archives and the pickles in them 900, PyTorch's files from before 1.6 500 (tests/test_weights.py). And of
published weights 3,200: GGUF 1,500, indexes of shards 300 (tests/test_published_files.py), configs and headers 800
(tests/test_pretrained.py), tokenizers 600 (tests/test_tokenizers.py).
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scratch import Tensor
from scratch.data import Batches, bundled, load_digits, load_shakespeare
from scratch.data.bundled import SHA256
from scratch.layers import Linear
from scratch.models.mlp import train as mlp
from scratch.optim import AdamW
from scratch.training import Run, checkpoint, command
from scratch.training.folder import CHECKPOINT, LOG, SETTINGS, read_log
from scratch.training.settings import to_json
from scratch.training.ship import shipped
from scratch.weights import load_file, load_metadata, save_file
from tests.damage import mutated

FILES = Path(bundled.__file__).parent / "files"


def parts() -> dict[str, Any]:
    """What a small run tracks: 9 weights, their optimiser, and a place in 6 rows."""
    model = Linear(2, 3)
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    return {"model": model, "optimizer": AdamW(model.parameters()), "batches": Batches(rows, batch_size=4)}


@pytest.fixture
def folder(tmp_path):
    """The folder of a run after 5 steps, and of a line that its checkpoint does not know."""
    run, tracked = Run.create("mlp", mlp.Settings(), folder=tmp_path / "run"), parts()
    run.track(**tracked)
    for step in run.steps(5, save_every=5):
        (x,) = next(tracked["batches"])
        (tracked["model"](Tensor(x)) ** 2).mean().backward()
        tracked["optimizer"].step()
        run.log(step, 1 / (step + 1))
        run.evaluated(step, tracked["model"], 2 / (step + 1))
    run.log(5, 0.1)
    run.close()
    return run.folder


def taken_up(folder: Path) -> Run:
    run = Run.resume(folder)
    try:
        run.track(**parts())
    finally:
        run.close()
    return run


def refused(file: Path, count: int, read_right: Callable[[bytes], None]) -> int:
    """How many of so many mutations are refused, by name and with nothing changed; the others must be read right."""
    good, rng, found = file.read_bytes(), random.Random(count), 0
    read_right(good)
    file.write_bytes(good)
    beside = [path for path in file.parent.iterdir() if path.suffix in (".json", ".jsonl", ".safetensors")]
    for _ in range(count):
        file.write_bytes(mutated(good, rng))
        before = [path.read_bytes() for path in beside]
        try:
            read_right(file.read_bytes())
        except ValueError as error:
            found += 1
            assert file.name in str(error) and len(str(error)) < 2000
            assert [path.read_bytes() for path in beside] == before
    file.write_bytes(good)
    return found


def test_checkpoints(folder):
    """What is taken up is what was saved, bit for bit: the SHA-256 covers weights, optimiser, place and generator."""
    expected_facts, expected = checkpoint.load(folder / CHECKPOINT)

    def read_right(damaged):
        run = taken_up(folder)
        facts, arrays = run._saved
        assert facts == expected_facts and run.done == 5 and arrays.keys() == expected.keys()
        assert all(arrays[name].tobytes() == value.tobytes() for name, value in expected.items())

    assert 950 < refused(folder / CHECKPOINT, 1000, read_right) <= 1000


def test_a_checkpoint_without_a_sum_is_refused(folder):
    file = folder / CHECKPOINT
    metadata = load_metadata(file)
    del metadata["sha256"]
    save_file(load_file(file), file, metadata)
    with pytest.raises(ValueError, match="safetensors: expected .* with the SHA-256 of its contents, found none"):
        taken_up(folder)


def test_settings(folder, monkeypatch):
    """Text for people to read and to change, without a sum: what is read is what stands there, and fits the model."""

    def read_right(damaged):
        assert command.resume(folder) == 0
        settings, document = took_up[-1]
        assert document == json.loads(damaged)
        assert to_json(settings) == to_json(mlp.Settings()) | document["settings"]

    took_up: list[Any] = []
    monkeypatch.setattr(command, "execute", lambda module, settings, run: (
        run.close() or took_up.append((settings, run.document)) or 0
    ))  # fmt: skip
    assert 150 < refused(folder / SETTINGS, 300, read_right) < 300


def test_logs(folder):
    """A run that goes on has the log that it had at its checkpoint, whatever came behind it."""
    good = (folder / LOG).read_bytes()
    size = checkpoint.load(folder / CHECKPOINT)[0]["log_bytes"]
    assert size < len(good) and len(read_log(folder)) == 11

    def read_right(damaged):
        taken_up(folder)
        assert (folder / LOG).read_bytes() == good[:size]

    assert 200 < refused(folder / LOG, 300, read_right) < 300


def test_bundled_data(tmp_path):
    for name in SHA256:
        shutil.copy(FILES / name, tmp_path)
    digits, play = load_digits(), load_shakespeare()

    def digits_right(damaged):
        for part, expected in zip(load_digits(folder=tmp_path), digits, strict=True):
            np.testing.assert_array_equal(part.inputs, expected.inputs)

    def play_right(damaged):
        assert load_shakespeare(folder=tmp_path) == play

    assert 90 < refused(tmp_path / "digits.npz", 100, digits_right) <= 100
    assert 90 < refused(tmp_path / "shakespeare-validation.txt.gz", 100, play_right) <= 100


def test_shipped_weights(tmp_path):
    """A card as the perceptron's, beside four numbers, for which its sum vouches; the settings are as they stand."""
    card = load_metadata(Path(mlp.__file__).with_name("weights.safetensors"))
    weights = {"layers.0.bias": np.arange(4, dtype=np.float16)}
    file = tmp_path / "weights.safetensors"
    save_file(weights, file, card | {"sha256": checkpoint.sha256(weights)})

    def read_right(damaged):
        settings, arrays = shipped(file, "mlp", mlp.Settings)
        assert isinstance(settings, mlp.Settings) and arrays.keys() == weights.keys()
        assert arrays["layers.0.bias"].tobytes() == weights["layers.0.bias"].tobytes()

    assert 100 < refused(file, 200, read_right) < 200
    save_file(weights, file, card)
    with pytest.raises(ValueError, match="the weights are damaged: their SHA-256"):
        shipped(file, "mlp", mlp.Settings)
