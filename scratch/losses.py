"""Losses: how far a prediction is from its target. Each is one operation with its derivative right below.

Names, arguments and meanings are PyTorch's. With ℓ the loss of each element (of each position, where there are
classes), `reduction` "mean", "sum" or "none" gives 1/n Σ ℓ, Σ ℓ or ℓ itself, and ∂L/∂ℓ = g is dy/n, dy or dy.
A loss keeps the input's dtype: targets and weights are cast to it. Targets may require a gradient, weights not.
Input and target must have equal shapes: a column against a row would broadcast to a matrix, and train on nonsense.
ValueError says what was expected where shapes, dtypes, labels or options are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from scratch.module import Module
from scratch.tensor import Array, Buffer, Tensor, as_tensor, record

REDUCTIONS = ("mean", "sum", "none")

# -- distances between numbers: x and t of one shape ---------------------------------------------------------------


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """ℓ = (x − t)²,  ∂ℓ/∂x = 2 (x − t) = −∂ℓ/∂t"""
    x, t = _pair("mse_loss", input, target, reduction)
    d = x.data - t.data
    y, share = _reduce(d * d, reduction)

    def backward(dy):
        dx = d * (2 * share(dy))
        return dx, -dx if t.requires_grad else None

    return record(y, (x, t), backward)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """ℓ = |x − t|,  ∂ℓ/∂x = sign(x − t) = −∂ℓ/∂t  (0 where x = t)"""
    x, t = _pair("l1_loss", input, target, reduction)
    d = x.data - t.data
    y, share = _reduce(np.abs(d), reduction)

    def backward(dy):
        dx = np.sign(d) * share(dy)
        return dx, -dx if t.requires_grad else None

    return record(y, (x, t), backward)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """ℓ = ½ d² where |d| ≤ δ, else δ (|d| − ½ δ), for d = x − t  (Huber 1964):  ∂ℓ/∂x = d held in ±δ = −∂ℓ/∂t"""
    if not delta > 0:
        raise ValueError(f"huber_loss expected delta > 0, got {delta}")
    x, t = _pair("huber_loss", input, target, reduction)
    return _huber(x, t, reduction, float(delta), 1.0)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """ℓ = Huber's with δ = β, divided by β, so that the slope far out is ±1  (Girshick 2015); β = 0 is `l1_loss`"""
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss expected beta >= 0, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction)
    x, t = _pair("smooth_l1_loss", input, target, reduction)
    return _huber(x, t, reduction, float(beta), 1 / beta)


def _huber(x: Tensor, t: Tensor, reduction: str, delta: float, scale: float) -> Tensor:
    """ℓ = scale · c (|d| − ½ c) with c = min(|d|, δ): both of Huber's cases at once"""
    d = x.data - t.data
    size = np.abs(d)
    c = np.minimum(size, delta)
    y, share = _reduce(scale * c * (size - 0.5 * c), reduction)

    def backward(dy):
        dx = np.clip(d, -delta, delta) * (scale * share(dy))
        return dx, -dx if t.requires_grad else None

    return record(y, (x, t), backward)


# -- classes: scores (N, C), (C,) or (N, C, d₁, …), labels of that shape without C --------------------------------


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
    (Szegedy et al. 2016), (1 − s) of it plus s/C w. Labels equal to `ignore_index` count nothing. The mean divides
    Σ ℓ by Σ w_y over labels (nan if all are ignored, with gradient 0), over probabilities by the positions.

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
        q = _rows(_cast(t, x).data)
        slope = (1 - s) if w is None else (1 - s) * w
        q = q * slope + (s / q.shape[1] if w is None else s / q.shape[1] * w)
        return _soft_cross_entropy(x, q, reduction, len(q), t, slope)

    labels, w_y, count = _labels("cross_entropy", x, t, w, ignore_index)
    if s == 0:
        return _hard_cross_entropy(x, labels, w_y, reduction, count)
    C = _classes(x)
    w_y = np.ones(labels.size, x.dtype) if w_y is None else w_y
    q = np.zeros((labels.size, C), x.dtype)
    q += s / C if w is None else s / C * w
    q[np.arange(labels.size), labels] += (1 - s) * w_y
    q[t.data.reshape(-1) == ignore_index] = 0
    return _soft_cross_entropy(x, q, reduction, count)


