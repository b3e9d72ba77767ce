"""From noise to data, by three samplers, each written as the numbered steps of its paper.

A sampler asks one question, `denoise(x, t) -> (x̂_0, ε̂)`: what is behind the noise of x_t? `ask` makes one of a
network; a test makes one that knows the answer. All samplers visit the times of `times`, from the last to 0, and can
begin anywhere: at pure noise, or at an image that was noised up to a time t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scratch.blocks import cut, over
from scratch.models.diffusion.noise import NoiseSchedule
from scratch.models.diffusion.process import at, diffuse, posterior, x0_and_eps
from scratch.module import Module
from scratch.sampling import check_finite
from scratch.tensor import Tensor, no_grad

BLOCK_OF_POINTS, BLOCK_OF_IMAGES = 1024, 32  # rows at a time, for the cache; at least two parts, for two threads

Denoise = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
Look = Callable[[int, np.ndarray, np.ndarray], None]  # (t, x_t, x̂_0), before each step


def ask(
    model: Module,
    schedule: NoiseSchedule,
    kind: str = "eps",
    labels: np.ndarray | None = None,
    guidance: float = 0.0,
    limit: float | None = None,
) -> Denoise:
    """What a network says of x_t, as (x̂_0, ε̂).

    labels: (B,) classes for a model that takes them; `model.no_class` stands for none. guidance: the w of
    classifier-free guidance, out = (1 + w) f(x, c) − w f(x, none): away from what any image would be, towards the class
    (Ho and Salimans 2022, eq. 6); 0 asks once. limit: x̂_0 is clipped to ±limit, and ε̂ made to agree; right for pixels.
    What is returned raises ValueError, naming t, where the network's output is NaN or infinite.
    """

    def network(x: np.ndarray, t: int, y: np.ndarray | None) -> np.ndarray:
        times = np.full(len(x), t)

        def said_of(part: slice) -> np.ndarray:
            told = () if y is None else (y[part],)
            return model(Tensor(x[part]), times[part], *told).data

        most = min(-(-len(x) // 2), BLOCK_OF_POINTS if x.ndim == 2 else BLOCK_OF_IMAGES)
        return np.concatenate(over(cut(len(x), most), said_of))

    def denoise(x: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        was_training = model.training
        if was_training:
            model.eval()
        with no_grad():
            if labels is None or guidance == 0:
                said = network(x, t, labels)
            else:
                both = np.concatenate([labels, np.full_like(labels, model.no_class)])  # type: ignore[attr-defined]
                given, none = np.split(network(np.concatenate([x, x]), t, both), 2)
                said = (1 + guidance) * given - guidance * none
        if was_training:
            model.train()
        check_finite(said, f"the denoiser's output at t = {t}")
        x0, eps = x0_and_eps(kind, said, x, t, schedule)
        if limit is None:
            return x0, eps
        return x0_and_eps("x0", np.clip(x0, -limit, limit), x, t, schedule)

    return denoise


def spaced(T: int, steps: int | None = None) -> np.ndarray:
    """Times that rise from 0 to T, `steps` of them after the 0, as evenly as whole numbers allow: (steps + 1,)."""
    steps = T if steps is None else steps
    if not 1 <= steps <= T:
        raise ValueError(f"expected from 1 to T = {T} steps, got {steps}")
    return np.rint(np.linspace(0, T, steps + 1)).astype(int)


def ddpm(
    denoise: Denoise, x: np.ndarray, schedule: NoiseSchedule, times: np.ndarray, rng: np.random.Generator,
    large_variance: bool = False, look: Look | None = None,
) -> np.ndarray:  # fmt: skip
    """Ancestral sampling  (Ho et al. 2020, algorithm 2)

        1: x_T ~ N(0, I)                                              the x handed in
        2: for t = T … 1:
        3:     z ~ N(0, I) if t > 1, else z = 0
        4:     x_{t−1} = 1/√α_t (x_t − β_t/√(1 − ᾱ_t) ε̂) + σ_t z

    Line 4's mean is that of q(x_{t−1} | x_t, x̂_0), and is computed so (`process.posterior`): a clipped x̂_0 then needs
    no other formula. σ_t² is the posterior's β̃_t, or with large_variance β_t (the paper found both alike).
    With fewer times, α and β are those between the times that are visited.
    """
    visited = schedule.respaced(times)
    for i in range(len(times) - 1, 0, -1):
        x0, _ = denoise(x, int(times[i]))
        if look is not None:
            look(int(times[i]), x, x0)
        mean, variance = posterior(x0, x, i, visited)
        if large_variance:
            variance = at(visited.beta, i, x)
        x = mean + np.sqrt(variance) * normal(rng, x) if i > 1 else mean
    return x


def ddim(
    denoise: Denoise, x: np.ndarray, schedule: NoiseSchedule, times: np.ndarray,
    rng: np.random.Generator | None = None, eta: float = 0.0, look: Look | None = None,
) -> np.ndarray:  # fmt: skip
    """x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s − σ²) ε̂ + σ z   for each pair s < t of neighbouring times  (Song et al. 2021, eq. 12)

    σ = η √((1 − ᾱ_s) / (1 − ᾱ_t)) √(1 − ᾱ_t / ᾱ_s)  (eq. 16): η = 0 draws no noise, so that x_T decides everything;
    η = 1 over all times is DDPM. Raises ValueError for η > 0 without a generator.
    """
    if eta and rng is None:
        raise ValueError(f"ddim with eta = {eta} draws noise, and needs a generator")
    for s, t in reversed(list(zip(times[:-1], times[1:], strict=True))):
        x0, eps = denoise(x, int(t))
        if look is not None:
            look(int(t), x, x0)
        a_s, a_t = schedule.alpha_bar[s], schedule.alpha_bar[t]
        sigma = eta * np.sqrt((1 - a_s) / (1 - a_t) * (1 - a_t / a_s))
        x = _scaled(x0, np.sqrt(a_s)) + _scaled(eps, np.sqrt(max(1 - a_s - sigma * sigma, 0.0)))
        if sigma:
            x += _scaled(normal(rng, x), sigma)  # type: ignore[arg-type]
    return x


def heun(
    denoise: Denoise, x: np.ndarray, schedule: NoiseSchedule, times: np.ndarray, look: Look | None = None
) -> np.ndarray:
    """The probability-flow equation by Heun's second-order rule  (Karras et al. 2022, algorithm 1 without noise)

    In their variables u = x_t / √ᾱ_t = x_0 + σ ε, σ = √((1 − ᾱ) / ᾱ), the equation is du/dσ = (u − x̂_0) / σ = ε̂:

        1: for each pair σ' < σ of neighbouring noise levels:
        2:     d = ε̂(u, σ)
        3:     u' = u + (σ' − σ) d                                    Euler's step
        4:     if σ' > 0:  d' = ε̂(u', σ'),  u' = u + (σ' − σ) (d + d') / 2

    DDIM with η = 0 is lines 1 to 3. Two questions a step, but the last.
    """
    level = np.sqrt((1 - schedule.alpha_bar) / schedule.alpha_bar)
    signal = np.sqrt(schedule.alpha_bar)
    u = _scaled(x, 1 / signal[times[-1]])
    for s, t in reversed(list(zip(times[:-1], times[1:], strict=True))):
        x0, d = denoise(_scaled(u, signal[t]), int(t))
        if look is not None:
            look(int(t), _scaled(u, signal[t]), x0)
        h = level[s] - level[t]
        following = u + _scaled(d, h)
        if s > 0:
            _, d_there = denoise(_scaled(following, signal[s]), int(s))
            following = u + _scaled(d + d_there, h / 2)
        u = following
    return u


def karras_times(schedule: NoiseSchedule, steps: int, rho: float = 7.0) -> np.ndarray:
    """Times whose noise levels are spaced as σ^(1/ρ), closer towards the data  (Karras et al. 2022, eq. 5): for `heun`.

    Rounded to whole times, each at most once: (steps + 1,) or fewer, rising from 0.
    """
    level = np.sqrt((1 - schedule.alpha_bar) / schedule.alpha_bar)
    wanted = np.linspace(level[1] ** (1 / rho), level[-1] ** (1 / rho), steps) ** rho
    nearest = np.abs(np.log(level[1:, None]) - np.log(wanted)).argmin(axis=0) + 1
    return np.concatenate([[0], np.unique(nearest)])


def inpaint(
    denoise: Denoise, known: np.ndarray, mask: np.ndarray, schedule: NoiseSchedule, times: np.ndarray,
    rng: np.random.Generator, again: int = 1,
) -> np.ndarray:  # fmt: skip
    """Fill in where mask is 0 what agrees with `known` where it is 1  (Lugmayr et al. 2022, algorithm 1)

    At each time the known part is `known` itself, noised as far as the rest: x_s = mask · q(known) + (1 − mask) · x_s.
    again: how often each step is done; between, x_s is noised back to x_t, so that both parts can come to agree.
    """
    visited = schedule.respaced(times)
    x = normal(rng, known)
    for i in range(len(times) - 1, 0, -1):
        for repeat in range(again):
            x0, _ = denoise(x, int(times[i]))
            mean, variance = posterior(x0, x, i, visited)
            x = mean + np.sqrt(variance) * normal(rng, x)
            x = mask * diffuse(known, i - 1, normal(rng, known), visited) + (1 - mask) * x
            if repeat + 1 < again:
                x = np.sqrt(at(visited.alpha, i, x)) * x + np.sqrt(at(visited.beta, i, x)) * normal(rng, x)
    return x


def slerp(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """From a (share 0) to b (share 1) along the sphere: noise between two noises keeps its length  (Song et al. 2021)

    sin((1 − s) θ) / sin θ · a + sin(s θ) / sin θ · b,  θ the angle between a and b.
    """
    cosine = float(a.ravel() @ b.ravel() / (np.linalg.norm(a) * np.linalg.norm(b)))
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-6:  # the same direction: a straight line is the arc
        return _scaled(a, 1 - share) + _scaled(b, share)
    return _scaled(a, np.sin((1 - share) * angle) / np.sin(angle)) + _scaled(b, np.sin(share * angle) / np.sin(angle))


def normal(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    """Standard normal noise of an array's shape and dtype."""
    return rng.standard_normal(like.shape).astype(like.dtype)


def _scaled(x: np.ndarray, factor: Any) -> np.ndarray:
    return x * x.dtype.type(factor)
