"""Let a trained Transformer rewrite what you type: scratch sample transformer "the 3rd of March, 1997" """

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from scratch import viz
from scratch.data import Pairs, SequenceTokenizer
from scratch.models.transformer.decoding import BEGIN, beam_search
from scratch.models.transformer.inside import alignment
from scratch.models.transformer.model import Transformer
from scratch.models.transformer.train import Settings, load_pairs
from scratch.models.transformer.train import build as make
from scratch.training.progress import say
from scratch.training.ship import best_of, shipped


def load_run(folder: Path) -> tuple[Transformer, Pairs]:
    """The best model of a run. Raises ValueError for a run of another model or without a checkpoint."""
    return build(*best_of(folder, "transformer", Settings))


def load_weights(path: Path) -> tuple[Transformer, Pairs]:
    """A model from a weight file whose metadata hold its settings, such as the one that ships with the package."""
    return build(*shipped(path, "transformer", Settings))


def build(settings: Settings, weights: dict[str, np.ndarray]) -> tuple[Transformer, Pairs]:
    pairs = load_pairs(settings)
    model = make(settings, len(pairs.tokenizer), max(rows.shape[1] for rows in pairs.train.arrays))
    model.load_state_dict(weights)
    model.eval()
    return model, pairs


def main(arguments: Sequence[str]) -> None:
    """`scratch sample transformer`"""
    p = argparse.ArgumentParser(prog="scratch sample transformer", description=__doc__)
    p.add_argument("text", nargs="*", help="what is to be rewritten (default: test examples)")
    p.add_argument("--run", type=Path, help="run folder whose model to use (default: the weights that ship)")
    p.add_argument("--weights", type=Path, help="weight file to use instead")
    p.add_argument("--count", type=int, default=4, help="how many test examples, without a text (default: 4)")
    p.add_argument("--seed", type=int, default=0, help="which examples are drawn (default: 0)")
    p.add_argument("--width", type=int, default=4, help="hypotheses of the beam search (default: 4)")
    a = p.parse_args(list(arguments))
    if a.run and a.weights:
        raise ValueError("give --run or --weights, not both")
    if a.seed < 0:
        raise ValueError(f"--seed expected a number of at least 0, got {a.seed}")
    shipped_here = Path(str(resources.files("scratch.models.transformer") / "weights.safetensors"))
    model, pairs = load_run(a.run) if a.run else load_weights(a.weights or shipped_here)
    texts, answers = list(a.text), None
    if not texts:
        if not 1 <= a.count <= len(pairs.test):
            raise ValueError(f"--count expected 1 to {len(pairs.test)}, got {a.count}")
        chosen = np.random.default_rng(a.seed).choice(len(pairs.test), a.count, replace=False)
        texts, answers = (pairs.tokenizer.decode(rows[chosen]) for rows in pairs.test.arrays)
    show(model, pairs.tokenizer, texts, answers, a.width)


def show(
    model: Transformer, tokenizer: SequenceTokenizer, texts: Sequence[str], answers: Sequence[str] | None, width: int
) -> None:
    """Print each answer, and below it where the last layer looked while it wrote each character."""
    if "" in texts:
        raise ValueError("expected a text of at least one character, got an empty one")
    source = tokenizer.encode(texts)
    written = beam_search(model, source, width).tokens[:, 0]
    right = 0
    for i, (text, answer) in enumerate(zip(texts, tokenizer.decode(written), strict=True)):
        told = "" if answers is None else ": right" if answer == answers[i] else f": WRONG, it is {answers[i]}"
        right += answers is not None and answer == answers[i]
        say(f"{text} → {answer}{told}\n")
        given = np.array([[BEGIN, *written[i, : len(answer)]]])[:, : model.max_length]
        weights = alignment(model, tokenizer.encode([text]), given)
        say(f"    {text}")
        for character, row in zip([*answer, "end"], weights, strict=False):
            say(f"{character:>3} {viz.shades(row[: len(text)])}".rstrip())
        say()
    if answers is not None:
        say(f"{right} of {len(texts)} right")