def _hard_cross_entropy(x: Tensor, labels: Array, w_y: Array | None, reduction: str, count: float) -> Tensor:
    """ℓ = w_y (ln Σ_c e^{x_c} − x_y),  ∂ℓ/∂x_c = w_y (p_c − [c = y]); the same for x − max x, which cannot overflow"""
    rows = _rows(x.data)
    z = rows - rows.max(axis=1, keepdims=True)
    n = np.arange(labels.size)
    loss = -z[n, labels]
    e = np.exp(z, out=z)
    total = np.einsum("nc->n", e)  # over short rows three times as fast as `sum`
    loss += np.log(total)
    if w_y is not None:
        loss *= w_y
    y, share = _reduce(loss, reduction, count, _positions(x))

    def backward(dy):
        g = share(dy).reshape(-1)
        g = g if w_y is None else g * w_y
        dx = e * (g / total)[:, None]
        dx[n, labels] -= g
        return (_unrows(dx, x),)

    return record(y, (x,), backward)


def _soft_cross_entropy(
    x: Tensor, q: Array, reduction: str, count: float, t: Tensor | None = None, slope: Any = None
) -> Tensor:
    """ℓ = −Σ_c q_c ln p_c,  ∂ℓ/∂x = p Σ_c q_c − q,  and ∂ℓ/∂t = −slope · ln p where q = slope · t + a constant"""
    rows = _rows(x.data)
    log_p = rows - rows.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    y, share = _reduce(-np.einsum("nc,nc->n", q, log_p), reduction, count, _positions(x))

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


def nll_loss(
    input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """ℓ = −w_y x_y,  ∂ℓ/∂x_c = −w_y [c = y];  x holds log-probabilities, the rest is as in `cross_entropy`"""
    x, t, w = _scores("nll_loss", input, target, weight, reduction)
    labels, w_y, count = _labels("nll_loss", x, t, w, ignore_index)
    n = np.arange(labels.size)
    loss = -_rows(x.data)[n, labels]
    if w_y is not None:
        loss *= w_y
    y, share = _reduce(loss, reduction, count, _positions(x))

    def backward(dy):
        dx = np.zeros((labels.size, _classes(x)), dy.dtype)
        dx[n, labels] = -share(dy).reshape(-1) * (1 if w_y is None else w_y)
        return (_unrows(dx, x),)

    return record(y, (x,), backward)


# -- probabilities: x and t of one shape, weight broadcast against it ----------------------------------------------


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """ℓ = −w [v t ln σ(x) + (1 − t) ln(1 − σ(x))],  ∂ℓ/∂x = w (b σ(x) − v t) with b = 1 + (v − 1) t;  σ − t if v = 1

    v is `pos_weight`. With m = −ln σ(x) = max(−x, 0) + ln(1 + e^−|x|), which cannot overflow:
    ℓ = w [(1 − t) x + b m],  σ(x) = e^−m,  ∂ℓ/∂t = w ((v − 1) m − x)
    """
    name = "binary_cross_entropy_with_logits"
    x, t = _pair(name, input, target, reduction)
    w, v = _constant(name, "weight", weight, x), _constant(name, "pos_weight", pos_weight, x)
    m = np.log1p(np.exp(-np.abs(x.data)))
    m -= np.minimum(x.data, 0)
    b = 1 if v is None else 1 + (v - 1) * t.data
    loss = (1 - t.data) * x.data + b * m
    y, share = _reduce(loss if w is None else w * loss, reduction)

    def backward(dy):
        g = share(dy) if w is None else share(dy) * w
        dx = (b * np.exp(-m) - (t.data if v is None else v * t.data)) * g if x.requires_grad else None
        dt = (-x.data if v is None else (v - 1) * m - x.data) * g if t.requires_grad else None
        return dx, dt

    return record(y, (x, t), backward)


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """ℓ = −w [t ln x + (1 − t) ln(1 − x)],  ∂ℓ/∂x = w (x − t) / (x (1 − x)),  ∂ℓ/∂t = w (ln(1 − x) − ln x)

    As in PyTorch the logarithms are held above −100 and the denominator above 1e-12. Where there are logits,
    `binary_cross_entropy_with_logits` loses no digits. Raises ValueError for an x outside [0, 1].
    """
    x, t = _pair("binary_cross_entropy", input, target, reduction)
    p = x.data
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"binary_cross_entropy expected probabilities in [0, 1], got {p.min()} to {p.max()}")
    w = _constant("binary_cross_entropy", "weight", weight, x)
    with np.errstate(divide="ignore"):
        log_1, log_0 = np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)
    loss = (t.data - 1) * log_0 - t.data * log_1
    y, share = _reduce(loss if w is None else w * loss, reduction)

    def backward(dy):
        g = share(dy) if w is None else share(dy) * w
        dx = (p - t.data) / np.maximum(p * (1 - p), 1e-12) * g if x.requires_grad else None
        return dx, (log_0 - log_1) * g if t.requires_grad else None

    return record(y, (x, t), backward)


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """ℓ = t (ln t − x),  ∂ℓ/∂x = −t,  ∂ℓ/∂t = ln t + 1 − x;  x holds log-probabilities, and ℓ = 0 where t = 0

    If `log_target`, the target is l = ln t: ∂ℓ/∂l = t (l − x + 1). "batchmean" divides by the first axis's length and
    is the divergence as defined; "mean" divides by the elements. For t = 0, ∂ℓ/∂t is nan, as in PyTorch.
    """
    x, t = _pair("kl_div", input, target, reduction, (*REDUCTIONS, "batchmean"))
    if reduction == "batchmean" and x.ndim == 0:
        raise ValueError("kl_div: batchmean needs a first axis to divide by, got shape ()")
    if log_target:
        q, log_q = np.exp(t.data), t.data
    else:
        q, log_q = t.data, np.log(np.where(t.data == 0, 1, t.data))
    y, share = _reduce(q * (log_q - x.data), reduction, len(x) if reduction == "batchmean" else None)

    def backward(dy):
        g, dt = share(dy), None
        if t.requires_grad:
            dt = (log_q - x.data + 1) * (q if log_target else np.where(q == 0, math.nan, 1)) * g
        return -q * g if x.requires_grad else None, dt

    return record(y, (x, t), backward)


