"""Show what a trained Vision Transformer says to unseen test images, and from which patches it comes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.data import Dataset
from scratch.models.vit import inside, train
from scratch.models.vit.model import VisionTransformer
from scratch.models.vit.pictures import draw_heads, montage, probabilities, shares
from scratch.models.vit.train import Settings, load_data
from scratch.tensor import Array
from scratch.training.progress import say
from scratch.training.ship import best_of, shipped


def load_run(folder: Path) -> tuple[VisionTransformer, Settings]:
    """The best model of a run. Raises ValueError for a run of another model or without a checkpoint."""
    settings, weights = best_of(folder, "vit", Settings)
    return build(settings, weights), settings


def load_weights(path: Path) -> tuple[VisionTransformer, Settings]:
    """A model from a weight file whose metadata hold its settings, such as the one that ships with the package."""
    settings, arrays = shipped(path, "vit", Settings)
    return build(settings, arrays), settings


def build(settings: Settings, weights: dict[str, Array]) -> VisionTransformer:
    """The model with these weights; all data sets are grey and have ten classes."""
    model = train.build(settings, channels=1, classes=10)
    model.load_state_dict(weights)
    model.eval()
    return model


def main(arguments: Sequence[str]) -> None:
    """`scratch sample vit`"""
    p = argparse.ArgumentParser(prog="scratch sample vit", description=__doc__)
    p.add_argument("--run", type=Path, help="run folder whose model to use (default: the weights that ship)")
    p.add_argument("--weights", type=Path, help="weight file to use instead")
    p.add_argument("--count", type=int, default=6, help="how many examples (default: 6)")
    p.add_argument("--seed", type=int, default=0, help="which examples are drawn (default: 0)")
    p.add_argument(
        "--picture", type=Path, help="also draw into this PNG file where the answers of up to nine come from"
    )
    p.add_argument("--heads", type=Path, help="also draw into this PNG file where each head looks in the first one")
    a = p.parse_args(list(arguments))
    if a.run and a.weights:
        raise ValueError("give --run or --weights, not both")
    shipped = Path(str(resources.files("scratch.models.vit") / "weights.safetensors"))
    model, settings = load_run(a.run) if a.run else load_weights(a.weights or shipped)
    test = load_data(settings).test
    if not 1 <= a.count <= len(test):
        raise ValueError(f"--count expected 1 to {len(test)}, got {a.count}")
    if a.seed < 0:
        raise ValueError(f"--seed expected a number of at least 0, got {a.seed}")
    rows = np.random.default_rng(a.seed).choice(len(test), a.count, replace=False)
    show(model, test, rows)
    if a.picture is not None:
        say(f"picture  {viz.save(draw(model, test, rows[:9]), a.picture)}")
    if a.heads is not None:
        say(f"picture  {viz.save(draw_heads(model, test.inputs[rows[:1]]), a.heads)}")


def show(model: VisionTransformer, test: Dataset, rows: Array) -> None:
    """Print each image in characters, beside it how much each patch matters, and the three likeliest classes."""
    images, targets, names = test.inputs[rows], test.targets[rows], test.class_names or ()
    p, origins = probabilities(model, images), inside.seen(model, images)
    for image, origin, target, row in zip(images, origins, targets, p, strict=True):
        best = np.argsort(-row)[:3]
        guesses = ", ".join(f"{names[k]} {100 * row[k]:.1f} %" for k in best)
        say(side_by_side(viz.in_lines(image[0]), in_per_cent(origin)))
        say(f"is {names[target]}, predicted {guesses}: {'right' if best[0] == target else 'WRONG'}\n")
    say(f"{(p.argmax(axis=1) == targets).sum()} of {len(targets)} right; "
        "numbers: rollout, per cent from each patch")  # fmt: skip


def draw(model: VisionTransformer, test: Dataset, rows: Array) -> Any:
    """The images, and over them what the rollout says of their patches."""
    images = test.inputs[rows]
    heats = {"rollout through all blocks": montage(shares(inside.seen(model, images)))}
    return viz.heat_maps(montage(images.mean(axis=1)), heats, title=f"{test.name}: where the answers come from",
                         label="share of the image's largest value")  # fmt: skip


def in_per_cent(origin: Array) -> list[str]:
    """The shares of the patches in whole per cent, row by row."""
    return ["".join(f"{100 * share:4.0f}" for share in row) for row in origin]


def side_by_side(image: list[str], numbers: list[str]) -> str:
    """The rows of numbers spread beside the lines of the image."""
    lines, step = [], len(image) / len(numbers)
    beside = {int((i + 0.5) * step): row for i, row in enumerate(numbers)}
    for i, line in enumerate(image):
        lines.append(f"{line}   {beside.get(i, '')}".rstrip())
    return "\n".join(lines)
