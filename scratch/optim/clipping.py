"""Clipping: gradients held within a bound, so that one bad batch cannot throw the weights far away."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from scratch.optim.optimizer import PIECE
from scratch.tensor import Array, Tensor


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    """Scale all gradients by one factor, so that their norm, seen as a single vector, is at most `max_norm`.

        n = (Σ |g|ᵖ)^(1/p)  (p = ∞: max |g|)        g ← g · min(1, max_norm / (n + 10⁻⁶))

    Source: Pascanu, Mikolov and Bengio 2013, algorithm 1; the 10⁻⁶ is PyTorch's. Returns n, taken before clipping.
    Gradients may be shared or read-only: `grad` becomes a new array, and the old one stays as it was.
    A norm that is not finite makes gradients useless, as in PyTorch (∞: finite gradients become 0 and infinite ones
    NaN; NaN: all become NaN): check what is returned, or let `error_if_nonfinite` raise, with gradients untouched.
    Raises ValueError for a negative bound and for a norm_type that is not above 0.
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be at least 0, got {max_norm}")
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be above 0, or inf, got {norm_type}")
    owners = _with_gradients(parameters)
    total = float(_norm(np.array([_norm(grad, norm_type) for _, grad in owners]), norm_type))
    if error_if_nonfinite and not math.isfinite(total):
        raise ValueError(f"clip_grad_norm_: the gradients have the norm {total}, which is not finite")
    factor = float(max_norm) / (total + 1e-6)
    if not factor >= 1:  # NaN too
        with np.errstate(invalid="ignore"):
            for parameter, grad in owners:
                parameter.grad = np.multiply(grad, factor, dtype=np.result_type(grad, np.float32)).astype(grad.dtype)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Hold every element of every gradient between −clip_value and clip_value:  g ← max(−c, min(c, g))

    `grad` becomes a new array, NaN stays NaN. Raises ValueError for a negative bound.
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must be at least 0, got {clip_value}")
    for parameter, grad in _with_gradients(parameters):
        parameter.grad = np.asarray(np.clip(grad, -float(clip_value), float(clip_value)))


def _norm(g: Array, p: float) -> float:
    """(Σ |g|ᵖ)^(1/p), summed in pieces, so that float32 adds up few numbers; scaled by max |g| where it overflows."""
    if g.size == 0:
        return 0.0
    if p == math.inf:
        return float(np.abs(g).max())
    g = g.reshape(-1) if g.dtype != np.float16 else g.reshape(-1).astype(np.float32)
    with np.errstate(over="ignore"):
        powers = [_power_sum(g[start : start + PIECE], p) for start in range(0, g.size, PIECE)]
    total = math.fsum(powers) if sum(powers) < math.inf else math.nan
    if math.isfinite(total):
        return total ** (1 / p)
    largest = float(np.abs(g).max())
    return largest * _norm(g / largest, p) if math.isfinite(largest) else largest


def _power_sum(g: Array, p: float) -> float:
    if p == 2:
        return float(np.dot(g, g))
    return float((np.abs(g) ** p).sum())


def _with_gradients(parameters: Any) -> list[tuple[Tensor, Array]]:
    """(parameter, gradient) of those that have one; a parameter that comes twice counts once."""
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for parameter in given:
        if not isinstance(parameter, Tensor):
            raise ValueError(f"clipping expected Parameters, got {type(parameter).__name__}")
    return [(p, p.grad) for p in {id(p): p for p in given}.values() if p.grad is not None]
