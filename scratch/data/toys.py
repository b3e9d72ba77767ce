"""Toy data: point sets and curves whose shape is known exactly, so that what a model learned can be seen and measured.

Every function is `(n, noise, seed, ...) -> Dataset` in float32: `noise` is the standard deviation of the Gaussian added
to every coordinate, `seed` a whole number or a NumPy generator. Row i of a classification set belongs to class
i mod K: any stretch of K rows is balanced.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from scratch.data.dataset import Dataset
from scratch.data.order import checked_seed, is_whole

Seed = int | np.random.Generator


def xor(n: int = 400, noise: float = 0.2, seed: Seed = 0) -> Dataset:
    """Corners of a square, (±1, ±1): class 0 where the signs agree, 1 where they differ. No line separates them."""
    rng = _generator(n, 4, noise, seed, "xor")
    corners = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    corner = np.arange(n) % 4
    return _classes("xor", corners[corner], corner % 2, ("same", "different"), noise, rng)


def spirals(n: int = 600, noise: float = 0.03, seed: Seed = 0, arms: int = 3, turns: float = 0.75) -> Dataset:
    """Arm k: t (cos φ, sin φ), φ = 2π (turns t + k / arms), t from U(0.1, 1): radius and angle grow together."""
    rng = _generator(n, _at_least(2, arms, "arms"), noise, seed, "spirals")
    arm = np.arange(n) % arms
    t = rng.uniform(0.1, 1, n)
    points = t[:, None] * _on_circle(turns * t + arm / arms)
    return _classes("spirals", points, arm, tuple(f"arm {k}" for k in range(arms)), noise, rng)


def two_moons(n: int = 400, noise: float = 0.1, seed: Seed = 0) -> Dataset:
    """Two half circles that grip each other: (cos θ, sin θ) and (1 − cos θ, ½ − sin θ), θ from U(0, π)."""
    rng = _generator(n, 2, noise, seed, "two_moons")
    moon = np.arange(n) % 2
    arc = _on_circle(rng.uniform(0, 0.5, n))
    points = np.where(moon[:, None] == 0, arc, np.array([1.0, 0.5]) - arc)
    return _classes("two_moons", points, moon, ("upper", "lower"), noise, rng)


def circles(n: int = 400, noise: float = 0.05, seed: Seed = 0, factor: float = 0.5) -> Dataset:
    """Circles about the origin of radius 1 (class 0) and `factor` (class 1)."""
    rng = _generator(n, 2, noise, seed, "circles")
    if not 0 < factor < 1:
        raise ValueError(f"circles: factor must lie between 0 and 1, got {factor}")
    inner = np.arange(n) % 2
    points = np.array([1.0, factor])[inner, None] * _on_circle(rng.uniform(0, 1, n))
    return _classes("circles", points, inner, ("outer", "inner"), noise, rng)


def ring_centres(modes: int = 8, radius: float = 2.0) -> np.ndarray:
    """radius · (cos 2πk/modes, sin 2πk/modes): shape (modes, 2)."""
    return radius * _on_circle(np.arange(_at_least(1, modes, "modes")) / modes)


def grid_centres(side: int = 5, spacing: float = 2.0) -> np.ndarray:
    """A square grid about the origin, row by row from the lower left: shape (side², 2)."""
    steps = spacing * (np.arange(_at_least(1, side, "side")) - (side - 1) / 2)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def gaussian_ring(n: int = 800, noise: float = 0.1, seed: Seed = 0, modes: int = 8, radius: float = 2.0) -> Dataset:
    """A mixture of Gaussians on a circle, the targets say which; noise = 0.02 is that of Metz et al. 2017."""
    rng = _generator(n, modes, noise, seed, "gaussian_ring")
    return _mixture("gaussian_ring", ring_centres(modes, radius), n, noise, rng)


def gaussian_grid(n: int = 1000, noise: float = 0.05, seed: Seed = 0, side: int = 5, spacing: float = 2.0) -> Dataset:
    """A mixture of side² Gaussians on a square grid, the targets say which  (Srivastava et al. 2017)"""
    rng = _generator(n, side * side, noise, seed, "gaussian_grid")
    return _mixture("gaussian_grid", grid_centres(side, spacing), n, noise, rng)


TOYS: dict[str, Callable[..., Dataset]] = {
    "xor": xor,
    "spirals": spirals,
    "two_moons": two_moons,
    "circles": circles,
    "gaussian_ring": gaussian_ring,
    "gaussian_grid": gaussian_grid,
}


def independent(name: str, n: int, seed: Seed = 0) -> Dataset:
    """n rows of the set TOYS[name] that each draw their class, as a model's samples do, in random order.

    The sets themselves deal the classes out evenly: two of them are more alike than two sets of samples can be.
    """
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(checked_seed(seed))
    classes = TOYS[name](100).classes
    counts = rng.multinomial(n, np.full(classes, 1 / classes))
    pool = TOYS[name](classes * max(int(counts.max()), 1), seed=rng)
    rows = np.concatenate([classes * np.arange(count) + k for k, count in enumerate(counts)])
    rng.shuffle(rows)
    return Dataset(name, pool.inputs[rows], pool.targets[rows], pool.class_names)


# -- curves -----------------------------------------------------------------------------------------------------

# y = f(x) on [-1, 1], all with values in [-1, 1].
CURVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "line": lambda x: 0.5 * x + 0.25,
    "parabola": lambda x: 2 * x * x - 1,
    "sine": lambda x: np.sin(2 * math.pi * x),
    "chirp": lambda x: np.sin(math.pi * (x + 1) * (x + 1) * 1.5),  # ever faster from left to right
    "kink": lambda x: 1 - 2 * np.abs(x),
    "steps": lambda x: (np.floor(2 * x) + 0.5) / 2,  # four plateaus; a jump at −½, 0, ½
}


def curve(name: str, n: int = 200, noise: float = 0.1, seed: Seed = 0) -> Dataset:
    """y = f(x) + noise, f = CURVES[name], x from U(−1, 1).

    Shapes: inputs and targets (n, 1). Raises ValueError for a name that CURVES does not have.
    """
    if name not in CURVES:
        raise ValueError(f"curve expected one of {', '.join(CURVES)}, got {name!r}")
    rng = _generator(n, 1, noise, seed, name)
    x = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    y = CURVES[name](x.astype(np.float64)) + noise * rng.standard_normal((n, 1))
    return Dataset(name, x, y.astype(np.float32))


def sine(n: int = 200, noise: float = 0.1, seed: Seed = 0) -> Dataset:
    """y = sin(2πx) + noise."""
    return curve("sine", n, noise, seed)


def steps(n: int = 200, noise: float = 0.1, seed: Seed = 0) -> Dataset:
    """Four plateaus, y = (⌊2x⌋ + ½) / 2 + noise: what a smooth model can only round off."""
    return curve("steps", n, noise, seed)


# -- what they share --------------------------------------------------------------------------------------------


def _on_circle(turns: np.ndarray) -> np.ndarray:
    """(cos 2πt, sin 2πt), shape (…, 2)."""
    angle = 2 * math.pi * turns
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _classes(
    name: str, points: np.ndarray, labels: np.ndarray, names: tuple[str, ...], noise: float, rng: np.random.Generator
) -> Dataset:
    points = points + noise * rng.standard_normal(points.shape)
    return Dataset(name, points.astype(np.float32), labels.astype(np.int64), names)


def _mixture(name: str, centres: np.ndarray, n: int, noise: float, rng: np.random.Generator) -> Dataset:
    mode = np.arange(n) % len(centres)
    return _classes(name, centres[mode], mode, tuple(f"mode {k}" for k in range(len(centres))), noise, rng)


def _at_least(least: int, value: int, name: str) -> int:
    if not is_whole(value) or value < least:
        raise ValueError(f"{name} must be a whole number from {least}, got {value!r}")
    return int(value)


def _generator(n: int, groups: int, noise: float, seed: Seed, name: str) -> np.random.Generator:
    if not is_whole(n) or n < groups:
        raise ValueError(f"{name}: n must be a whole number from {groups}, one point a group, got {n!r}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"{name}: noise is a standard deviation from 0, got {noise!r}")
    return seed if isinstance(seed, np.random.Generator) else np.random.default_rng(checked_seed(seed))
