"""Draw with a trained generator: scratch sample gan --count 40 --picture digits.png"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from scratch import viz
from scratch.models.gan.tasks import Images, Task, load_task
from scratch.models.gan.train import Settings
from scratch.models.gan.train import build as make
from scratch.module import Module
from scratch.training.progress import say
from scratch.training.ship import best_of, shipped

SHIPPED = Path(str(resources.files("scratch.models.gan") / "weights.safetensors"))


def load_run(folder: Path) -> tuple[Module, Task, Settings]:
    """The best averaged generator of a run. Raises ValueError for a run of another model or without a checkpoint."""
    return build(*best_of(folder, "gan", Settings))


def load_weights(path: Path) -> tuple[Module, Task, Settings]:
    """A generator from a weight file whose metadata hold its settings, such as the one that ships with the package."""
    return build(*shipped(path, "gan", Settings))


def build(settings: Settings, weights: dict[str, np.ndarray]) -> tuple[Module, Task, Settings]:
    task = load_task(settings.data)
    generator = make(settings, task).generator
    generator.load_state_dict(weights)
    generator.eval()
    return generator, task, settings


def main(arguments: Sequence[str]) -> None:
    """`scratch sample gan`"""
    p = argparse.ArgumentParser(prog="scratch sample gan", description=__doc__)
    p.add_argument("--run", type=Path, help="run folder whose generator to use (default: the weights that ship)")
    p.add_argument("--weights", type=Path, help="weight file to use instead")
    p.add_argument("--count", type=int, default=6, help="how many samples (default: 6)")
    p.add_argument("--seed", type=int, default=0, help="which noise is drawn (default: 0)")
    p.add_argument("--picture", type=Path, default=None, help="also draw them into this PNG file")
    a = p.parse_args(list(arguments))
    if a.run and a.weights:
        raise ValueError("give --run or --weights, not both")
    if a.count < 1 or a.seed < 0:
        raise ValueError(f"--count expected at least 1 and --seed at least 0, got {a.count} and {a.seed}")
    generator, task, _ = load_run(a.run) if a.run else load_weights(a.weights or SHIPPED)
    show(task.draw(generator, a.count, a.seed), task, a.picture)


def show(samples: np.ndarray, task: Task, picture: Path | None) -> None:
    """Images as characters, points as coordinates."""
    if not isinstance(task, Images):
        say("\n".join(f"({x:+.2f}, {y:+.2f})" for x, y in samples))
        return
    say("\n\n".join(viz.in_characters(image[0, 4:24, 3:25]) for image in samples))
    if picture is not None:
        saved = viz.save(viz.image_grid(samples, columns=min(10, len(samples)), limits=(0, 1)), picture)
        say(f"picture  {saved}")
