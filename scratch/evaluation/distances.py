"""How far two sets of samples are apart: the energy distance of points, the Fréchet distance of images' features."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

BLOCK = 1000  # rows at a time: distances of a block to all others stay within a few MB


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """2 E|X − Y| − E|X − X'| − E|Y − Y'|, at least 0, and 0 only for equal distributions  (Székely and Rizzo 2013)

    Every expectation is the mean over all pairs (of a set with itself: a point and itself too, as the sample statistic
    has it).  Shapes: (N, d), (M, d). Raises ValueError for other shapes.
    """
    x, y = _points("energy_distance", x, y)
    return 2 * mean_distance(x, y) - mean_distance(x, x) - _within(y.tobytes(), y.dtype.str, y.shape)


@lru_cache(maxsize=4)
def _within(y: bytes, dtype: str, shape: tuple[int, ...]) -> float:
    """E|Y − Y'|, remembered: many sets of samples are compared with the same held-out one, which is the largest."""
    rows = np.frombuffer(y, dtype).reshape(shape)
    return mean_distance(rows, rows)


def mean_distance(x: np.ndarray, y: np.ndarray) -> float:
    """The mean of |x_i − y_j| over all pairs, |x − y|² = |x|² + |y|² − 2 x·y.  Shapes: (N, d), (M, d)"""
    y_squared = (y * y).sum(axis=1)
    total = 0.0
    for i in range(0, len(x), BLOCK):
        part = x[i : i + BLOCK]
        squared = (part * part).sum(axis=1)[:, None] + y_squared - 2 * (part @ y.T)
        total += np.sqrt(np.maximum(squared, 0)).sum()
    return float(total / (len(x) * len(y)))


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """|μ_x − μ_y|² + Tr(Σ_x + Σ_y − 2 (Σ_x Σ_y)^½), as if both sets were Gaussian  (Fréchet 1957; Heusel et al. 2017)

    With A = Σ_x^½, which is symmetric, Tr (Σ_x Σ_y)^½ = Tr (A Σ_y A)^½: the sum of the roots of its eigenvalues.
    Shapes: features (N, d), (M, d), N and M well above d. Raises ValueError for fewer than two rows.
    """
    x, y = _points("frechet_distance", x, y)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"frechet_distance expected at least two rows of each, got {len(x)} and {len(y)}")
    difference = x.mean(axis=0) - y.mean(axis=0)
    cov_x, cov_y = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (x, y))
    values, vectors = np.linalg.eigh(cov_x)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_y @ root), 0)).sum()
    return float(difference @ difference + np.trace(cov_x) + np.trace(cov_y) - 2 * shared)


def floor(
    distance: Callable[[np.ndarray, np.ndarray], float], draw: Callable[[int], np.ndarray], draws: int = 20
) -> np.ndarray:
    """The distance between two real sets, several times: what no model can be expected to beat.  → (draws,)

    draw: seed → a fresh set of real points or features.
    """
    return np.array([distance(draw(2 * i), draw(2 * i + 1)) for i in range(draws)])


def real_distance(
    distance: Callable[[np.ndarray, np.ndarray], float], held_out: np.ndarray, draw: Callable[[int], np.ndarray],
    draws: int = 20,
) -> float:  # fmt: skip
    """The mean distance of fresh real data to held-out data: what perfect samples have to these on average.

    draw: seed → as many real rows as there are samples, each drawn on its own.
    """
    return float(np.mean([distance(draw(seed), held_out) for seed in range(draws)]))


def nearest(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(distance to, and row of, the y that is nearest to each x): a copied training image has distance 0.

    Shapes: (N, …), (M, …) → (N,), (N,)
    """
    x, y = _points("nearest", x.reshape(len(x), -1), y.reshape(len(y), -1))
    y_squared = (y * y).sum(axis=1)
    distances, rows = [], []
    for i in range(0, len(x), BLOCK):
        part = x[i : i + BLOCK]
        squared = (part * part).sum(axis=1)[:, None] + y_squared - 2 * (part @ y.T)
        rows.append(squared.argmin(axis=1))
        distances.append(np.sqrt(((part - y[rows[-1]]) ** 2).sum(axis=1)))
    return np.concatenate(distances), np.concatenate(rows)


def _points(who: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64, where differences of large sums keep their digits."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not len(x) or not len(y):
        raise ValueError(f"{who} expected two sets of rows of one length, got shapes {x.shape} and {y.shape}")
    return np.asarray(x, np.float64), np.asarray(y, np.float64)
