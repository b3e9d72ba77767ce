"""What is drawn: images with a class each, or points in the plane; how samples are made, and how they are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from scratch.data import (
    TOYS,
    Dataset,
    grid_centres,
    independent,
    load_digits,
    load_fashion_mnist,
    load_mnist,
    ring_centres,
)
from scratch.evaluation import count_modes, energy_distance, real_distance
from scratch.evaluation import judge as judging
from scratch.models.diffusion.noise import NoiseSchedule
from scratch.models.diffusion.sampling import Denoise, ask, ddim, ddpm, spaced
from scratch.module import Module

IMAGES: dict[str, Callable[..., Any]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
}
BATCH = 250  # images drawn at a time

Sampler = Callable[[Denoise, np.ndarray, np.random.Generator], np.ndarray]  # (denoise, x_T, rng) → x_0
HELD_OUT = 5000  # points to choose by, and to report


@dataclass(frozen=True)
class Images:
    """Images from −1 (paper) to 1 (ink), (N, 1, 28, 28), to learn from, to choose by, to report."""

    name: str
    train: Dataset
    validation: Dataset
    test: Dataset

    def __str__(self) -> str:
        return " / ".join(f"{len(part):,}" for part in (self.train, self.validation, self.test)) + " images"

    @property
    def classes(self) -> int:
        return self.train.classes

    def draw(
        self, model: Module, schedule: NoiseSchedule, settings: Any, sampler: Sampler | None = None
    ) -> np.ndarray:
        """settings.samples images from 0 to 1, the classes in turn: row i is of class i mod 10.

        By DDIM in settings.sampling_steps, or by another sampler.
        """
        rng = np.random.default_rng([settings.seed, 1])
        asked = np.arange(settings.samples) % self.classes

        def few_steps(denoise: Denoise, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return ddim(denoise, x, schedule, spaced(schedule.T, settings.sampling_steps))

        drawn = []
        for i in range(0, len(asked), BATCH):
            labels = asked[i : i + BATCH]
            noise = rng.standard_normal((len(labels), *self.train.inputs.shape[1:])).astype(np.float32)
            denoise = ask(model, schedule, settings.predict, labels, settings.guidance, limit=1.0)
            drawn.append((sampler or few_steps)(denoise, noise, rng))
        return to_pixels(np.concatenate(drawn))

    def judge(self, samples: np.ndarray, settings: Any) -> dict[str, float]:
        """The share that the judge reads as asked, and the Fréchet distance to test images and its floor.

        The floor is that of training images: real ones, of the same number.
        """
        test, train = (to_pixels(part.inputs) for part in (self.test, self.train))
        asked = np.arange(len(samples)) % self.classes
        return judging.figures(samples, test, train, judging.load_judge(self.name), asked)


@dataclass(frozen=True)
class Points:
    """Points in the plane in units of their standard deviation, (N, 2); `draw` and `judge` take them in their own."""

    name: str
    train: Dataset
    validation: Dataset
    test: Dataset
    scale: float
    centres: np.ndarray | None
    sigma: float

    def __str__(self) -> str:
        return " / ".join(f"{len(part):,}" for part in (self.train, self.validation, self.test)) + " points"

    classes = 0

    def draw(self, model: Module, schedule: NoiseSchedule, settings: Any) -> np.ndarray:
        """settings.samples points by DDPM, all T steps."""
        rng = np.random.default_rng([settings.seed, 1])
        noise = rng.standard_normal((settings.samples, 2)).astype(np.float32)
        denoise = ask(model, schedule, settings.predict)
        return self.scale * ddpm(denoise, noise, schedule, spaced(schedule.T), rng)

    def judge(self, samples: np.ndarray, settings: Any) -> dict[str, float]:
        """The energy distance to held-out points, over the mean of 20 sets of as many real points; and the modes."""
        distance = energy_distance(samples, self.scale * self.test.inputs)
        figures = {"energy distance, ÷ real": distance / real_to_held_out(self.name, len(samples))}
        if self.centres is None:
            return figures
        modes = count_modes(samples, self.centres, self.sigma)
        off = np.abs(modes.deviations / self.truth().deviations - 1)
        return figures | {"modes": float(modes.found()), "worst deviation": float(off.max())}

    def truth(self) -> Any:
        """The modes of the held-out points, counted alike."""
        assert self.centres is not None
        return count_modes(self.scale * self.test.inputs, self.centres, self.sigma)


Task = Images | Points


def held_out(name: str, seed: int) -> Dataset:
    """Points to choose by (seed 1) and to report (seed 2), which draw their modes, as samples do."""
    return independent(name, HELD_OUT, seed)


@cache
def real_to_held_out(name: str, count: int) -> float:
    """The mean energy distance of `count` real points to those that are reported on, over 20 sets of them."""
    return real_distance(
        energy_distance, held_out(name, 2).inputs, lambda seed: independent(name, count, 100 + seed).inputs
    )


CENTRES = {"gaussian_ring": (ring_centres, 0.1), "gaussian_grid": (grid_centres, 0.05)}  # and the toys' own noise


def load_task(name: str) -> Task:
    """Images come as their loaders split them; of points 50,000 to learn from, 5,000 to choose by and to report."""
    if name in IMAGES:
        train, validation, test = (from_pixels(part) for part in IMAGES[name](flat=False))
        return Images(name, train, validation, test)
    parts = [TOYS[name](50_000), *(held_out(name, seed) for seed in (1, 2))]
    scale = float(parts[0].inputs.std())
    scaled = [Dataset(part.name, part.inputs / np.float32(scale), part.targets, part.class_names) for part in parts]
    centres, sigma = CENTRES.get(name, (lambda: None, 0.0))
    return Points(name, scaled[0], scaled[1], scaled[2], scale, centres(), sigma)


def from_pixels(data: Dataset) -> Dataset:
    """0 … 1 → −1 … 1, where noise of variance 1 is as large as the image."""
    return Dataset(data.name, 2 * data.inputs - 1, data.targets, data.class_names)


def to_pixels(x: np.ndarray) -> np.ndarray:
    """−1 … 1 → 0 … 1, what lies outside cut off."""
    return np.clip((x + 1) / 2, 0, 1)
