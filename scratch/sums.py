"""Long sums of float32 in blocks, whose sums are added up in float64: the error grows with the longest chain.

NumPy adds pairwise, but only along the last axis in memory, and there slowly if rows are short. All else (einsum, sums
down the columns, products with ones) is one chain, or one for each lane of a vector.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray

BLOCK = 256
LONG = 2048  # numbers, from which on a chain is cut; up to there it costs about one digit of the last place


def row_sums(x: Array) -> Array:
    """Σ of each row: (..., n) → (...,). Over short rows einsum takes a third of the time of `sum`."""
    n = x.shape[-1]
    if n < LONG:
        return np.einsum("...n->...", x)
    whole = n - n % BLOCK
    blocks = x[..., :whole].reshape(*x.shape[:-1], n // BLOCK, BLOCK)
    sums = np.einsum("...n->...", blocks)
    return _total(sums, -1, np.einsum("...n->...", x[..., whole:]))


def row_dots(a: Array, b: Array) -> Array:
    """Σ a b of each row: (..., n), and b the same or (n,) → (...,)"""
    n = a.shape[-1]
    if n < 8 * LONG:  # BLAS runs 32 chains side by side
        return np.vecdot(a, b)
    whole = n - n % LONG
    blocks = (x[..., :whole].reshape(*x.shape[:-1], n // LONG, LONG) for x in (a, b))
    return _total(np.vecdot(*blocks), -1, np.vecdot(a[..., whole:], b[..., whole:]))


def column_sums(x: Array) -> Array:
    """Σ over the rows: (..., R, n) → (..., n)"""
    R, n = x.shape[-2:]
    if R < LONG:
        return np.einsum("...rn->...n", x)
    whole = R - R % BLOCK
    blocks = x[..., :whole, :].reshape(*x.shape[:-2], R // BLOCK, BLOCK, n)
    sums = np.matmul(np.ones(BLOCK, x.dtype), blocks)  # (..., R/BLOCK, n)
    return _total(sums, -2, np.einsum("...rn->...n", x[..., whole:, :]))


def column_dots(a: Array, b: Array) -> Array:
    """Σ a b over the rows: (..., R, n) → (..., n)"""
    R, n = a.shape[-2:]
    if R < 4 * LONG:  # blocks take a fifth longer here
        return np.einsum("...rn,...rn->...n", a, b)
    whole = R - R % BLOCK
    blocks = (x[..., :whole, :].reshape(*x.shape[:-2], R // BLOCK, BLOCK, n) for x in (a, b))
    sums = np.einsum("...rn,...rn->...n", *blocks)
    return _total(sums, -2, np.einsum("...rn,...rn->...n", a[..., whole:, :], b[..., whole:, :]))


def total(x: Array, axis: int | tuple[int, ...] | None, keepdims: bool) -> Array:
    """`x.sum(axis, keepdims)`, in blocks where a long axis other than the last is summed."""
    if not _is_long(x, axis):
        return x.sum(axis=axis, keepdims=keepdims)
    at = int(axis) % x.ndim  # type: ignore[arg-type]
    before, behind = x.shape[:at], x.shape[at + 1 :]
    columns = x.reshape(math.prod(before), x.shape[at], math.prod(behind))
    return column_sums(columns).reshape(before + (1,) * keepdims + behind)


def average(x: Array, axis: int | tuple[int, ...] | None, keepdims: bool) -> Array:
    """`x.mean(axis, keepdims)`, likewise."""
    if not _is_long(x, axis):
        return x.mean(axis=axis, keepdims=keepdims)
    return total(x, axis, keepdims) / x.shape[axis]  # type: ignore[index]


def _is_long(x: Array, axis: Any) -> bool:
    if not isinstance(axis, (int, np.integer)) or not -x.ndim <= axis < x.ndim - 1 or axis == -1:
        return False
    return x.shape[axis] >= LONG and x.dtype.kind == "f"


def _total(sums: Array, axis: int, rest: Array) -> Array:
    """The blocks' sums and that of the rest, together."""
    return (sums.sum(axis=axis, dtype=np.float64) + rest).astype(rest.dtype)
