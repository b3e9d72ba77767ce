"""What is imitated: digits, or points in the plane; how samples are drawn from a generator, and how they are judged."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from scratch.data import TOYS, Dataset, grid_centres, independent, load_digits, load_mnist, ring_centres
from scratch.evaluation import Modes, count_modes, energy_distance, frechet_distance, real_distance
from scratch.evaluation import judge as judging
from scratch.module import Module
from scratch.sampling import check_finite
from scratch.tensor import Tensor, no_grad

IMAGES: dict[str, Callable[..., Any]] = {"digits": load_digits, "mnist": load_mnist}
CENTRES: dict[str, tuple[np.ndarray | None, float]] = {
    "gaussian_ring": (ring_centres(), 0.1),  # and the toys' own noise
    "gaussian_grid": (grid_centres(), 0.05),
}
BATCH = 250  # rows drawn at a time
LEAST = 20  # samples that a mode needs to count as found


class Images:
    """Digits from −1 (paper) to 1 (ink), (N, 1, 28, 28), to learn from, to choose by, to report."""

    def __init__(self, name: str):
        self.name = name
        self.train, self.validation, self.test = (from_pixels(part) for part in IMAGES[name](flat=False))
        self.shape = self.train.inputs.shape[1:]
        self.classes = self.train.classes

    def __str__(self) -> str:
        return " / ".join(f"{len(part):,}" for part in (self.train, self.validation, self.test)) + " images"

    def draw(self, generator: Module, count: int, seed: int) -> np.ndarray:
        """Images from 0 to 1; those of a conditional generator are of the classes in turn, row i of class i mod 10."""
        return to_pixels(drawn(generator, count, seed, self.classes))

    @cached_property
    def judge(self) -> judging.Judge:
        return judging.load_judge()

    @cached_property
    def validation_features(self) -> np.ndarray:
        return judging.features(to_pixels(self.validation.inputs), self.judge)

    def distance(self, samples: np.ndarray) -> dict[str, float]:
        """What the best weights are chosen by: the Fréchet distance to validation digits."""
        return {"loss": frechet_distance(judging.features(samples, self.judge), self.validation_features)}

    def report(self, samples: np.ndarray, conditional: bool) -> dict[str, float]:
        """Balance of the classes by the judge, and the Fréchet distance to test digits, beside that of real digits."""
        shares, kl = judging.class_balance(samples, self.judge)
        test, train = (to_pixels(part.inputs) for part in (self.test, self.train))
        asked = np.arange(len(samples)) % self.classes if conditional else None
        figures = {"classes": float((shares >= 0.01).sum()), "KL to uniform": kl}
        return figures | judging.figures(samples, test, train, self.judge, asked)


class Points:
    """Points in the plane in units of their standard deviation, (N, 2); `draw` gives them in their own."""

    classes = 0

    def __init__(self, name: str):
        self.name = name
        parts = [TOYS[name](50_000), *(independent(name, 2500, seed) for seed in (1, 2))]
        self.scale = float(parts[0].inputs.std())
        self.train, self.validation, self.test = (
            Dataset(part.name, part.inputs / np.float32(self.scale), part.targets, part.class_names) for part in parts
        )
        self.shape = (2,)
        self.centres: np.ndarray | None
        self.centres, self.sigma = CENTRES.get(name, (None, 0.0))

    def __str__(self) -> str:
        return " / ".join(f"{len(part):,}" for part in (self.train, self.validation, self.test)) + " points"

    def draw(self, generator: Module, count: int, seed: int) -> np.ndarray:
        return self.scale * drawn(generator, count, seed)

    def distance(self, samples: np.ndarray) -> dict[str, float]:
        """The energy distance to validation points; of a mixture, the shares of modes found and of points in them."""
        figures = {"loss": energy_distance(samples, self.scale * self.validation.inputs)}
        if self.centres is None:
            return figures
        modes = self.modes(samples)
        return figures | {"modes": modes.found(LEAST) / len(self.centres), "inside": modes.inside}

    def modes(self, samples: np.ndarray) -> Modes:
        """Which modes have how many samples within three standard deviations."""
        assert self.centres is not None
        return count_modes(samples, self.centres, self.sigma)

    def report(self, samples: np.ndarray, conditional: bool) -> dict[str, float]:
        """Modes found, the share of samples in them, and the energy distance over its mean for as many real points."""
        held_out, n = self.scale * self.test.inputs, len(samples)
        real = real_distance(energy_distance, held_out, lambda seed: independent(self.name, n, 100 + seed).inputs)
        figures = {"energy distance, ÷ real": energy_distance(samples, held_out) / real}
        if self.centres is None:
            return figures
        modes = self.modes(samples)
        return {"modes": float(modes.found(LEAST)), "inside": modes.inside} | figures


Task = Images | Points


def load_task(name: str) -> Task:
    return Images(name) if name in IMAGES else Points(name)


def drawn(generator: Module, count: int, seed: int, classes: int = 0) -> np.ndarray:
    """What a generator makes of noise of this seed, in evaluation; the classes in turn if it wants any.

    Raises ValueError where that is NaN or infinite, naming the row.
    """
    rng = np.random.default_rng([seed, 1])
    training, parts = generator.training, []
    generator.eval()
    with no_grad():
        for i in range(0, count, BATCH):
            rows = np.arange(i, min(i + BATCH, count))
            z = rng.standard_normal((len(rows), generator.noise)).astype(np.float32)  # type: ignore[attr-defined]
            labels = (rows % classes,) if hasattr(generator, "label") else ()
            parts.append(generator(Tensor(z), *labels).data)
    generator.train(training)
    samples = np.concatenate(parts)
    check_finite(samples, "the generator's output")
    return samples


def from_pixels(data: Dataset) -> Dataset:
    """0 … 1 → −1 … 1, the range of tanh."""
    return Dataset(data.name, 2 * data.inputs - 1, data.targets, data.class_names)


def to_pixels(x: np.ndarray) -> np.ndarray:
    """−1 … 1 → 0 … 1."""
    return np.clip((x + 1) / 2, 0, 1)
