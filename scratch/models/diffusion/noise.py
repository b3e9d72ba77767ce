"""Noise schedules: how much is left of the data, and how much noise there is, at each time t = 0 … T.

    q(x_t | x_{t−1}) = N(√α_t x_{t−1}, β_t I),   α_t = 1 − β_t            one step               (Ho et al. 2020, eq. 2)
    q(x_t | x_0)     = N(√ᾱ_t x_0, (1 − ᾱ_t) I),   ᾱ_t = α_1 α_2 … α_t      all steps at once       (eq. 4)
    snr_t            = ᾱ_t / (1 − ᾱ_t)                                     signal to noise, infinite at t = 0

Arrays are indexed by the paper's t: entry 0 is the data themselves, ᾱ_0 = 1 and β_0 = 0, and entry T is (nearly) noise.
A schedule is a sequence of ᾱ; everything else follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LARGEST_BETA = 0.999  # a step that leaves nothing at all could not be divided by (Nichol and Dhariwal 2021)


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """ᾱ_0 = 1 > ᾱ_1 > … > ᾱ_T > 0, float64, shape (T + 1,). Raises ValueError for any other sequence."""

    alpha_bar: np.ndarray

    def __post_init__(self) -> None:
        a = np.asarray(self.alpha_bar, np.float64)
        object.__setattr__(self, "alpha_bar", a)
        if a.ndim != 1 or len(a) < 2 or a[0] != 1 or not (np.diff(a) < 0).all() or not a[-1] > 0:
            raise ValueError("a noise schedule is ᾱ of shape (T + 1,), falling from exactly 1 to above 0")

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.alpha_bar) - 1

    @property
    def alpha(self) -> np.ndarray:
        """α_t = ᾱ_t / ᾱ_{t−1}, α_0 = 1: shape (T + 1,)."""
        return np.concatenate([[1.0], self.alpha_bar[1:] / self.alpha_bar[:-1]])

    @property
    def beta(self) -> np.ndarray:
        """β_t = 1 − α_t: shape (T + 1,)."""
        return 1 - self.alpha

    @property
    def snr(self) -> np.ndarray:
        """ᾱ_t / (1 − ᾱ_t), signal power over noise power: shape (T + 1,), infinite at t = 0."""
        with np.errstate(divide="ignore"):
            return self.alpha_bar / (1 - self.alpha_bar)

    def respaced(self, times: np.ndarray) -> NoiseSchedule:
        """The schedule that visits only these times, rising from 0: its own step i is the step times[i] of this one."""
        return NoiseSchedule(self.alpha_bar[times])


def linear(T: int = 1000, first: float = 1e-4, last: float = 0.02) -> NoiseSchedule:
    """β_t rises along a line from `first` to `last`  (Ho et al. 2020, §4).

    Stated for T = 1,000; for other T all β are multiplied by 1,000 / T, which keeps ᾱ_T  (Nichol and Dhariwal 2021).
    """
    beta = np.linspace(first, last, _steps(T)) * (1000 / T)
    return from_betas(np.minimum(beta, LARGEST_BETA))


def cosine(T: int = 1000, s: float = 0.008) -> NoiseSchedule:
    """ᾱ_t = f(t) / f(0),  f(t) = cos²((t/T + s) / (1 + s) · π/2), β ≤ 0.999  (Nichol and Dhariwal 2021, eq. 17)"""
    u = np.arange(_steps(T) + 1) / T
    return _limited(np.cos((u + s) / (1 + s) * math.pi / 2) ** 2)


def sigmoid(T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> NoiseSchedule:
    """ᾱ_t = (σ(−z_t) − σ(−z_T)) / (σ(−z_0) − σ(−z_T)),  z_t = (start + (end − start) t/T) / tau  (Jabri et al. 2022).

    σ is the logistic function; β at most 0.999.
    """
    z = (start + (end - start) * np.arange(_steps(T) + 1) / T) / tau
    falling = 1 / (1 + np.exp(z))
    return _limited(falling - falling[-1])


def from_betas(beta: np.ndarray) -> NoiseSchedule:
    """β_1 … β_T, shape (T,) → ᾱ_t = Π (1 − β_s)."""
    return NoiseSchedule(np.concatenate([[1.0], np.cumprod(1 - np.asarray(beta, np.float64))]))


def from_log_snr(log_snr: np.ndarray) -> NoiseSchedule:
    """ln(ᾱ_t / (1 − ᾱ_t)) for t = 1 … T, falling: shape (T,) → ᾱ_t = σ(log_snr_t)  (Kingma et al. 2021)."""
    return NoiseSchedule(np.concatenate([[1.0], 1 / (1 + np.exp(-np.asarray(log_snr, np.float64)))]))


SCHEDULES: dict[str, Callable[[int], NoiseSchedule]] = {"linear": linear, "cosine": cosine, "sigmoid": sigmoid}


def _limited(alpha_bar: np.ndarray) -> NoiseSchedule:
    """The schedule that follows this curve from step to step, with every β at most LARGEST_BETA."""
    return from_betas(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], LARGEST_BETA))


def _steps(T: int) -> int:
    if T < 1:
        raise ValueError(f"a noise schedule needs at least one step, got T = {T}")
    return T
