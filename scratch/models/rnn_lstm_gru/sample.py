"""Let a trained recurrent network go on with a text, rewrite a date, or answer test examples of its task."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.data import Pairs
from scratch.models.rnn_lstm_gru import generate
from scratch.models.rnn_lstm_gru.inside import alignment
from scratch.models.rnn_lstm_gru.tasks import IGNORED, Sequences, Text
from scratch.models.rnn_lstm_gru.train import Settings, Task, load_task
from scratch.models.rnn_lstm_gru.train import build as make
from scratch.tensor import no_grad
from scratch.training.progress import say
from scratch.training.ship import best_of, shipped


def load_run(folder: Path) -> tuple[Any, Task]:
    """The best model of a run. Raises ValueError for a run of another model or without a checkpoint."""
    return build(*best_of(folder, "rnn_lstm_gru", Settings))


def load_weights(path: Path | None = None) -> tuple[Any, Task]:
    """A model from a weight file whose metadata hold its settings; without a path, the one that ships."""
    here = Path(str(resources.files("scratch.models.rnn_lstm_gru") / "weights.safetensors"))
    return build(*shipped(path or here, "rnn_lstm_gru", Settings))


def build(settings: Settings, weights: dict[str, np.ndarray]) -> tuple[Any, Task]:
    task = load_task(settings)
    model = make(settings, task)
    model.load_state_dict(weights)
    model.eval()
    return model, task


def main(arguments: Sequence[str]) -> None:
    """`scratch sample rnn_lstm_gru`"""
    p = argparse.ArgumentParser(prog="scratch sample rnn_lstm_gru", description=__doc__)
    p.add_argument("text", nargs="*", help="what to go on with, or to rewrite (default: ROMEO: or test examples)")
    p.add_argument("--run", type=Path, help="run folder whose model to use (default: the weights that ship)")
    p.add_argument("--weights", type=Path, help="weight file to use instead")
    p.add_argument("--count", type=int, help="characters to write (default: 500), or test examples (default: 4)")
    p.add_argument("--temperature", type=float, default=0.7, help="below 1 more likely, 0 likeliest (default: 0.7)")
    p.add_argument("--seed", type=int, default=0, help="where chance begins (default: 0)")
    a = p.parse_args(list(arguments))
    if a.run and a.weights:
        raise ValueError("give --run or --weights, not both")
    if a.seed < 0 or (a.count is not None and a.count < 1):
        raise ValueError(f"--seed expected at least 0 and --count at least 1, got {a.seed} and {a.count}")
    model, task = load_run(a.run) if a.run else load_weights(a.weights)
    rng = np.random.default_rng(a.seed)
    if isinstance(task, Text):
        write(model, task, " ".join(a.text) if a.text else "ROMEO:\n", a.count or 500, a.temperature, rng)
    elif isinstance(task, Pairs):
        rewrite(model, task, list(a.text), a.count or 4, rng)
    elif a.text:
        raise ValueError(f"a model of {task.name} reads no text: leave it out, and it answers test examples")
    else:
        answer(model, task, a.count or 4, rng)


def write(model: Any, task: Text, prompt: str, count: int, temperature: float, rng: np.random.Generator) -> None:
    """Print the prompt and what follows it. Raises ValueError for an empty one and for unknown characters."""
    if not prompt:
        raise ValueError("expected a text of at least one character, got an empty one")
    tokens = task.tokenizer.encode(prompt)[None]
    say(task.tokenizer.decode(generate.generate(model, tokens, count, temperature=temperature, rng=rng)[0]))


def rewrite(model: Any, task: Pairs, texts: list[str], count: int, rng: np.random.Generator) -> None:
    """Print each answer, and below it where the attention looked while each character was written."""
    right: list[str] | None = None
    if not texts:
        chosen = rng.choice(len(task.test), min(count, len(task.test)), replace=False)
        texts, right = (task.tokenizer.decode(rows[chosen]) for rows in task.test.arrays)
    if "" in texts:
        raise ValueError("expected a text of at least one character, got an empty one")
    for i, text in enumerate(texts):
        tokens, weights = alignment(model, task.tokenizer.encode([text]))
        (written,) = task.tokenizer.decode(tokens[None])
        told = "" if right is None else ": right" if written == right[i] else f": WRONG, it is {right[i]}"
        say(f"{text} → {written}{told}\n\n    {text}")
        for sign, row in zip([*written, "end"], weights, strict=False):
            say(f"{sign:>3} {viz.shades(row[: len(text)])}".rstrip())
        say()


def answer(model: Any, task: Sequences, count: int, rng: np.random.Generator) -> None:
    """Print what the model says of some test rows, beside what is right."""
    x, lengths, y = task.test
    for i in rng.choice(len(x), min(count, len(x)), replace=False):
        with no_grad():
            given = model(x[i : i + 1, : lengths[i]]).data[0]
        if task.numbers:
            say(f"test row {i}: {given[0]:.3f}, right is {y[i, 0]:.3f}")
        else:
            asked = y[i] != IGNORED
            told, right = (" ".join(map(str, np.atleast_1d(v[asked]))) for v in (given.argmax(axis=-1), y[i]))
            say(f"test row {i}: {told}, right is {right}")
