"""Draw with a trained autoencoder, or look at what comes back of test images: scratch sample autoencoder --count 10"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from scratch import viz
from scratch.models.autoencoder.model import VAE
from scratch.models.autoencoder.tasks import draw, load_data, reconstructions
from scratch.models.autoencoder.train import Settings
from scratch.models.autoencoder.train import build as make
from scratch.module import Module
from scratch.training.progress import say
from scratch.training.ship import best_of, shipped

CLASSES = 10  # of all data sets here


def load_run(folder: Path) -> tuple[Module, Settings]:
    """The best model of a run. Raises ValueError for a run of another model or without a checkpoint."""
    return build(*best_of(folder, "autoencoder", Settings))


def load_weights(path: Path) -> tuple[Module, Settings]:
    """A model from a weight file whose metadata hold its settings, such as the one that ships with the package."""
    return build(*shipped(path, "autoencoder", Settings))


def build(settings: Settings, weights: dict[str, np.ndarray]) -> tuple[Module, Settings]:
    model = make(settings, CLASSES)
    model.load_state_dict(weights)
    model.eval()
    return model, settings


def main(arguments: Sequence[str]) -> None:
    """`scratch sample autoencoder`"""
    p = argparse.ArgumentParser(prog="scratch sample autoencoder", description=__doc__)
    p.add_argument("--run", type=Path, help="run folder whose model to use (default: the weights that ship)")
    p.add_argument("--weights", type=Path, help="weight file to use instead")
    p.add_argument("--count", type=int, default=3, help="how many images (default: 3)")
    p.add_argument("--back", action="store_true", help="send test images through the code instead of drawing new ones")
    p.add_argument("--seed", type=int, default=0, help="what is drawn (default: 0)")
    p.add_argument("--picture", type=Path, default=None, help="also draw them into this PNG file")
    a = p.parse_args(list(arguments))
    if a.run and a.weights:
        raise ValueError("give --run or --weights, not both")
    if a.count < 1 or a.seed < 0:
        raise ValueError(f"--count expected at least 1 and --seed at least 0, got {a.count} and {a.seed}")
    ships = Path(str(resources.files("scratch.models.autoencoder") / "weights.safetensors"))
    model, settings = load_run(a.run) if a.run else load_weights(a.weights or ships)
    drawn = None if a.back else draw(model, replace(settings, seed=a.seed), CLASSES, max(a.count, 2))
    if drawn is None:
        return send_back(model, settings, a.count, a.seed, a.picture)
    images, asked = drawn[0][: a.count], drawn[1]
    titles = ["" if isinstance(model, VAE) else f"{asked[i]}" for i in range(len(images))]
    for image, title in zip(images, titles, strict=True):
        say(f"{title}{':' if title else ''}\n{viz.in_characters(image[0, 4:24, 3:25])}\n")
    save(images, titles, min(10, len(images)), a.picture)


def send_back(model: Module, settings: Settings, count: int, seed: int, picture: Path | None) -> None:
    """Test images beside what comes back of them. Raises ValueError for more images than there are."""
    test = load_data(settings).test
    if count > len(test):
        raise ValueError(f"--count expected 1 to {len(test)}, got {count}")
    x = test.inputs[np.random.default_rng(seed).choice(len(test), count, replace=False)]
    back = reconstructions(getattr(model, "first", model), x)
    for one, other in zip(x, back, strict=True):
        lines = (viz.in_characters(image[0, 4:24, 3:25]).split("\n") for image in (one, other))
        pairs = zip(*lines, strict=True)
        say("\n".join(f"{left:24}  {right}".rstrip() for left, right in pairs))
        say(f"squared error a pixel {((one - other) ** 2).mean():.4f}\n")
    save(np.concatenate([x, back]), [""] * 2 * count, count, picture)


def save(images: np.ndarray, titles: list[str], columns: int, picture: Path | None) -> None:
    if picture is not None:
        grid = viz.image_grid(images, titles if any(titles) else None, columns=columns, limits=(0, 1))
        say(f"picture  {viz.save(grid, picture)}")