# -- what they share ---------------------------------------------------------------------------------------------


def _reduce(
    loss: Array, reduction: str, count: float | None = None, shape: tuple[int, ...] | None = None
) -> tuple[Any, Callable[[Array], Any]]:
    """The reduced loss, and the map from dy = ∂L/∂y to g = ∂L/∂ℓ; the mean is over `count`, by default the elements."""
    if reduction == "none":
        return loss if shape is None else loss.reshape(shape), lambda dy: dy
    total = loss.sum()
    if reduction == "sum":
        return total, lambda dy: dy
    count = loss.size if count is None else count
    if count == 0:
        return total * math.nan, lambda dy: dy * 0
    return total / count, lambda dy: dy / count


def _pair(name: str, input: Any, target: Any, reduction: str, allowed: tuple[str, ...] = REDUCTIONS):
    """Input and target as tensors of one shape and one floating-point dtype."""
    _check_reduction(name, reduction, allowed)
    x, t = _floating(name, input), as_tensor(target)
    if t.shape != x.shape:
        raise ValueError(f"{name} expected a target of the input's shape {x.shape}, got {t.shape}")
    return x, _cast(t, x)


def _scores(name: str, input: Any, target: Any, weight: Any, reduction: str) -> tuple[Tensor, Tensor, Array | None]:
    """Scores with a class axis, the target, and the classes' weights (C,) in the scores' dtype."""
    _check_reduction(name, reduction)
    x, t = _floating(name, input), as_tensor(target)
    if x.ndim == 0 or _classes(x) == 0:
        raise ValueError(f"{name} expected scores of shape (N, C), (C,) or (N, C, ...), got {x.shape}")
    w = _constant(name, "weight", weight, x, (_classes(x),))
    return x, t, w


def _labels(
    name: str, x: Tensor, t: Tensor, w: Array | None, ignore_index: int
) -> tuple[Array, Array | None, float]:
    """Labels in a row, the weight w_y of each (None: all 1; 0 where ignored, label 0 then) and the sum of weights."""
    C, shape = _classes(x), _positions(x)
    if t.dtype.kind not in "iu" or t.shape != shape:
        other = f", or probabilities of shape {x.shape}" if name == "cross_entropy" else ""
        raise ValueError(f"{name} expected integer labels of shape {shape}{other}, got {t.dtype} of shape {t.shape}")
    labels = t.data.reshape(-1)
    w_y = None if w is None else w.take(labels, mode="clip")
    if labels.size and (labels.min() < 0 or labels.max() >= C or 0 <= ignore_index < C):
        kept = labels != ignore_index
        wrong = kept & ((labels < 0) | (labels >= C))
        if wrong.any():
            at = int(wrong.argmax())
            where = tuple(int(i) for i in np.unravel_index(at, shape))
            raise ValueError(f"{name}: label {labels[at]} at position {where} is not one of {C} classes, 0 to {C - 1}")
        labels = np.where(kept, labels, 0)
        w_y = kept.astype(x.dtype) if w_y is None else w_y * kept
    return labels, w_y, labels.size if w_y is None else float(w_y.sum())


def _classes(x: Tensor) -> int:
    return x.shape[0 if x.ndim == 1 else 1]


