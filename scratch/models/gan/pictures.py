"""What a GAN draws, how it came about, and what the discriminator thought of it meanwhile."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.models.gan import inside
from scratch.models.gan.tasks import Images, Task, drawn, to_pixels
from scratch.module import Module

FRAMES, SIDE = 36, 60  # moments of a training that are kept; points of the surface a side
ROWS, FAKES = 10, 300  # images and points of each


class Film:
    """The training at moments ever further apart: the discriminator's surface and generated points, or images.

    A checkpoint holds the frames too, so that a resumed run shows the whole training.
    """

    def __init__(self, task: Task, steps: int, unbounded: bool = False):
        self.images, self.unbounded = isinstance(task, Images), unbounded
        self.classes = task.classes
        count = 6 if self.images else FRAMES
        self.moments = set(np.unique(np.geomspace(min(10, steps), steps, count).round().astype(int)).tolist())
        self.real = task.test.inputs if not self.images else None
        self.frames: list[tuple[int, np.ndarray, np.ndarray]] = []

    def record(self, gan: Any, step: int) -> None:
        """Keep what both networks do after so many steps, if it is one of the moments."""
        if step not in self.moments:
            return
        if self.images:
            made = to_pixels(drawn(gan.generator, ROWS, 0, self.classes))
            self.frames.append((step, np.zeros(0, np.float16), (255 * made).round().astype(np.uint8)))
            return
        look = inside.critic_values if self.unbounded else inside.probabilities
        values = look(gan.discriminator, viz.critic_grid(self.real, SIDE))
        scale = max(1.0, float(np.abs(values).max()) / 1000)  # a critic without bounds may leave 16 bits
        self.frames.append((step, (values / scale).astype(np.float16), drawn(gan.generator, FAKES, 0)))

    def state_arrays(self) -> dict[str, np.ndarray]:
        pairs = [(f"{i}.values", v, f"{i}.made", made) for i, (_, v, made) in enumerate(self.frames)]
        return {name: array for a, v, b, made in pairs for name, array in ((a, v), (b, made))}

    def settings(self) -> list[int]:
        return [step for step, _, _ in self.frames]

    def load_settings(self, settings: list[int]) -> None:
        self.frames = [(int(step), np.zeros(0), np.zeros(0)) for step in settings]

    def load_state_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.frames = [(step, arrays[f"{i}.values"], arrays[f"{i}.made"]) for i, (step, _, _) in enumerate(self.frames)]


def draw_all(
    folder: Path, log: Sequence[Mapping[str, Any]], generator: Module, task: Task, samples: np.ndarray, film: Film,
) -> list[Path]:  # fmt: skip
    """Draw everything into the run folder and return the files."""
    more = [key for key in ("validation_modes", "validation_inside") if any(key in line for line in log)]
    curves = viz.loss_curves(log, title=f"{task.name}: what each player loses", loss_label="discriminator's loss",
                             validation="", panels=("generator", *more),
                             reference=None if film.unbounded else (2 * math.log(2), "2 ln 2, a draw"))  # fmt: skip
    distance = viz.compare_runs({"averaged generator": log}, log_y=True, label="distance to validation data",
                                title=f"{task.name}: how far the samples are from data")  # fmt: skip
    files = [viz.save(curves, folder / "curves.png"), viz.save(distance, folder / "distance.png")]
    if isinstance(task, Images):
        figures = {"samples": draw_samples(samples, task), "training": draw_training(film),
                   "interpolation": draw_interpolation(generator, task)}  # fmt: skip
        return files + [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]
    return files + list(draw_film(film, folder / "training.gif"))


def draw_samples(samples: np.ndarray, task: Task, count: int = 100) -> Any:
    return viz.image_grid(samples[:count], columns=20, limits=(0, 1), title=f"{task.name}: generated", cell=0.45)


def draw_training(film: Film) -> Any:
    """The same noises, a row for each moment of the training."""
    rows = np.concatenate([made for _, _, made in film.frames]).astype(np.float32) / 255
    steps = ", ".join(f"{step:,}" for step, _, _ in film.frames)
    return viz.image_grid(rows, columns=ROWS, limits=(0, 1), title=f"the same noise after steps {steps}", cell=0.6)


def draw_interpolation(generator: Module, task: Task, rows: int = 6, steps: int = 10) -> Any:
    """From one noise to another, a row each; those of a conditional generator keep their class."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, rows, generator.noise)).astype(np.float32)  # type: ignore[attr-defined]
    labels = np.arange(rows) % task.classes if hasattr(generator, "label") else None
    images = to_pixels(inside.interpolation(generator, a, b, steps, labels))
    return viz.image_grid(images.reshape(-1, *images.shape[2:]), columns=steps, limits=(0, 1), cell=0.6,
                          title="from one noise to another")  # fmt: skip


def draw_film(film: Film, path: Path) -> tuple[Path, Path]:
    """The discriminator's surface over training, in the network's units."""
    frames = [(step, values.astype(np.float32), made) for step, values, made in film.frames]
    return viz.critic_animation(frames, film.real, path, limits=None if film.unbounded else (0, 1))
