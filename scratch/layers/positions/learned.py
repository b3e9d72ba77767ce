"""Learned positions: a row of numbers for every position, trained like the rows of an embedding."""

from __future__ import annotations

from typing import Any

from scratch.activations.elementwise import floating
from scratch.initializers import normal
from scratch.layers.embedding import embedding
from scratch.layers.positions.numbering import numbered
from scratch.module import Module
from scratch.tensor import Parameter, Tensor


class LearnedPositions(Module):
    """y = x + W[positions], W (max_length, dim) drawn from N(0, 1) as an embedding's rows are  (Gehring et al. 2017)

    Shapes: (B, T, dim) or (T, dim) → the same. Raises ValueError for another last axis and for a position ≥ max_length.
    """

    def __init__(self, max_length: int, dim: int):
        if max_length < 1 or dim < 1:
            raise ValueError(f"LearnedPositions expected sizes of at least 1, got {max_length} and {dim}")
        self.max_length, self.dim = max_length, dim
        self.weight = Parameter(normal((max_length, dim)))

    def forward(self, x: Any, offset: int = 0, positions: Any = None) -> Tensor:
        """positions: (T,) or (B, T), by default 0 … T − 1; offset is added, as in decoding with a cache."""
        x = floating("LearnedPositions", x)
        if x.ndim not in (2, 3) or x.shape[-1] != self.dim:
            raise ValueError(f"{self!r} expected shape (B, T, {self.dim}) or (T, {self.dim}), got {x.shape}")
        batch = x.shape[0] if x.ndim == 3 else None
        where = numbered("LearnedPositions", positions, offset, batch, x.shape[-2], self.max_length)
        return x + embedding(where, self.weight)

    def extra_repr(self) -> str:
        return f"{self.max_length}, {self.dim}"
