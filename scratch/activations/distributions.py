"""Softmax and its logarithm: scores along one axis become the probabilities of a distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32
from scratch.sums import row_sums
from scratch.tensor import Array, Tensor, record


@in_float32
def softmax(x: Any, dim: int) -> Tensor:
    """yᵢ = e^xᵢ / Σⱼ e^xⱼ along `dim`,  ∂L/∂xᵢ = yᵢ (dyᵢ − Σⱼ dyⱼ yⱼ)

    The same for x − c with any number c. The largest x of all is the cheapest c that cannot overflow; where a row
    lies so far below it that its sum would lose digits, c is each row's own maximum.
    """
    x = _with_axis(x, "softmax", dim)
    y = x.data - x.data.max(initial=-math.inf)
    np.exp(y, out=y)
    total = _sum(y, dim)
    if not (total > 1e-12).all():
        y = x.data - x.data.max(axis=dim, keepdims=True)
        np.exp(y, out=y)
        total = _sum(y, dim)
    y /= total

    def backward(dy):
        dx = dy - _dot(dy, y, dim)
        dx *= y
        return (dx,)

    return record(y, (x,), backward)


@in_float32
def log_softmax(x: Any, dim: int) -> Tensor:
    """y = x − ln Σⱼ e^xⱼ along `dim`,  ∂L/∂xᵢ = dyᵢ − e^yᵢ Σⱼ dyⱼ"""
    x = _with_axis(x, "log_softmax", dim)
    y = x.data - x.data.max(axis=dim, keepdims=True)
    y -= np.log(_sum(np.exp(y), dim))

    def backward(dy):
        dx = np.exp(y)
        dx *= -_sum(dy, dim)
        dx += dy
        return (dx,)

    return record(y, (x,), backward)


def _sum(x: Array, dim: int) -> Array:
    """Σ x over one axis, which stays as 1; over short rows einsum is 2 to 4 times as fast as `sum`."""
    if dim in (-1, x.ndim - 1):
        return row_sums(x)[..., None]
    return x.sum(axis=dim, keepdims=True)


def _dot(a: Array, b: Array, dim: int) -> Array:
    """Σ a b over one axis, which stays as 1."""
    if dim in (-1, a.ndim - 1):
        return np.vecdot(a, b)[..., None]
    return (a * b).sum(axis=dim, keepdims=True)


def _with_axis(x: Any, name: str, dim: int) -> Tensor:
    x = floating(name, x)
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"{name}: dim {dim} is out of range for shape {x.shape}")
    return x
