"""Distances between numbers. In all of them the prediction x and the target t have one shape, and d = x − t."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.half import in_float32_like_first
from scratch.losses.shared import pair, reduce
from scratch.tensor import Tensor, record


@in_float32_like_first
def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """ℓ = (x − t)²,  ∂ℓ/∂x = 2 (x − t) = −∂ℓ/∂t"""
    x, t = pair("mse_loss", input, target, reduction)
    d = x.data - t.data
    y, share = reduce(d * d, reduction)

    def backward(dy):
        dx = d * (2 * share(dy))
        return dx, -dx if t.requires_grad else None

    return record(y, (x, t), backward)


@in_float32_like_first
def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """ℓ = |x − t|,  ∂ℓ/∂x = sign(x − t) = −∂ℓ/∂t  (0 where x = t)"""
    x, t = pair("l1_loss", input, target, reduction)
    d = x.data - t.data
    y, share = reduce(np.abs(d), reduction)

    def backward(dy):
        dx = np.sign(d) * share(dy)
        return dx, -dx if t.requires_grad else None

    return record(y, (x, t), backward)


@in_float32_like_first
def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """ℓ = ½ d² where |d| ≤ δ, else δ (|d| − ½ δ), for d = x − t  (Huber 1964):  ∂ℓ/∂x = d held in ±δ = −∂ℓ/∂t"""
    if not delta > 0:
        raise ValueError(f"huber_loss expected delta > 0, got {delta}")
    x, t = pair("huber_loss", input, target, reduction)
    return _huber(x, t, reduction, float(delta), 1.0)


@in_float32_like_first
def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """ℓ = Huber's with δ = β, divided by β, so that the slope far out is ±1  (Girshick 2015); β = 0 is `l1_loss`"""
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss expected beta >= 0, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction)
    x, t = pair("smooth_l1_loss", input, target, reduction)
    return _huber(x, t, reduction, float(beta), 1 / float(beta))


def _huber(x: Tensor, t: Tensor, reduction: str, delta: float, scale: float) -> Tensor:
    """ℓ = scale · c (|d| − ½ c) with c = min(|d|, δ): both of Huber's cases at once"""
    d = x.data - t.data
    size = np.abs(d)
    c = np.minimum(size, delta)
    y, share = reduce(scale * c * (size - 0.5 * c), reduction)

    def backward(dy):
        dx = np.clip(d, -delta, delta) * (scale * share(dy))
        return dx, -dx if t.requires_grad else None

    return record(y, (x, t), backward)
