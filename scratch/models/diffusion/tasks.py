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
from scratch.evaluation import count_modes, energy_distance, frechet_distance
from scratch.evaluation import judge as judging
from scratch.models.diffusion.noise import NoiseSchedule
from scratch.models.diffusion.sampling import ask, ddim, ddpm, spaced
from scratch.module import Module

IMAGES: dict[str, Callable[..., Any]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
}
BATCH = 250  # images drawn at a time
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

    def draw(self, model: Module, schedule: NoiseSchedule, settings: Any) -> np.ndarray:
        """settings.samples images from 0 to 1 by DDIM, the classes in turn: row i is of class i mod 10."""
        rng = np.random.default_rng([settings.seed, 1])
        asked = np.arange(settings.samples) % self.classes
        times = spaced(schedule.T, settings.sampling_steps)
        drawn = []
        for i in range(0, len(asked), BATCH):
            labels = asked[i : i + BATCH]
            noise = rng.standard_normal((len(labels), *self.train.inputs.shape[1:])).astype(np.float32)
            denoise = ask(model, schedule, settings.predict, labels, settings.guidance, limit=1.0)
            drawn.append(ddim(denoise, noise, schedule, times))
        return to_pixels(np.concatenate(drawn))

    def judge(self, samples: np.ndarray, settings: Any) -> dict[str, float]:
        """The share that the judge reads as asked, and the Fréchet distance to test images and its floor.

        The floor is that of training images: real ones, of the same number.
        """
        judge = judging.load_judge(self.name)
        asked = np.arange(len(samples)) % self.classes
        real, train = (judging.features(to_pixels(part.inputs), judge) for part in (self.test, self.train))
        found = judging.features(samples, judge)
        return {
            "read as asked": judging.agreement(samples, asked, judge),
            "Fréchet distance": frechet_distance(found, real),
            "Fréchet distance, real": frechet_distance(train[: len(samples)], real),
        }


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
        figures = {"energy distance, ÷ real": distance / real_distance(self.name, len(samples))}
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


@cache
def real_distance(name: str, count: int) -> float:
    """The mean energy distance between the held-out points and `count` real ones, over 20 sets of these."""
    held_out = TOYS[name](HELD_OUT, seed=2).inputs
    return float(np.mean([energy_distance(independent(name, count, 100 + i).inputs, held_out) for i in range(20)]))


CENTRES = {"gaussian_ring": (ring_centres, 0.1), "gaussian_grid": (grid_centres, 0.05)}  # and the toys' own noise


def load_task(name: str) -> Task:
    """Images come as their loaders split them; of points 50,000 to learn from, 5,000 to choose by and to report."""
    if name in IMAGES:
        train, validation, test = (from_pixels(part) for part in IMAGES[name](flat=False))
        return Images(name, train, validation, test)
    parts = [TOYS[name](50_000), *(independent(name, 5000, seed) for seed in (1, 2))]
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
