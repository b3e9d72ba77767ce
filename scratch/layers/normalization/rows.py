"""How (N, C, *) lies in memory: what norms need of it is the sums of each channel, and a vector spread over channels.

A convolution leaves (N, H, W, C) memory, seen as (N, C, H, W). NumPy's inner loop runs over the last axis in memory,
and C = 16 numbers are too few to be fast. So the memory is read as rows of W·C or H·W·C numbers, and what belongs to a
channel is repeated W or H·W times; sums along a column are products with a vector of ones, which BLAS does fastest.
"""

from __future__ import annotations

import math

import numpy as np

from scratch.sums import LONG, column_dots, column_sums, row_dots, row_sums
from scratch.tensor import Array

LONGEST = 2**16  # numbers in a row: the repeated vectors must stay in the cache


def rows_of(x: Array, by_example: bool = False) -> ChannelsLast | ChannelsFirst:
    """The order of x (N, C, *) in memory; sums are (C,), over the whole batch, or (N, C), one for each example."""
    steps = [step for step, size in zip(x.strides[2:], x.shape[2:], strict=True) if size > 1]
    last = not steps or x.shape[1] > 1 and x.strides[1] < min(steps)
    return (ChannelsLast if last else ChannelsFirst)(x.shape, by_example)


class ChannelsFirst:
    """Memory (N, C, H, W): arrays (N, C, L) with L = H·W."""

    def __init__(self, shape: tuple[int, ...], by_example: bool):
        self.shape, self.by_example = shape, by_example
        self.length = math.prod(shape[2:])

    def view(self, x: Array) -> Array:
        """x in the shape to compute in: the same memory, or a copy if it lies in another order."""
        return x.reshape(*self.shape[:2], self.length)

    def restore(self, rows: Array) -> Array:
        """The way back from `view`."""
        return rows.reshape(self.shape)

    def spread(self, v: Array) -> Array:
        """A vector (C,) or (N, C), so that it broadcasts over `view`."""
        return v[..., None]

    def sum(self, rows: Array) -> Array:
        """Σ of each channel. Every example first, then their sums: one long float32 sum would lose digits."""
        return self._over_batch(rows @ np.ones(self.length, rows.dtype) if self.length < LONG else row_sums(rows))

    def dot(self, a: Array, b: Array) -> Array:
        """Σ a b of each channel, without the product in memory."""
        return self._over_batch(row_dots(a, b))

    def _over_batch(self, sums: Array) -> Array:
        return sums if self.by_example else column_sums(sums)


class ChannelsLast:
    """Memory (N, H, W, C): arrays (N, H, W·C), or (1, N, H·W·C) for sums over the whole batch of small images.

    A matrix (N, C) is (1, N, C).
    """

    def __init__(self, shape: tuple[int, ...], by_example: bool):
        N, C, *space = shape
        self.shape, self.by_example = shape, by_example
        positions = math.prod(space)
        if by_example:
            self.repeats = math.prod(space[1:])
            self.rows = (N, *space[:1], self.repeats * C) if space else (N, 1, C)
        elif positions * C <= LONGEST:
            self.repeats, self.rows = positions, (1, N, positions * C)
        else:
            self.repeats = math.prod(space[1:])
            self.rows = (N, space[0], self.repeats * C)

    def view(self, x: Array) -> Array:
        return np.moveaxis(x, 1, -1).reshape(self.rows)

    def restore(self, rows: Array) -> Array:
        N, C, *space = self.shape
        return np.moveaxis(rows.reshape(N, *space, C), -1, 1)

    def spread(self, v: Array) -> Array:
        tiled = np.tile(v, self.repeats)
        return tiled if v.ndim == 1 else tiled[:, None]

    def sum(self, rows: Array) -> Array:
        R = rows.shape[1]
        return self._fold(np.ones(R, rows.dtype) @ rows if R < LONG else column_sums(rows))

    def dot(self, a: Array, b: Array) -> Array:
        return self._fold(column_dots(a, b))

    def _fold(self, columns: Array) -> Array:
        """(M, W·C) → (M, C) → (C,): the columns of one channel added up."""
        C = self.shape[1]
        sums = np.ones(self.repeats, columns.dtype) @ columns.reshape(len(columns), self.repeats, C)
        return sums if self.by_example else column_sums(sums)