def _positions(x: Tensor) -> tuple[int, ...]:
    """The shape without the class axis."""
    return x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()


def _rows(x: Array) -> Array:
    """Scores with the class axis last and all positions in a row: (R, C)."""
    if x.ndim == 2:
        return x
    return x[None] if x.ndim == 1 else np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def _unrows(rows: Array, x: Tensor) -> Array:
    """The inverse of `_rows`, in the shape of x."""
    if x.ndim <= 2:
        return rows.reshape(x.shape)
    return np.moveaxis(rows.reshape(*_positions(x), -1), -1, 1)


def _constant(name: str, what: str, value: Any, x: Tensor, shape: tuple[int, ...] | None = None) -> Array | None:
    """A weight as an array of x's dtype, of the given shape or else one that broadcasts to x's."""
    if value is None:
        return None
    tensor = as_tensor(value)
    if tensor.requires_grad:
        raise ValueError(f"{name}: {what} is a constant and cannot require a gradient")
    fits = tensor.shape == shape
    if shape is None:
        try:
            fits = np.broadcast_shapes(tensor.shape, x.shape) == x.shape
        except ValueError:
            fits = False
    if not fits:
        expected = f"shape {shape}" if shape is not None else f"a shape that broadcasts to {x.shape}"
        raise ValueError(f"{name} expected {what} of {expected}, got {tensor.shape}")
    return tensor.data.astype(x.dtype, copy=False)


def _cast(t: Tensor, x: Tensor) -> Tensor:
    if t.dtype == x.dtype:
        return t
    return t.astype(x.dtype) if t.requires_grad else Tensor(t.data.astype(x.dtype))


def _floating(name: str, input: Any) -> Tensor:
    x = as_tensor(input)
    if x.dtype.kind != "f":
        raise ValueError(f"{name} expected a floating-point input, got dtype {x.dtype}")
    return x


def _check_reduction(name: str, reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> None:
    if reduction not in allowed:
        raise ValueError(f"{name} expected reduction to be one of {', '.join(allowed)}, got {reduction!r}")


# -- the same as modules -----------------------------------------------------------------------------------------


class _Loss(Module):
    """A loss's options as a module; weights are buffers, and so part of `state_dict`, as in PyTorch."""

    reductions: tuple[str, ...] = REDUCTIONS

    def __init__(self, reduction: str = "mean"):
        _check_reduction(type(self).__name__, reduction, self.reductions)
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """`mse_loss` as a module."""

    def forward(self, input: Any, target: Any) -> Tensor:
        return mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """`l1_loss` as a module."""

    def forward(self, input: Any, target: Any) -> Tensor:
        return l1_loss(input, target, self.reduction)


class HuberLoss(_Loss):
    """`huber_loss` as a module."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Tensor:
        return huber_loss(input, target, self.reduction, self.delta)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}, delta={self.delta}"


class SmoothL1Loss(_Loss):
    """`smooth_l1_loss` as a module."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Tensor:
        return smooth_l1_loss(input, target, self.reduction, self.beta)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}, beta={self.beta}"


class CrossEntropyLoss(_Loss):
    """`cross_entropy` as a module."""

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ):
        super().__init__(reduction)
        self.weight = _buffer(weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Any, target: Any) -> Tensor:
        return cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )

    def extra_repr(self) -> str:
        smoothing = f"label_smoothing={self.label_smoothing}"
        return f"ignore_index={self.ignore_index}, reduction={self.reduction!r}, {smoothing}"


class NLLLoss(_Loss):
    """`nll_loss` as a module."""

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction)
        self.weight = _buffer(weight)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Tensor:
        return nll_loss(input, target, self.weight, self.ignore_index, self.reduction)

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}, reduction={self.reduction!r}"


class BCEWithLogitsLoss(_Loss):
    """`binary_cross_entropy_with_logits` as a module."""

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None):
        super().__init__(reduction)
        self.weight, self.pos_weight = _buffer(weight), _buffer(pos_weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        return binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class BCELoss(_Loss):
    """`binary_cross_entropy` as a module."""

    def __init__(self, weight: Any = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.weight = _buffer(weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        return binary_cross_entropy(input, target, self.weight, self.reduction)


class KLDivLoss(_Loss):
    """`kl_div` as a module."""

    reductions = (*REDUCTIONS, "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, input: Any, target: Any) -> Tensor:
        return kl_div(input, target, self.reduction, self.log_target)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}, log_target={self.log_target}"


def _buffer(weight: Any) -> Buffer | None:
    return None if weight is None else Buffer(as_tensor(weight).data)
