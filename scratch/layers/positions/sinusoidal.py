"""Sinusoidal positions: every pair of features is the hand of a clock, each clock slower than the one before."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.layers.positions.numbering import numbered
from scratch.module import Module
from scratch.tensor import Tensor


def sinusoidal_table(length: int, dim: int, base: float = 10000.0, dtype: Any = np.float32) -> np.ndarray:
    """PE[t, 2i] = sin(t / base^(2i/dim)),  PE[t, 2i + 1] = cos(t / base^(2i/dim))  (Vaswani et al. 2017, §3.5)

    A step of k positions turns every pair by an angle that does not depend on t: PE[t + k] is a linear map of PE[t].
    → (length, dim), computed in float64. Raises ValueError for a negative length and for dim below 1.
    """
    if length < 0 or dim < 1:
        raise ValueError(f"sinusoidal_table expected length >= 0 and dim >= 1, got {length} and {dim}")
    return clocks(np.arange(length), dim, base, dtype)


def clocks(t: np.ndarray, dim: int, base: float = 10000.0, dtype: Any = np.float32) -> np.ndarray:
    """The rows of the table at any times t, which need not be whole.  Shapes: (B,) → (B, dim)"""
    speeds = np.exp(np.arange(0, dim, 2) * (-math.log(base) / dim))
    angles = t[:, None] * speeds
    table = np.empty((len(t), dim))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : dim // 2])
    return table.astype(dtype)


class SinusoidalPositions(Module):
    """y = x + PE[positions]; nothing is trained, and nothing is in the state.

    Shapes: (B, T, dim) or (T, dim) → the same. Raises ValueError for another last axis and for a position ≥ max_length.
    """

    def __init__(self, max_length: int, dim: int, base: float = 10000.0):
        self.max_length, self.dim, self.base = max_length, dim, float(base)
        self.table = sinusoidal_table(max_length, dim, base, np.float64)

    def forward(self, x: Any, offset: int = 0, positions: Any = None) -> Tensor:
        """positions: (T,) or (B, T), by default 0 … T − 1; offset is added, as in decoding with a cache."""
        x = floating("SinusoidalPositions", x)
        if x.ndim not in (2, 3) or x.shape[-1] != self.dim:
            raise ValueError(f"{self!r} expected shape (B, T, {self.dim}) or (T, {self.dim}), got {x.shape}")
        batch = x.shape[0] if x.ndim == 3 else None
        where = numbered("SinusoidalPositions", positions, offset, batch, x.shape[-2], self.max_length)
        return x + self.table[where].astype(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.max_length}, {self.dim}, base={self.base}"
