"""The forward process, its posterior, and the three things that a denoiser may predict: formulas on arrays.

Every function takes the time t as one whole number for all of a batch, or as an array (B,) with one for each row.
Shapes: x (B, …), t () or (B,). Nothing here is trained, and nothing is random but the noise that is handed in.
"""

from __future__ import annotations

import numpy as np

from scratch.models.diffusion.noise import NoiseSchedule

PREDICTIONS = ("eps", "x0", "v")


def at(values: np.ndarray, t: np.ndarray | int, x: np.ndarray) -> np.ndarray:
    """values[t] in x's dtype, shaped to multiply x row by row: (1, …) or (B, 1, …)."""
    return np.reshape(values[t], (-1,) + (1,) * (x.ndim - 1)).astype(x.dtype)


def diffuse(x0: np.ndarray, t: np.ndarray | int, eps: np.ndarray, schedule: NoiseSchedule) -> np.ndarray:
    """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε: all t steps at once  (Ho et al. 2020, eq. 4)."""
    alpha_bar = at(schedule.alpha_bar, t, x0)
    return np.sqrt(alpha_bar) * x0 + np.sqrt(1 - alpha_bar) * eps


def diffuse_one_step(x: np.ndarray, t: np.ndarray | int, eps: np.ndarray, schedule: NoiseSchedule) -> np.ndarray:
    """x_t = √α_t x_{t−1} + √β_t ε  (eq. 2). t of them in a row have the distribution of `diffuse`."""
    return np.sqrt(at(schedule.alpha, t, x)) * x + np.sqrt(at(schedule.beta, t, x)) * eps


def posterior(
    x0: np.ndarray, x: np.ndarray, t: np.ndarray | int, schedule: NoiseSchedule
) -> tuple[np.ndarray, np.ndarray]:
    """(μ̃, β̃) of q(x_{t−1} | x_t, x_0) = N(μ̃, β̃ I): where x_t came from, if x_0 is known  (eq. 6 and 7)

        μ̃ = √ᾱ_{t−1} β_t / (1 − ᾱ_t) · x_0 + √α_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t) · x_t
        β̃ = (1 − ᾱ_{t−1}) / (1 − ᾱ_t) · β_t

    It follows from Bayes' rule, the product of two Gaussians in x_{t−1}: N(x_t; √α_t x_{t−1}, β_t) and
    N(x_{t−1}; √ᾱ_{t−1} x_0, 1 − ᾱ_{t−1}). t from 1; at t = 1 it is x_0 with variance 0.
    """
    before, now = schedule.alpha_bar[np.asarray(t) - 1], schedule.alpha_bar[t]
    alpha = now / before
    of_x0 = np.sqrt(before) * (1 - alpha) / (1 - now)
    of_x = np.sqrt(alpha) * (1 - before) / (1 - now)
    variance = (1 - before) / (1 - now) * (1 - alpha)
    return _rows(of_x0, x) * x0 + _rows(of_x, x) * x, _rows(variance, x)


def target(
    kind: str, x0: np.ndarray, eps: np.ndarray, t: np.ndarray | int, schedule: NoiseSchedule
) -> np.ndarray:
    """What the network is to say: ε, x_0, or v = √ᾱ_t ε − √(1 − ᾱ_t) x_0  (Salimans and Ho 2022)."""
    if kind == "eps":
        return eps
    if kind == "x0":
        return x0
    if kind == "v":
        alpha_bar = at(schedule.alpha_bar, t, x0)
        return np.sqrt(alpha_bar) * eps - np.sqrt(1 - alpha_bar) * x0
    raise ValueError(f"a denoiser predicts one of {', '.join(PREDICTIONS)}, got {kind!r}")


def x0_and_eps(
    kind: str, prediction: np.ndarray, x: np.ndarray, t: np.ndarray | int, schedule: NoiseSchedule
) -> tuple[np.ndarray, np.ndarray]:
    """(x̂_0, ε̂) from what a network said of x_t: two unknowns, and x_t = √ᾱ x̂_0 + √(1 − ᾱ) ε̂ between them

        from ε:  x̂_0 = (x_t − √(1 − ᾱ) ε̂) / √ᾱ        from x_0:  ε̂ = (x_t − √ᾱ x̂_0) / √(1 − ᾱ)
        from v:  x̂_0 = √ᾱ x_t − √(1 − ᾱ) v̂,   ε̂ = √(1 − ᾱ) x_t + √ᾱ v̂        (a rotation, so it divides by nothing)
    """
    alpha_bar = at(schedule.alpha_bar, t, x)
    signal, noise = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    if kind == "eps":
        return (x - noise * prediction) / signal, prediction
    if kind == "x0":
        return prediction, (x - signal * prediction) / noise
    if kind == "v":
        return signal * x - noise * prediction, noise * x + signal * prediction
    raise ValueError(f"a denoiser predicts one of {', '.join(PREDICTIONS)}, got {kind!r}")


def _rows(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.reshape(values, (-1,) + (1,) * (x.ndim - 1)).astype(x.dtype)
