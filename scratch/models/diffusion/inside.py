"""What is to be seen on the way from noise to data: functions that return arrays, for any denoiser."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scratch.models.diffusion.noise import NoiseSchedule
from scratch.models.diffusion.process import diffuse
from scratch.models.diffusion.sampling import Denoise, ddim, ddpm, normal, slerp, spaced


def noising(x0: np.ndarray, times: Sequence[int], schedule: NoiseSchedule, rng: np.random.Generator) -> np.ndarray:
    """The same data drowning in the same noise, at these times.  Shapes: x0 (N, …) → (N, times, …)"""
    eps = normal(rng, x0)
    return np.stack([diffuse(x0, t, eps, schedule) for t in times], axis=1)


def path(
    denoise: Denoise, x: np.ndarray, schedule: NoiseSchedule, steps: int, show: int = 10,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """(times, x_t, x̂_0) along the way from x, at about `show` of the times, the data themselves last (t = 0).

    By DDPM with a generator, else by DDIM. Shapes: x (N, …) → (K,), (N, K, …), (N, K, …)
    """
    seen: list[tuple[int, np.ndarray, np.ndarray]] = []
    visited = spaced(schedule.T, steps)

    def look(t: int, state: np.ndarray, guess: np.ndarray) -> None:
        seen.append((t, state, guess))

    end = ddpm(denoise, x, schedule, visited, rng, look=look) if rng else ddim(denoise, x, schedule, visited, look=look)
    chosen = [seen[i] for i in np.unique(np.linspace(0, len(seen) - 1, show).round().astype(int))]
    chosen.append((0, end, end))
    times, states, guesses = zip(*chosen, strict=True)
    return np.array(times), np.stack(states, axis=1), np.stack(guesses, axis=1)


def reconstruct(
    denoise: Denoise, x0: np.ndarray, t: int, schedule: NoiseSchedule, rng: np.random.Generator, steps: int = 50
) -> tuple[np.ndarray, np.ndarray]:
    """(x_t, what comes back): data noised up to the time t, and from there by DDIM, of whose times those below t.

    What survives is what x_t still says; the rest is invented anew.  Shapes: x0 (N, …) → twice the same
    """
    x = diffuse(x0, t, normal(rng, x0), schedule)
    below = spaced(schedule.T, steps)
    return x, ddim(denoise, x, schedule, np.append(below[below < t], t))


def interpolate(
    denoise: Denoise, a: np.ndarray, b: np.ndarray, shares: Sequence[float], schedule: NoiseSchedule, steps: int = 50
) -> np.ndarray:
    """What DDIM makes of noises on the arc from a to b.  Shapes: a, b (…) → (shares, …)"""
    noises = np.stack([slerp(a, b, share) for share in shares])
    return ddim(denoise, noises, schedule, spaced(schedule.T, steps))


def score_field(
    denoise: Denoise, t: int, schedule: NoiseSchedule, reach: float = 2.5, count: int = 21
) -> tuple[np.ndarray, np.ndarray]:
    """(places, ∇ log q(x_t)) on a grid of the plane: where the data lie, seen through the noise of time t.

        ∇ log q(x_t) = −E[ε | x_t] / √(1 − ᾱ_t)          (Vincent 2011; Song and Ermon 2019)

    Shapes: (count², 2), (count², 2)
    """
    line = np.linspace(-reach, reach, count, dtype=np.float32)
    places = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    _, eps = denoise(places, t)
    return places, -eps / np.float32(np.sqrt(1 - schedule.alpha_bar[t]))
