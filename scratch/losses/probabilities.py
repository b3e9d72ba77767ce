"""Losses between probabilities: x and t have one shape, weights broadcast against it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.half import in_float32_like_first
from scratch.losses.shared import REDUCTIONS, constant, pair, reduce
from scratch.tensor import Tensor, record


@in_float32_like_first
def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """ℓ = −w [v t ln σ(x) + (1 − t) ln(1 − σ(x))],  ∂ℓ/∂x = w (b σ(x) − v t) with b = 1 + (v − 1) t;  σ − t if v = 1

    v is `pos_weight`. With m = −ln σ(x) = max(−x, 0) + ln(1 + e^−|x|), which cannot overflow:
    ℓ = w [(1 − t) x + b m],  σ(x) = e^−m,  ∂ℓ/∂t = w ((v − 1) m − x)
    """
    name = "binary_cross_entropy_with_logits"
    x, t = pair(name, input, target, reduction)
    w, v = constant(name, "weight", weight, x), constant(name, "pos_weight", pos_weight, x)
    m = np.abs(x.data, out=np.empty_like(x.data))
    for step in (np.negative, np.exp, np.log1p):  # in place: an array less for each
        step(m, out=m)
    m -= np.minimum(x.data, 0)
    b = None if v is None else 1 + (v - 1) * t.data
    loss = 1 - t.data
    loss *= x.data
    loss += m if b is None else b * m
    y, share = reduce(loss if w is None else w * loss, reduction)

    def backward(dy):
        g, dx, dt = share(dy) if w is None else share(dy) * w, None, None
        if x.requires_grad:
            dx = np.negative(m, out=np.empty_like(m))
            np.exp(dx, out=dx)  # σ(x)
            if b is not None:
                dx *= b
            dx -= t.data if v is None else v * t.data
            dx *= g
        if t.requires_grad:
            dt = (-x.data if v is None else (v - 1) * m - x.data) * g
        return dx, dt

    return record(y, (x, t), backward)


@in_float32_like_first
def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """ℓ = −w [t ln x + (1 − t) ln(1 − x)],  ∂ℓ/∂x = w (x − t) / (x (1 − x)),  ∂ℓ/∂t = w (ln(1 − x) − ln x)

    As in PyTorch the logarithms are held above −100 and the denominator above 1e-12. Where there are logits,
    `binary_cross_entropy_with_logits` loses no digits. Raises ValueError for an x outside [0, 1].
    """
    x, t = pair("binary_cross_entropy", input, target, reduction)
    p = x.data
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"binary_cross_entropy expected probabilities in [0, 1], got {p.min()} to {p.max()}")
    w = constant("binary_cross_entropy", "weight", weight, x)
    with np.errstate(divide="ignore"):
        log_1, log_0 = np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)
    loss = (t.data - 1) * log_0 - t.data * log_1
    y, share = reduce(loss if w is None else w * loss, reduction)

    def backward(dy):
        g = share(dy) if w is None else share(dy) * w
        dx = (p - t.data) / np.maximum(p * (1 - p), 1e-12) * g if x.requires_grad else None
        return dx, (log_0 - log_1) * g if t.requires_grad else None

    return record(y, (x, t), backward)


@in_float32_like_first
def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """ℓ = t (ln t − x),  ∂ℓ/∂x = −t,  ∂ℓ/∂t = ln t + 1 − x;  x holds log-probabilities, and ℓ = 0 where t = 0

    If `log_target`, the target is l = ln t: ∂ℓ/∂l = t (l − x + 1). "batchmean" divides by the first axis's length and
    is the divergence as defined; "mean" divides by the elements. For t = 0, ∂ℓ/∂t is nan, as in PyTorch, and ∂ℓ/∂l 0.
    """
    x, t = pair("kl_div", input, target, reduction, (*REDUCTIONS, "batchmean"))
    if reduction == "batchmean" and x.ndim == 0:
        raise ValueError("kl_div: batchmean needs a first axis to divide by, got shape ()")
    if log_target:
        q, log_q = np.exp(t.data), t.data
    else:
        q, log_q = t.data, np.log(np.where(t.data == 0, 1, t.data))
    with np.errstate(invalid="ignore"):
        loss = np.where(q == 0, 0, q * (log_q - x.data)).astype(x.dtype, copy=False)
    y, share = reduce(loss, reduction, len(x) if reduction == "batchmean" else None)

    def backward(dy):
        g, dt = share(dy), None
        if t.requires_grad:
            with np.errstate(invalid="ignore"):
                dt = (log_q - x.data + 1) * g * (q if log_target else 1)
            dt = np.where(q == 0, 0 if log_target else math.nan, dt)
        return -q * g if x.requires_grad else None, dt

    return record(y, (x, t), backward)
