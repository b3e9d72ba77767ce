"""Draw with a trained denoiser: scratch sample diffusion --count 40 --picture digits.png"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from scratch import viz
from scratch.models.diffusion.noise import SCHEDULES
from scratch.models.diffusion.portraits import draw_portraits
from scratch.models.diffusion.tasks import Images, Task, load_task
from scratch.models.diffusion.train import Settings
from scratch.models.diffusion.train import build as make
from scratch.module import Module
from scratch.training.progress import say
from scratch.training.ship import best_of, shipped

WEIGHTS = Path(str(resources.files("scratch.models.diffusion") / "weights.safetensors"))


def load_run(folder: Path) -> tuple[Module, Task, Settings]:
    """The best averaged weights of a run. Raises ValueError for a run of another model or without a checkpoint."""
    return build(*best_of(folder, "diffusion", Settings))


def load_weights(path: Path) -> tuple[Module, Task, Settings]:
    """A model from a weight file whose metadata hold its settings, such as the one that ships with the package."""
    return build(*shipped(path, "diffusion", Settings))


def build(settings: Settings, weights: dict[str, np.ndarray]) -> tuple[Module, Task, Settings]:
    task = load_task(settings.data)
    model = make(settings, task)
    model.load_state_dict(weights)
    model.eval()
    return model, task, settings


def main(arguments: Sequence[str]) -> None:
    """`scratch sample diffusion`"""
    p = argparse.ArgumentParser(prog="scratch sample diffusion", description=__doc__)
    p.add_argument("--run", type=Path, help="run folder whose model to use (default: the weights that ship)")
    p.add_argument("--weights", type=Path, help="weight file to use instead")
    p.add_argument("--count", type=int, default=10, help="how many samples (default: 10, the classes in turn)")
    p.add_argument("--steps", type=int, help="steps of DDIM (default: as trained for)")
    p.add_argument("--guidance", type=float, help="strength of guidance (default: as trained for)")
    p.add_argument("--seed", type=int, default=0, help="which noise is drawn (default: 0)")
    p.add_argument("--picture", type=Path, default=None, help="also draw them into this PNG file")
    p.add_argument("--pictures", type=Path, help="instead, draw all that the model shows of itself into this folder")
    a = p.parse_args(list(arguments))
    if a.run and a.weights:
        raise ValueError("give --run or --weights, not both")
    if a.count < 1 or a.seed < 0:
        raise ValueError(f"--count expected at least 1 and --seed at least 0, got {a.count} and {a.seed}")
    model, task, settings = load_run(a.run) if a.run else load_weights(a.weights or WEIGHTS)
    changes = {"samples": max(a.count, 2), "seed": a.seed}
    changes |= {"sampling_steps": a.steps} if a.steps is not None else {}
    changes |= {"guidance": a.guidance} if a.guidance is not None else {}
    settings = replace(settings, **changes)
    schedule = SCHEDULES[settings.schedule](settings.T)
    if a.pictures is not None:
        for file in draw_portraits(a.pictures, model, task, settings, schedule):
            say(f"picture  {file}")
        return
    drawn = task.draw(model, schedule, settings)[: a.count]
    show(drawn, task, a.picture)


def show(samples: np.ndarray, task: Task, picture: Path | None) -> None:
    """Images as characters, points as coordinates."""
    if not isinstance(task, Images):
        say("\n".join(f"({x:+.2f}, {y:+.2f})" for x, y in samples))
        return
    names = task.train.class_names or ()
    titles = [names[i % task.classes] for i in range(len(samples))]
    for image, title in zip(samples, titles, strict=True):
        say(f"{title}:\n{viz.in_characters(image[0, 4:24, 3:25])}\n")
    if picture is not None:
        saved = viz.save(viz.image_grid(samples, titles, columns=min(10, len(samples)), limits=(0, 1)), picture)
        say(f"picture  {saved}")
