"""Layer norm and RMS norm: every row for itself, so that neither the batch nor its size matters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32
from scratch.module import Module
from scratch.sums import column_sums, row_dots, row_sums
from scratch.tensor import Parameter, Tensor, as_tensor, record

Shape = int | Sequence[int]


@in_float32
def layer_norm(
    x: Any, normalized_shape: Shape, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """y = w x̂ + b,  x̂ = (x − μ) / σ,  σ = √(var + eps),  μ and var of each row  (Ba, Kiros and Hinton 2016)

    x̂ changes with x directly, through μ and through σ. For a row of n numbers, with g = w dy:

        ∂L/∂x = (g − mean g − x̂ · mean(g x̂)) / σ        ∂L/∂w = Σ dy x̂        ∂L/∂b = Σ dy        (Σ over the rows)

    The two means are what a change of all x by a constant, or by a factor, would have contributed: x̂ ignores both.
    Shapes: x (..., *normalized_shape), weight and bias normalized_shape → as x. Raises ValueError for another x.
    """
    x, n = floating("layer_norm", x), _row_length("layer_norm", x, normalized_shape)
    shifted = bias is not None
    weight, bias = affine("layer_norm", weight, bias, _tuple(normalized_shape), x)
    w, eps = weight.data.reshape(n), float(eps)
    rows = x.data.reshape(-1, n)
    mean = row_sums(rows) / n
    x_hat = rows - mean[:, None]
    one_over_sigma = (1 / np.sqrt(row_dots(x_hat, x_hat) / n + eps))[:, None]  # multiplying is faster than dividing
    x_hat *= one_over_sigma
    y = x_hat * w
    if shifted:
        y += bias.data.reshape(n)

    def backward(dy):
        dy = dy.reshape(rows.shape)
        dy_x_hat = dy * x_hat
        dx = None
        if x.requires_grad:
            dx = dy * w
            dx -= (row_dots(dy, w) / n)[:, None]
            dx -= x_hat * (row_dots(dy_x_hat, w) / n)[:, None]
            dx *= one_over_sigma
            dx = dx.reshape(x.shape)
        dw = column_sums(dy_x_hat).reshape(weight.shape) if weight.requires_grad else None
        db = column_sums(dy).reshape(bias.shape) if bias.requires_grad else None
        return dx, dw, db

    return record(y.reshape(x.shape), (x, weight, bias), backward)


@in_float32
def rms_norm(x: Any, normalized_shape: Shape, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """y = w x̂,  x̂ = x / ρ,  ρ = √(mean x² + eps) of each row  (Zhang and Sennrich 2019)

    Layer norm without centring. For a row of n numbers, with g = w dy:

        ∂L/∂x = (g − x̂ · mean(g x̂)) / ρ        ∂L/∂w = Σ dy x̂        (Σ over the rows)

    Shapes: x (..., *normalized_shape), weight normalized_shape → as x. eps None is the dtype's machine epsilon.
    Raises ValueError for another x.
    """
    x, n = floating("rms_norm", x), _row_length("rms_norm", x, normalized_shape)
    eps = float(np.finfo(x.dtype).eps if eps is None else eps)
    weight, _ = affine("rms_norm", weight, None, _tuple(normalized_shape), x)
    w = weight.data.reshape(n)
    rows = x.data.reshape(-1, n)
    rho = np.sqrt(row_dots(rows, rows) / n + eps)
    x_hat = rows / rho[:, None]

    def backward(dy):
        dy = dy.reshape(rows.shape)
        dy_x_hat = dy * x_hat
        dx = None
        if x.requires_grad:
            dx = dy * w
            dx -= x_hat * (row_dots(dy_x_hat, w) / n)[:, None]
            dx /= rho[:, None]
            dx = dx.reshape(x.shape)
        dw = column_sums(dy_x_hat).reshape(weight.shape) if weight.requires_grad else None
        return dx, dw

    return record((x_hat * w).reshape(x.shape), (x, weight), backward)


class LayerNorm(Module):
    """Each row brought to mean 0 and variance 1, then scaled by `weight` (ones) and shifted by `bias` (zeros).

    Shapes: (..., *normalized_shape) → the same. Raises ValueError for other last axes.
    """

    def __init__(
        self, normalized_shape: Shape, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ):
        self.normalized_shape = _tuple(normalized_shape)
        self.eps = float(eps)
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(np.ones(self.normalized_shape, np.float32)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(self.normalized_shape, np.float32)) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Tensor:
        _row_length(self, x, self.normalized_shape)
        return layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        return f"{self.normalized_shape}, eps={self.eps}, {affine}"


class RMSNorm(Module):
    """Each row divided by the root of its mean square, then scaled by `weight` (ones).

    Shapes: (..., *normalized_shape) → the same. Raises ValueError for other last axes.
    """

    def __init__(self, normalized_shape: Shape, eps: float | None = None, elementwise_affine: bool = True):
        self.normalized_shape = _tuple(normalized_shape)
        self.eps = None if eps is None else float(eps)
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(np.ones(self.normalized_shape, np.float32)) if elementwise_affine else None

    def forward(self, x: Any) -> Tensor:
        _row_length(self, x, self.normalized_shape)
        return rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


def affine(who: str, weight: Any, bias: Any, shape: tuple[int, ...], x: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and the shift, constants 1 and 0 where there is none. Raises ValueError for one of another shape."""
    w = Tensor(np.ones(shape, x.dtype)) if weight is None else as_tensor(weight)
    b = Tensor(np.zeros(shape, x.dtype)) if bias is None else as_tensor(bias)
    for name, came in (("weight", w), ("bias", b)):
        if came.shape != shape:
            raise ValueError(f"{who} expected {name} of shape {shape}, got {came.shape}")
    return w, b


def _tuple(shape: Shape) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"normalized_shape expected sizes of at least 1, got {sizes}")
    return tuple(int(size) for size in sizes)


def _row_length(who: Any, x: Any, normalized_shape: Shape) -> int:
    """How many numbers are normalised together. Raises ValueError unless these are x's last axes."""
    sizes = _tuple(normalized_shape)
    if np.shape(x)[-len(sizes) :] != sizes:
        expected = ", ".join(["...", *map(str, sizes)])
        raise ValueError(f"{who} expected shape ({expected}), got {np.shape(x)}")
    return math.prod(sizes)
