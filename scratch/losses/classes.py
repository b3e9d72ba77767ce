"""Losses over classes: scores (N, C), (C,) or (N, C, d₁, …) against labels of that shape without C.

Inside, the scores are rows (R, C), one a position, and the labels a row (R,).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32_like_first
from scratch.losses.shared import cast, check_reduction, constant, reduce
from scratch.sums import row_sums
from scratch.tensor import Array, Tensor, as_tensor, record


@in_float32_like_first
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """ℓ = −Σ_c q_c ln p_c with p = softmax(x) over the classes:  ∂ℓ/∂x = p Σ_c q_c − q,  p − q where q sums to 1

    q is the target distribution times the classes' weights w: for a label y, w_y at y and 0 elsewhere; smoothed by s
    (Szegedy et al. 2016), (1 − s) of it plus s/C w. Labels equal to `ignore_index` count nothing, whatever the scores
    (PyTorch: NaN scores give NaN gradients), nor does q_c = 0 where p_c = 0 (PyTorch: NaN). The mean divides Σ ℓ by
    Σ w_y over labels (nan if all are ignored, with gradient 0), over probabilities by the positions.

    Shapes: x (N, C), (C,) or (N, C, d₁, …); target: integers in [0, C) of that shape without C, or probabilities of
    x's shape; weight (C,) → a scalar, or for "none" the shape without C.
    Raises ValueError for other shapes, dtypes and labels, and for an ignore_index ≥ 0 beside probabilities.
    """
    x, t, w = _scores("cross_entropy", input, target, weight, reduction)
    s = float(label_smoothing)
    if not 0 <= s <= 1:
        raise ValueError(f"cross_entropy expected 0 <= label_smoothing <= 1, got {label_smoothing}")
    if t.shape == x.shape and t.dtype.kind == "f":
        if ignore_index >= 0:
            raise ValueError(f"cross_entropy: probabilities cannot be ignored, got ignore_index={ignore_index}")
        q = _rows(cast(t, x).data)
        slope = (1 - s) if w is None else (1 - s) * w
        q = q * slope + (s / q.shape[1] if w is None else s / q.shape[1] * w)
        return _soft_cross_entropy(x, q, reduction, len(q), t, slope)

    labels, w_y, count, ignored = _labels("cross_entropy", x, t, w, ignore_index)
    if s == 0:
        return _hard_cross_entropy(x, labels, w_y, reduction, count, ignored)
    C = _classes(x)
    w_y = np.ones(labels.size, x.dtype) if w_y is None else w_y
    q = np.zeros((labels.size, C), x.dtype)
    q += s / C if w is None else s / C * w
    q[np.arange(labels.size), labels] += (1 - s) * w_y
    if ignored is not None:
        q[ignored] = 0
    return _soft_cross_entropy(x, q, reduction, count, ignored=ignored)


def _hard_cross_entropy(
    x: Tensor, labels: Array, w_y: Array | None, reduction: str, count: float, ignored: Array | None
) -> Tensor:
    """ℓ = w_y (ln Σ_c e^{x_c} − x_y),  ∂ℓ/∂x_c = w_y (p_c − [c = y]); the same for x − max x, which cannot overflow"""
    rows = _rows(x.data, ignored)
    z = rows - _largest(rows)
    n = np.arange(labels.size)
    loss = -z[n, labels]
    e = np.exp(z, out=z)
    total = row_sums(e)
    loss += np.log(total)
    if w_y is not None:
        loss *= w_y
    y, share = reduce(loss, reduction, count, _positions(x))

    def backward(dy):
        g = share(dy).reshape(-1)
        g = g if w_y is None else g * w_y
        dx = e * (g / total)[:, None]
        dx[n, labels] -= g
        return (_unrows(dx, x),)

    return record(y, (x,), backward)


def _soft_cross_entropy(
    x: Tensor, q: Array, reduction: str, count: float, t: Tensor | None = None, slope: Any = None,
    ignored: Array | None = None,
) -> Tensor:  # fmt: skip
    """ℓ = −Σ_c q_c ln p_c,  ∂ℓ/∂x = p Σ_c q_c − q,  and ∂ℓ/∂t = −slope · ln p where q = slope · t + a constant"""
    rows = _rows(x.data, ignored)
    log_p = rows - _largest(rows)
    log_p -= np.log(row_sums(np.exp(log_p)))[:, None]
    finite = np.where((q == 0) & (log_p == -math.inf), 0, log_p) if log_p.min(initial=0) == -math.inf else log_p
    y, share = reduce(-np.einsum("nc,nc->n", q, finite), reduction, count, _positions(x))

    def backward(dy):
        g = share(dy).reshape(-1, 1)
        dx = dt = None
        if x.requires_grad:
            dx = np.exp(log_p)
            dx *= q.sum(axis=1, keepdims=True)
            dx -= q
            dx *= g
            dx = _unrows(dx, x)
        if t is not None and t.requires_grad:
            dt = _unrows(-g * slope * log_p, x)
        return (dx,) if t is None else (dx, dt)

    return record(y, (x,) if t is None else (x, t), backward)


@in_float32_like_first
def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """ℓ = −w_y x_y,  ∂ℓ/∂x_c = −w_y [c = y];  x holds log-probabilities, the rest is as in `cross_entropy`"""
    x, t, w = _scores("nll_loss", input, target, weight, reduction)
    labels, w_y, count, ignored = _labels("nll_loss", x, t, w, ignore_index)
    n = np.arange(labels.size)
    loss = -_rows(x.data, ignored)[n, labels]
    if w_y is not None:
        loss *= w_y
    y, share = reduce(loss, reduction, count, _positions(x))

    def backward(dy):
        dx = np.zeros((labels.size, _classes(x)), dy.dtype)
        dx[n, labels] = -share(dy).reshape(-1) * (1 if w_y is None else w_y)
        return (_unrows(dx, x),)

    return record(y, (x,), backward)


def _scores(name: str, input: Any, target: Any, weight: Any, reduction: str) -> tuple[Tensor, Tensor, Array | None]:
    """Scores with a class axis, the target, and the classes' weights (C,) in the scores' dtype."""
    check_reduction(name, reduction)
    x, t = floating(name, input), as_tensor(target)
    if x.ndim == 0 or _classes(x) == 0:
        raise ValueError(f"{name} expected scores of shape (N, C), (C,) or (N, C, ...), got {x.shape}")
    w = constant(name, "weight", weight, x, (_classes(x),))
    return x, t, w


def _labels(
    name: str, x: Tensor, t: Tensor, w: Array | None, ignore_index: int
) -> tuple[Array, Array | None, float, Array | None]:
    """Labels in a row, the weight w_y of each (None: all 1; 0 where ignored, label 0 then), the sum of weights, and
    where labels are ignored (None: nowhere)."""
    C, shape = _classes(x), _positions(x)
    if t.dtype.kind not in "iu" or t.shape != shape:
        other = f", or probabilities of shape {x.shape}" if name == "cross_entropy" else ""
        raise ValueError(f"{name} expected integer labels of shape {shape}{other}, got {t.dtype} of shape {t.shape}")
    labels = t.data.flatten()  # a copy: the caller may refill the labels before backward
    ignored, w_y = None, None if w is None else w.take(labels, mode="clip")
    if labels.size and (labels.min() < 0 or labels.max() >= C or 0 <= ignore_index < C):
        kept = labels != ignore_index
        wrong = kept & ((labels < 0) | (labels >= C))
        if wrong.any():
            at = int(wrong.argmax())
            where = tuple(int(i) for i in np.unravel_index(at, shape))
            raise ValueError(f"{name}: label {labels[at]} at position {where} is not one of {C} classes, 0 to {C - 1}")
        labels = np.where(kept, labels, 0)
        w_y = kept.astype(x.dtype) if w_y is None else w_y * kept
        ignored = None if kept.all() else ~kept
    return labels, w_y, labels.size if w_y is None else float(w_y.sum()), ignored


def _classes(x: Tensor) -> int:
    return x.shape[0 if x.ndim == 1 else 1]


def _positions(x: Tensor) -> tuple[int, ...]:
    """The shape without the class axis."""
    return x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()


def _rows(x: Array, ignored: Array | None = None) -> Array:
    """Scores with the class axis last and all positions in a row: (R, C).

    Ignored rows are 0 where their scores are not finite, so that their weight 0 meets no ∞ or NaN.
    """
    rows = x if x.ndim == 2 else x[None] if x.ndim == 1 else np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    if ignored is not None and not np.isfinite(rows[ignored]).all():
        rows = np.where(ignored[:, None], 0, rows)
    return rows


def _largest(rows: Array) -> Array:
    """The maximum of each row, (R, 1). Of short rows by columns: `max` takes 40 ns a row, however short it is."""
    return functools.reduce(np.maximum, rows.T)[:, None] if rows.shape[1] <= 16 else rows.max(axis=1, keepdims=True)


def _unrows(rows: Array, x: Tensor) -> Array:
    """The inverse of `_rows`, in the shape of x."""
    if x.ndim <= 2:
        return rows.reshape(x.shape)
    return np.moveaxis(rows.reshape(*_positions(x), _classes(x)), -1, 1)
