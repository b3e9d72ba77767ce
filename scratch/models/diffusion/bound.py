"""How well a denoiser models the data, in bits per dimension: the variational bound  (Ho et al. 2020, eq. 5 and §3.3)

    −log p(x_0) ≤ L_T + Σ_{t=2…T} L_{t−1} + L_0

    L_T     = KL(q(x_T | x_0) ‖ N(0, I))                       what the last noise still says of the image
    L_{t−1} = KL(q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t))      both Gaussian, of the variance β̃_t
            = |μ̃(x_0, x_t) − μ̃(x̂_0, x_t)|² / (2 β̃_t)           per image, summed over its numbers
    L_0     = −log p(x_0 | x_1)                                a Gaussian about x̂_0, integrated over the pixel's bin

The numbers of an image are whole, 0 … 255, spread over −1 … 1; a bin is 2/255 wide, the outermost reach to
infinity. Divided by ln 2 and by the count of numbers, it is the bits that each pixel would take to send.
"""

from __future__ import annotations

import math

import numpy as np

from scratch.models.diffusion.noise import NoiseSchedule
from scratch.models.diffusion.process import diffuse, posterior
from scratch.models.diffusion.sampling import Denoise, normal

BIN = 2 / 255


def bits_per_dimension(
    denoise: Denoise, x0: np.ndarray, schedule: NoiseSchedule, rng: np.random.Generator, times: np.ndarray | None = None
) -> dict[str, float]:
    """{'L_T', 'L_t', 'L_0', 'bits'}: the bound's parts and their sum, in bits per dimension, averaged over x0.

    times: at which of 2 … T the middle terms are computed, each once; the sum over all of them is estimated from these
    (all by default). Shapes: x0 (N, …) in −1 … 1.
    """
    scale = 1 / (math.log(2) * x0[0].size)
    chosen = np.arange(2, schedule.T + 1) if times is None else times
    middle = [step(denoise, x0, int(t), schedule, rng) for t in chosen]
    parts = {
        "L_T": scale * last(x0, schedule),
        "L_t": scale * (schedule.T - 1) * float(np.mean(middle)) if len(middle) else 0.0,
        "L_0": scale * first(denoise, x0, schedule, rng),
    }
    return parts | {"bits": sum(parts.values())}


def last(x0: np.ndarray, schedule: NoiseSchedule) -> float:
    """KL(N(√ᾱ_T x_0, 1 − ᾱ_T) ‖ N(0, 1)) = ½ Σ (1 − ᾱ_T + ᾱ_T x_0² − 1 − ln(1 − ᾱ_T)), in nats per image."""
    a = float(schedule.alpha_bar[-1])
    squares = float((x0.astype(np.float64) ** 2).sum()) / len(x0)
    return 0.5 * (a * squares - x0[0].size * (a + math.log1p(-a)))


def step(denoise: Denoise, x0: np.ndarray, t: int, schedule: NoiseSchedule, rng: np.random.Generator) -> float:
    """|μ̃(x_0, x_t) − μ̃(x̂_0, x_t)|² / (2 β̃_t), in nats per image, for one draw of x_t."""
    x = diffuse(x0, t, normal(rng, x0), schedule)
    guess, _ = denoise(x, t)
    mean, variance = posterior(x0.astype(np.float64), x.astype(np.float64), t, schedule)
    guessed, _ = posterior(guess.astype(np.float64), x.astype(np.float64), t, schedule)
    return float(((mean - guessed) ** 2 / (2 * variance)).sum()) / len(x0)


def first(denoise: Denoise, x0: np.ndarray, schedule: NoiseSchedule, rng: np.random.Generator) -> float:
    """−Σ ln ∫ over the pixel's bin of N(x̂_0, β_1), in nats per image  (eq. 13)."""
    x = diffuse(x0, 1, normal(rng, x0), schedule)
    guess, _ = denoise(x, 1)
    sigma = math.sqrt(float(schedule.beta[1]))
    offset = x0.astype(np.float64) - guess
    above = np.where(x0 > 1 - BIN / 2, 1.0, normal_cdf((offset + BIN / 2) / sigma))
    below = np.where(x0 < -1 + BIN / 2, 0.0, normal_cdf((offset - BIN / 2) / sigma))
    return float(-np.log(np.maximum(above - below, 1e-12)).sum()) / len(x0)


def normal_cdf(z: np.ndarray) -> np.ndarray:
    """Φ(z) = ½ (1 + erf(z / √2))."""
    return 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
