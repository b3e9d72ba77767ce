"""Rotary positions: queries and keys are turned, so that their product knows how far apart they stand."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32
from scratch.layers.positions.numbering import numbered
from scratch.module import Module
from scratch.tensor import Array, Tensor, record

PAIRINGS = ("interleaved", "halves")


@in_float32
def rotary(
    x: Any, offset: int = 0, positions: Any = None, base: float = 10000.0, pairing: str = "interleaved"
) -> Tensor:
    """Each pair (a, b) of features is turned by θ = position / base^(2i/hd)  (Su et al. 2021, eq. 34)

        (a, b) → (a cos θ − b sin θ, a sin θ + b cos θ)

    A turned query at t times a turned key at s depends on t − s only: R(t)ᵀ R(s) = R(s − t). A rotation's transpose is
    the rotation back, so ∂L/∂x is dy turned by −θ. What pair i is, `pairing` says:

        "interleaved"   features 2i and 2i + 1       RoFormer, GPT-J
        "halves"        features i and i + hd/2      GPT-NeoX, Llama

    Shapes: x (..., T, hd) → the same. positions: (T,), or (B, T) beside x (B, ..., T, hd); by default 0 … T − 1; offset
    is added. Raises ValueError for an odd hd, another pairing, and positions of another shape or below 0.
    """
    x = floating("rotary", x)
    if x.ndim < 2 or x.shape[-1] % 2:
        raise ValueError(f"rotary expected x of shape (..., T, hd) with an even hd, got {x.shape}")
    if pairing not in PAIRINGS:
        raise ValueError(f"rotary expected pairing 'interleaved' or 'halves', got {pairing!r}")
    batch = x.shape[0] if x.ndim > 2 else None
    where = numbered("rotary", positions, offset, batch, x.shape[-2])
    cos, sin = _angles(where, x.shape[-1], float(base), x.dtype)
    if where.ndim == 2:  # (B, 1, …, T, hd/2)
        cos, sin = (table.reshape(len(where), *[1] * (x.ndim - 3), *table.shape[1:]) for table in (cos, sin))

    def backward(dy):
        return (_turn(dy, cos, -sin, pairing),)

    return record(_turn(x.data, cos, sin, pairing), (x,), backward)


class RotaryPositions(Module):
    """`rotary` with its options, called on queries and on keys alike. Shapes: (..., T, hd) → the same."""

    def __init__(self, base: float = 10000.0, pairing: str = "interleaved"):
        if pairing not in PAIRINGS:
            raise ValueError(f"RotaryPositions expected pairing 'interleaved' or 'halves', got {pairing!r}")
        self.base, self.pairing = float(base), pairing

    def forward(self, x: Any, offset: int = 0, positions: Any = None) -> Tensor:
        if np.ndim(x) < 2 or np.shape(x)[-1] % 2:
            raise ValueError(f"{self!r} expected shape (..., T, hd) with an even hd, got {np.shape(x)}")
        return rotary(x, offset, positions, self.base, self.pairing)

    def extra_repr(self) -> str:
        return f"base={self.base}, pairing={self.pairing!r}"


def _turn(x: Array, cos: Array, sin: Array, pairing: str) -> Array:
    y = np.empty(x.shape, x.dtype)
    (a, b), (c, d) = (_pairs(array, pairing) for array in (x, y))
    np.multiply(a, cos, out=c)
    c -= b * sin
    np.multiply(a, sin, out=d)
    d += b * cos
    return y


def _pairs(x: Array, pairing: str) -> tuple[Array, Array]:
    """The first and the second of each pair, as views."""
    if pairing == "interleaved":
        return x[..., 0::2], x[..., 1::2]
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def _angles(where: Array, hd: int, base: float, dtype: Any) -> tuple[Array, Array]:
    """cos θ and sin θ for the positions, (*positions, hd/2)."""
    length = 1 << int(where.max(initial=0)).bit_length()  # a power of two, so that a growing cache reuses the tables
    cos, sin = _tables(length, hd, base, np.dtype(dtype))
    return cos[where], sin[where]


@functools.lru_cache(maxsize=8)
def _tables(length: int, hd: int, base: float, dtype: np.dtype) -> tuple[Array, Array]:
    speeds = np.exp(np.arange(0, hd, 2) * (-math.log(base) / max(hd, 1)))
    angles = np.arange(length)[:, None] * speeds
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
