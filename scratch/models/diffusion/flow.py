"""Rectified flow: diffusion with a straight line for its path  (Liu et al. 2023; Lipman et al. 2023)

What is different from `process.py` and `sampling.py`:

    diffusion                                              rectified flow
    t = 1 … T, whole                                       t from 0 (data) to 1 (noise), any number
    x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε                           x_t = (1 − t) x_0 + t ε
    the network says ε (or x_0, or v)                      it says dx_t/dt = ε − x_0, the velocity
    a schedule ᾱ, and formulas for each step               no schedule
    samplers go back through q(x_{t−1} | x_t, x̂_0)          solve dx = v dt from t = 1 to t = 0: x ← x − h v

Both paths meet every noise level, and a denoiser of one can be read as one of the other; the straight one is followed
with fewer, longer steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scratch.models.diffusion.noise import NoiseSchedule
from scratch.module import Module
from scratch.random import generator
from scratch.sampling import check_finite
from scratch.tensor import Tensor, no_grad

CLOCK = 1000.0  # the network's clocks were built for times up to 1,000

Velocity = Callable[[np.ndarray, float], np.ndarray]


def noised(
    x0: np.ndarray, y: np.ndarray, settings: Any, schedule: NoiseSchedule | None, no_class: int | None
) -> tuple[np.ndarray, ...]:
    """A batch for `train` in the place of diffusion's: (x_t, t for the network, ε − x_0[, labels])."""
    rng = generator()
    t = rng.random(len(x0))
    eps = rng.standard_normal(x0.shape).astype(x0.dtype)
    share = t.astype(x0.dtype).reshape(-1, *(1,) * (x0.ndim - 1))
    batch = (1 - share) * x0 + share * eps, CLOCK * t, eps - x0
    if no_class is None:
        return batch
    withheld = rng.random(len(y)) < settings.drop_label
    return *batch, np.where(withheld, no_class, y)


def velocity(model: Module, labels: np.ndarray | None = None) -> Velocity:
    """What a network says of x at a time t from 0 to 1; ValueError, naming t, where it is NaN or infinite."""

    def ask(x: np.ndarray, t: float) -> np.ndarray:
        times = np.full(len(x), CLOCK * t)
        with no_grad():
            v = (model(Tensor(x), times) if labels is None else model(Tensor(x), times, labels)).data
        check_finite(v, f"the velocity at t = {t:g}")
        return v

    return ask


def euler(v: Velocity, x: np.ndarray, steps: int) -> np.ndarray:
    """x ← x − h v(x, t), h = 1 / steps, from t = 1 to 0."""
    h = 1 / steps
    for i in range(steps, 0, -1):
        x = x - x.dtype.type(h) * v(x, i * h)
    return x


def heun(v: Velocity, x: np.ndarray, steps: int) -> np.ndarray:
    """x ← x − h/2 (v(x, t) + v(x − h v(x, t), t − h)): second order, two questions a step."""
    h = 1 / steps
    for i in range(steps, 0, -1):
        slope = v(x, i * h)
        there = v(x - x.dtype.type(h) * slope, (i - 1) * h)
        x = x - x.dtype.type(h / 2) * (slope + there)
    return x
