"""Show what a trained multilayer perceptron predicts for test examples it has never seen."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from scratch import viz
from scratch.models.mlp.model import MLP
from scratch.models.mlp.pictures import probabilities
from scratch.models.mlp.train import Settings, load_data
from scratch.training.progress import say
from scratch.training.ship import best_of, shipped


def load_run(folder: Path) -> tuple[MLP, Settings]:
    """The best model of a run. Raises ValueError for a run of another model or without a checkpoint."""
    settings, weights = best_of(folder, "mlp", Settings)
    return build(settings, weights), settings


def load_weights(path: Path) -> tuple[MLP, Settings]:
    """A model from a weight file whose metadata hold its settings, such as the one that ships with the package."""
    settings, arrays = shipped(path, "mlp", Settings)
    return build(settings, arrays), settings


def build(settings: Settings, weights: dict[str, np.ndarray]) -> MLP:
    data = load_data(settings.data).train
    model = MLP(data.inputs.shape[1], settings.hidden, data.classes)
    model.load_state_dict(weights)
    model.eval()
    return model


def main(arguments: Sequence[str]) -> None:
    """`scratch sample mlp`"""
    p = argparse.ArgumentParser(prog="scratch sample mlp", description=__doc__)
    p.add_argument("--run", type=Path, help="run folder whose model to use (default: the weights that ship)")
    p.add_argument("--weights", type=Path, help="weight file to use instead")
    p.add_argument("--count", type=int, default=6, help="how many examples (default: 6)")
    p.add_argument("--seed", type=int, default=0, help="which examples are drawn (default: 0)")
    p.add_argument("--picture", type=Path, default=None, help="also draw them into this PNG file")
    a = p.parse_args(list(arguments))
    if a.run and a.weights:
        raise ValueError("give --run or --weights, not both")
    shipped = Path(str(resources.files("scratch.models.mlp") / "weights.safetensors"))
    model, settings = load_run(a.run) if a.run else load_weights(a.weights or shipped)
    test = load_data(settings.data).test
    if not 1 <= a.count <= len(test):
        raise ValueError(f"--count expected 1 to {len(test)}, got {a.count}")
    if a.seed < 0:
        raise ValueError(f"--seed expected a number of at least 0, got {a.seed}")
    rows = np.random.default_rng(a.seed).choice(len(test), a.count, replace=False)
    show(model, test.inputs[rows], test.targets[rows], test.class_names or (), a.picture)


def show(model: MLP, inputs: np.ndarray, targets: np.ndarray, names: Sequence[str], picture: Path | None) -> None:
    """Print each example with the three likeliest classes, and draw digits as characters."""
    p = probabilities(model, inputs)
    titles = []
    for x, target, row in zip(inputs, targets, p, strict=True):
        best = np.argsort(-row)[:3]
        guesses = ", ".join(f"{names[k]} {100 * row[k]:.1f} %" for k in best)
        if len(x) == 784:
            say(viz.in_characters(x.reshape(28, 28)[4:24, 3:25]))
        else:
            say(f"point ({x[0]:+.2f}, {x[1]:+.2f})")
        right = "right" if best[0] == target else "WRONG"
        say(f"is {names[target]}, predicted {guesses}: {right}\n")
        titles.append(f"{names[target]} → {names[best[0]]}")
    say(f"{(p.argmax(axis=1) == targets).sum()} of {len(targets)} right")
    if picture is not None and inputs.shape[1] == 784:
        saved = viz.save(viz.image_grid(inputs.reshape(-1, 28, 28), titles, title="true → predicted"), picture)
        say(f"picture  {saved}")
