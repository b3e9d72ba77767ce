"""Schedules: the learning rate as a pure function of the step, in order of increasing difficulty.

Each function here makes one: `schedule(step) -> lr` for the steps 0, 1, 2, ..., the number of updates made so far.
A schedule remembers nothing, so that a resumed run needs only its step, and a plot only a loop.

    schedule = cosine(lr=1e-3, total=1000, warmup=100)
    for step in range(1000):
        ...
        optimizer.lr = schedule(step)
        optimizer.step()

A warmup of w steps rises along a straight line, (step + 1)/w of the rate: the first update is not wasted on 0, and
the full rate is reached in the last step of the warmup. After `total` steps a schedule stays where it ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Schedule = Callable[[int], float]


def constant(lr: float, warmup: int = 0) -> Schedule:
    """η, after a linear rise over `warmup` steps. Raises ValueError for a negative rate or warmup."""
    _check_rate("constant", "lr", lr)
    _check_count("constant", "warmup", warmup, 0)

    def schedule(step: int) -> float:
        return lr * _rise(_check_step("constant", step), warmup)

    return schedule


def step(lr: float, every: int, gamma: float = 0.1) -> Schedule:
    """η γ^⌊step / every⌋: multiplied by γ after each `every` steps; PyTorch's StepLR.

    Raises ValueError for a negative rate or factor and for less than one step.
    """
    _check_rate("step", "lr", lr)
    _check_rate("step", "gamma", gamma)
    _check_count("step", "every", every, 1)

    def schedule(step: int) -> float:
        return lr * gamma ** (_check_step("step", step) // every)

    return schedule


def inverse_sqrt(lr: float | None = None, warmup: int = 4000, *, d_model: int | None = None) -> Schedule:
    """η · min(n / w, √(w / n)),  n = step + 1: a rise over w steps to η, then a fall with the root of n.

    Given the model's width instead of lr, η = (d_model · w)^(−1/2), which makes it "Attention Is All You Need"
    (Vaswani et al. 2017), eq. 3:  d_model^(−1/2) · min(n^(−1/2), n · w^(−3/2)).
    Raises ValueError unless exactly one of lr and d_model is given, and for less than one step of warmup.
    """
    _check_count("inverse_sqrt", "warmup", warmup, 1)
    if (lr is None) == (d_model is None):
        raise ValueError(f"inverse_sqrt expected either lr or d_model, got lr={lr} and d_model={d_model}")
    if d_model is not None:
        _check_count("inverse_sqrt", "d_model", d_model, 1)
    peak: float = 1 / math.sqrt(d_model * warmup) if d_model is not None else lr  # type: ignore[assignment]
    _check_rate("inverse_sqrt", "lr", peak)

    def schedule(step: int) -> float:
        n = _check_step("inverse_sqrt", step) + 1
        return peak * min(n / warmup, math.sqrt(warmup / n))

    return schedule


def cosine(lr: float, total: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """f + ½ (η − f) (1 + cos π x),  x = (step − w) / (total − w): half a wave from η down to the final rate f.

    Source: Loshchilov and Hutter 2017 (SGDR), eq. 5, without restarts; PyTorch's CosineAnnealingLR behind a linear
    rise over w steps. f is reached at step `total`, one after the last update of a run of `total` steps.
    Raises ValueError for negative rates, and for a warmup that is not shorter than the whole.
    """
    _check_rate("cosine", "lr", lr)
    _check_rate("cosine", "final", final)
    _check_count("cosine", "warmup", warmup, 0)
    _check_count("cosine", "total", total, warmup + 1)

    def schedule(step: int) -> float:
        if _check_step("cosine", step) < warmup:
            return lr * _rise(step, warmup)
        return _half_wave(lr, final, min(1.0, (step - warmup) / (total - warmup)))

    return schedule


def one_cycle(
    max_lr: float, total: int, pct_start: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4
) -> Schedule:
    """Half a wave up to η during the first part of the run, half a wave down to almost nothing during the rest.

        η / div_factor  →  η  →  η / (div_factor · final_div_factor)        the peak is at step pct_start · total − 1

    Source: Smith and Topin 2018; PyTorch's OneCycleLR with its cosines and two phases (momentum is left alone).
    Raises ValueError for a negative rate, less than two steps, pct_start outside [0, 1], and factors not above 0.
    """
    _check_rate("one_cycle", "max_lr", max_lr)
    _check_count("one_cycle", "total", total, 2)
    if not 0 <= pct_start <= 1:
        raise ValueError(f"one_cycle: pct_start must be from 0 to 1, got {pct_start}")
    for name, factor in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
        if not 0 < factor < math.inf:
            raise ValueError(f"one_cycle: {name} must be above 0 and finite, got {factor}")
    first, last = max_lr / div_factor, max_lr / div_factor / final_div_factor
    peak, end = pct_start * total - 1, total - 1

    def schedule(step: int) -> float:
        step = min(_check_step("one_cycle", step), end)
        if step < peak:
            return _half_wave(first, max_lr, step / peak)
        return _half_wave(max_lr, last, (step - peak) / (end - peak) if end > peak else 0.0)

    return schedule


def _rise(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def _half_wave(start: float, end: float, x: float) -> float:
    """From `start` at x = 0 to `end` at x = 1."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * x))


def _check_rate(owner: str, name: str, value: Any) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{owner}: {name} must be a number of at least 0, got {value}")


def _check_count(owner: str, name: str, value: Any, smallest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
        raise ValueError(f"{owner}: {name} must be a whole number, at least {smallest}, got {value!r}")


def _check_step(owner: str, step: int) -> int:
    if step < 0:
        raise ValueError(f"{owner}: steps count from 0, got {step}")
    return step
